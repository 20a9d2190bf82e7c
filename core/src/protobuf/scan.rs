use super::{Error, Fields, Value, fields};

/// The most rules of one [`Limits`]: their counters live on the stack.
pub const MAX_RULES: usize = 32;

/// How deep a rule's path may reach.
pub const MAX_DEPTH: usize = 6;

/// What a message may hold. Made in a `const`, so that a table that is too large does not compile.
///
/// ```
/// use peerage_core::protobuf::{Limits, Rule, scan};
///
/// /// At most 4 KiB, 100 fields, ten of field 2 with 256 bytes each, and 20 of field 1 inside all of field 3.
/// const LIMITS: Limits = Limits::new(
///     4096,
///     100,
///     &[Rule::new(&[2], 10).max_len(256), Rule::new(&[3, 1], 20)],
/// );
///
/// assert!(scan(&[0x12, 0x01, 0x61], &LIMITS).is_ok());
/// assert!(scan(&[0x12, 0x00].repeat(11), &LIMITS).is_err());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    bytes: usize,
    fields: usize,
    rules: &'a [Rule<'a>],
}

/// What one field may be, wherever it is found.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    path: &'a [u32],
    count: usize,
    len: usize,
}

/// Why a message is refused before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// It is not protobuf.
    #[error(transparent)]
    Malformed(#[from] Error),
    /// It is longer than allowed.
    #[error("message of {len} bytes, {max} allowed")]
    TooLong {
        /// Bytes of the message.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// It has more fields, nested ones that were looked at included, than allowed.
    #[error("more than {max} fields")]
    TooManyFields {
        /// Fields allowed.
        max: usize,
    },
    /// One field is there more often than allowed.
    #[error("more than {max} of field {number}, at byte {at}")]
    TooManyOf {
        /// The field's number, the last of the rule's path.
        number: u32,
        /// How often it is allowed in the whole message.
        max: usize,
        /// Where the one too many starts.
        at: usize,
    },
    /// One field's bytes are more than allowed.
    #[error("field {number} of {len} bytes, {max} allowed, at byte {at}")]
    FieldTooLong {
        /// The field's number, the last of the rule's path.
        number: u32,
        /// Its bytes.
        len: usize,
        /// Bytes allowed.
        max: usize,
        /// Where it starts.
        at: usize,
    },
}

impl<'a> Limits<'a> {
    /// At most `bytes` in length and `fields` in number; `rules` for single fields. A field without a rule is only
    /// counted in `fields`, and is not looked into.
    ///
    /// # Panics
    ///
    /// With more than [`MAX_RULES`] rules, or a path that is empty or longer than [`MAX_DEPTH`]; in a `const` that is
    /// a compile error.
    #[allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "const loop below the length"
    )]
    pub const fn new(bytes: usize, fields: usize, rules: &'a [Rule<'a>]) -> Limits<'a> {
        assert!(rules.len() <= MAX_RULES, "too many rules");
        let mut at = 0;
        while at < rules.len() {
            assert!(
                !rules[at].path.is_empty() && rules[at].path.len() <= MAX_DEPTH,
                "path empty or too deep"
            );
            at += 1;
        }
        Limits { bytes, fields, rules }
    }
}

impl<'a> Rule<'a> {
    /// The field at `path` (numbers from the outermost message inwards) may be there `count` times, in all of the
    /// message together.
    pub const fn new(path: &'a [u32], count: usize) -> Rule<'a> {
        Rule { path, count, len: usize::MAX }
    }

    /// And each may have at most `len` bytes.
    pub const fn max_len(self, len: usize) -> Rule<'a> {
        Rule { len, ..self }
    }

    /// Whether the field at `path` has to be entered to find this rule's.
    fn is_below(&self, path: &[u32]) -> bool {
        self.path.len() > path.len() && self.path.starts_with(path)
    }
}

/// Walks `message` once and holds it against `limits`, without allocating and without recursion.
///
/// Empty fields count like any other: thousands of empty entries are a cheap way to make a decoder allocate.
///
/// # Errors
///
/// The first limit that is broken, or the first field that is malformed; a field that is not entered is checked for
/// its length only.
pub fn scan(message: &[u8], limits: &Limits<'_>) -> Result<(), ScanError> {
    if message.len() > limits.bytes {
        return Err(ScanError::TooLong { len: message.len(), max: limits.bytes });
    }
    let mut counts = [0_usize; MAX_RULES];
    let mut seen = 0_usize;
    let mut path = Path::default();
    let mut outer: [Option<Fields<'_>>; MAX_DEPTH] = [None; MAX_DEPTH];
    let mut current = fields(message);

    loop {
        let at = current.position();
        let Some(field) = current.next() else {
            // Back to the message around this one, if there is one.
            path.pop();
            match outer.get_mut(path.len).and_then(Option::take) {
                Some(fields) => current = fields,
                None => return Ok(()),
            }
            continue;
        };
        let field = field?;
        seen = seen.saturating_add(1);
        if seen > limits.fields {
            return Err(ScanError::TooManyFields { max: limits.fields });
        }

        path.push(field.number);
        let mut enter = false;
        for (rule, count) in limits.rules.iter().zip(&mut counts) {
            enter |= rule.is_below(path.numbers());
            if rule.path == path.numbers() {
                *count = count.saturating_add(1);
                rule.check(*count, &field.value, at)?;
            }
        }
        match (field.value, outer.get_mut(path.len.saturating_sub(1))) {
            (Value::Bytes(inner), Some(slot)) if enter => {
                let start = current.position().saturating_sub(inner.len());
                *slot = Some(current);
                current = fields(inner).starting_at(start);
            }
            _ => path.pop(),
        }
    }
}

impl Rule<'_> {
    fn check(&self, count: usize, value: &Value<'_>, at: usize) -> Result<(), ScanError> {
        let number = self.path.last().copied().unwrap_or_default();
        if count > self.count {
            return Err(ScanError::TooManyOf { number, max: self.count, at });
        }
        match value {
            Value::Bytes(bytes) if bytes.len() > self.len => {
                Err(ScanError::FieldTooLong { number, len: bytes.len(), max: self.len, at })
            }
            _ => Ok(()),
        }
    }
}

/// The numbers of the fields that are being looked into, outermost first.
#[derive(Default)]
struct Path {
    numbers: [u32; MAX_DEPTH],
    len: usize,
}

impl Path {
    fn push(&mut self, number: u32) {
        if let Some(slot) = self.numbers.get_mut(self.len) {
            *slot = number;
        }
        self.len = self.len.saturating_add(1);
    }

    fn pop(&mut self) {
        self.len = self.len.saturating_sub(1);
    }

    fn numbers(&self) -> &[u32] {
        self.numbers.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, put_bytes, put_varint};
    use super::*;
    use proptest::prelude::*;

    fn message<B: AsRef<[u8]>>(parts: &[(u32, B)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, bytes) in parts {
            put_bytes(*number, bytes.as_ref(), &mut out);
        }
        out
    }

    #[test]
    fn total_length_and_total_fields() {
        let four = message(&[(1, b""); 4]);
        assert_eq!(scan(&four, &Limits::new(8, 4, &[])), Ok(()));
        assert_eq!(scan(&four, &Limits::new(7, 4, &[])), Err(ScanError::TooLong { len: 8, max: 7 }));
        assert_eq!(scan(&four, &Limits::new(8, 3, &[])), Err(ScanError::TooManyFields { max: 3 }));
    }

    #[test]
    fn counts_and_lengths_of_one_field() {
        const LIMITS: Limits = Limits::new(100, 100, &[Rule::new(&[2], 2).max_len(3)]);
        assert_eq!(scan(&message(&[(2, "abc"), (1, "long enough"), (2, "")]), &LIMITS), Ok(()));
        assert_eq!(
            scan(&message(&[(2, b""); 3]), &LIMITS),
            Err(ScanError::TooManyOf { number: 2, max: 2, at: 4 })
        );
        assert_eq!(
            scan(&message(&[(2, b"abcd")]), &LIMITS),
            Err(ScanError::FieldTooLong { number: 2, len: 4, max: 3, at: 0 })
        );
    }

    #[test]
    fn nested_counts_are_over_the_whole_message() {
        const LIMITS: Limits = Limits::new(200, 100, &[Rule::new(&[3, 1, 2], 3)]);
        let ids = message(&[(2, b"id"), (2, b"id")]);
        let control = message(&[(1, &ids)]);
        assert_eq!(scan(&message(&[(3, &control)]), &LIMITS), Ok(()));
        let twice = message(&[(3, &control), (3, &control)]);
        assert_eq!(scan(&twice, &LIMITS), Err(ScanError::TooManyOf { number: 2, max: 3, at: 20 }));
        // The same numbers on another path do not count.
        assert_eq!(scan(&message(&[(1, &control), (1, &control)]), &LIMITS), Ok(()));
    }

    #[test]
    fn after_a_nested_message_the_outer_one_goes_on() {
        const LIMITS: Limits = Limits::new(200, 100, &[Rule::new(&[1, 1], 9), Rule::new(&[2], 1)]);
        let inner = message(&[(1, b"x")]);
        let outer = message(&[(1, &inner[..]), (2, b""), (1, &inner), (2, b"")]);
        assert_eq!(scan(&outer, &LIMITS), Err(ScanError::TooManyOf { number: 2, max: 1, at: 12 }));
    }

    #[test]
    fn malformed_inside_is_found_only_where_a_rule_looks() {
        const LOOKS: Limits = Limits::new(200, 100, &[Rule::new(&[1, 1], 9)]);
        const BLIND: Limits = Limits::new(200, 100, &[]);
        let outer = message(&[(2, &b"ok"[..]), (1, &[0x0b])]);
        let group = Error { at: 6, kind: ErrorKind::Group };
        assert_eq!(scan(&outer, &LOOKS), Err(ScanError::Malformed(group)));
        assert_eq!(scan(&outer, &BLIND), Ok(()));
    }

    #[test]
    fn the_deepest_path() {
        let mut bytes = Vec::new();
        put_varint(7, 1, &mut bytes);
        for _ in 1..MAX_DEPTH {
            bytes = message(&[(7, &bytes)]);
        }
        let one = [Rule::new(&[7; MAX_DEPTH], 1)];
        let none = [Rule::new(&[7; MAX_DEPTH], 0)];
        assert_eq!(scan(&bytes, &Limits::new(100, 6, &one)), Ok(()));
        assert!(matches!(
            scan(&bytes, &Limits::new(100, 6, &none)),
            Err(ScanError::TooManyOf { max: 0, .. })
        ));
        assert_eq!(scan(&bytes, &Limits::new(100, 5, &one)), Err(ScanError::TooManyFields { max: 5 }));
    }

    #[test]
    #[should_panic(expected = "too deep")]
    fn a_path_deeper_than_the_stack() {
        let _ = Limits::new(1, 1, &[Rule::new(&[7; MAX_DEPTH + 1], 1)]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes: Vec<u8>) {
            let rules = [Rule::new(&[1], 9), Rule::new(&[1, 1], 9), Rule::new(&[1, 2, 3], 9), Rule::new(&[2, 1], 3)];
            let _ = scan(&bytes, &Limits::new(1000, 1000, &rules));
        }
    }
}
