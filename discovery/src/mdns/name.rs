use std::fmt;

/// Bytes of a name on the wire, the lengths of its labels and the root included (RFC 1035, 3.1).
pub(crate) const MAX_NAME: usize = 255;
/// Bytes of one label.
pub(crate) const MAX_LABEL: usize = 63;

/// A name in the form of the wire, uncompressed, in lower case: `\x04_p2p\x04_udp\x05local\0`. Names differ in more than
/// case only by their labels, so that two of them are compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// Of labels, the first one first; `None` if one is empty or too long, or all of them are.
    pub(crate) fn new<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut name = Self(Vec::new());
        labels.into_iter().try_for_each(|label| name.push(label))?;
        name.0.push(0);
        Some(name)
    }

    /// Adds a label to a name that has no end yet.
    pub(super) fn push(&mut self, label: &[u8]) -> Option<()> {
        let length = u8::try_from(label.len()).ok().filter(|_| (1..=MAX_LABEL).contains(&label.len()))?;
        // With the root, which ends it.
        let total = self.0.len().saturating_add(label.len()).saturating_add(2);
        if total > MAX_NAME {
            return None;
        }
        self.0.push(length);
        self.0.extend(label.iter().map(u8::to_ascii_lowercase));
        Some(())
    }

    /// The name `label.self`.
    pub(crate) fn child(&self, label: &str) -> Option<Self> {
        Self::new(std::iter::once(label.as_bytes()).chain(self.labels()))
    }

    /// Whether it is `label.parent`, for whatever label.
    pub(crate) fn is_child_of(&self, parent: &Self) -> bool {
        let below = self.0.first().and_then(|length| self.0.get(usize::from(*length).saturating_add(1)..));
        below == Some(&parent.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first().filter(|(length, _)| **length != 0)?;
            let (label, after) = after.split_at_checked((*length).into())?;
            rest = after;
            Some(label)
        })
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labels().try_for_each(|label| write!(f, "{}.", label.escape_ascii()))
    }
}

/// A name that is being read.
#[derive(Default)]
pub(super) struct Builder(Option<Name>);

impl Builder {
    pub(super) fn push(&mut self, label: &[u8]) -> Option<()> {
        self.0.get_or_insert_with(|| Name(Vec::new())).push(label)
    }

    pub(super) fn finish(self) -> Name {
        let mut name = self.0.unwrap_or_else(|| Name(Vec::new()));
        name.0.push(0);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_names_have_their_lengths() {
        let label = vec![b'a'; MAX_LABEL];
        assert!(Name::new([&label[..]]).is_some());
        assert!(Name::new([&vec![b'a'; MAX_LABEL + 1][..]]).is_none());
        assert!(Name::new([&b""[..]]).is_none());
        // Three of 64 bytes, one of 62, and the root.
        let last = vec![b'a'; 61];
        let longest = [&label[..], &label, &label, &last];
        assert_eq!(Name::new(longest).unwrap().as_bytes().len(), MAX_NAME);
        let longer = vec![b'a'; 62];
        assert!(Name::new([&label[..], &label, &label, &longer]).is_none());
    }

    #[test]
    fn case_does_not_matter() {
        let (upper, lower) = (Name::new([&b"_P2P"[..], b"Local"]), Name::new([&b"_p2p"[..], b"local"]));
        assert_eq!(upper, lower);
        assert_eq!(format!("{:?}", upper.unwrap()), "_p2p.local.");
    }

    #[test]
    fn children() {
        let parent = Name::new([&b"_p2p"[..], b"local"]).unwrap();
        let child = parent.child("abc").unwrap();
        assert!(child.is_child_of(&parent) && !parent.is_child_of(&parent) && !parent.is_child_of(&child));
        assert!(!child.child("d").unwrap().is_child_of(&parent));
    }
}
