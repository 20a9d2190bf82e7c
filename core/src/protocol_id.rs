//! Names of protocols, as multistream-select and identify carry them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// The most bytes a protocol's name may have.
pub const MAX_LEN: usize = 256;

/// The words that multistream-select gives a meaning of its own, which therefore name no protocol.
const RESERVED: [&str; 3] = ["/multistream/1.0.0", "na", "ls"];

/// The name of a protocol: 1 to [`MAX_LEN`] bytes of UTF-8 without a line feed, by custom `/name/version`.
///
/// Compares and hashes as its text, and lends itself as a `str`: a map keyed by it can be asked with a `&str`.
/// Cloning costs a counter at most.
///
/// ```
/// use peerage_core::ProtocolId;
///
/// const PING: ProtocolId = ProtocolId::from_static("/ipfs/ping/1.0.0");
/// assert_eq!(ProtocolId::new("/ipfs/ping/1.0.0")?, PING);
/// assert!(ProtocolId::new("").is_err());
/// # Ok::<(), peerage_core::protocol_id::Error>(())
/// ```
#[derive(Clone)]
pub struct ProtocolId(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

/// Why a text names no protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It has no characters.
    #[error("protocol name is empty")]
    Empty,
    /// It has more than [`MAX_LEN`] bytes.
    #[error("protocol name of {len} bytes, {MAX_LEN} allowed")]
    TooLong {
        /// Its bytes.
        len: usize,
    },
    /// It has a line feed, which ends a line of multistream-select.
    #[error("protocol name has a line feed")]
    LineFeed,
    /// It is a word of multistream-select itself: `na`, `ls` or `/multistream/1.0.0`.
    #[error("protocol name is a word of multistream-select")]
    Reserved,
}

impl ProtocolId {
    /// Takes a name that is known only when the program runs.
    ///
    /// # Errors
    ///
    /// When it is empty, too long, has a line feed, or is a word of multistream-select.
    pub fn new(name: impl Into<Arc<str>> + AsRef<str>) -> Result<ProtocolId, Error> {
        // Before `into`, which would copy what is going to be refused.
        check(name.as_ref())?;
        Ok(ProtocolId(Text::Shared(name.into())))
    }

    /// Takes a name that stands in the program.
    ///
    /// # Panics
    ///
    /// When it names no protocol; in a `const` that is a compile error.
    pub const fn from_static(name: &'static str) -> ProtocolId {
        assert!(check(name).is_ok(), "not a protocol name");
        ProtocolId(Text::Static(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Static(name) => name,
            Text::Shared(name) => name,
        }
    }
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "const loops below the length")]
const fn check(name: &str) -> Result<(), Error> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    if bytes.len() > MAX_LEN {
        return Err(Error::TooLong { len: bytes.len() });
    }
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\n' {
            return Err(Error::LineFeed);
        }
        at += 1;
    }
    let mut word = 0;
    while word < RESERVED.len() {
        if same(bytes, RESERVED[word].as_bytes()) {
            return Err(Error::Reserved);
        }
        word += 1;
    }
    Ok(())
}

/// `==`, which is not const yet.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "const loop below the length")]
const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

impl PartialEq for ProtocolId {
    fn eq(&self, other: &ProtocolId) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for ProtocolId {}

impl PartialOrd for ProtocolId {
    fn partial_cmp(&self, other: &ProtocolId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ProtocolId {
    fn cmp(&self, other: &ProtocolId) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for ProtocolId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for ProtocolId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for ProtocolId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for ProtocolId {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for ProtocolId {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ProtocolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for ProtocolId {
    type Err = Error;

    fn from_str(name: &str) -> Result<ProtocolId, Error> {
        ProtocolId::new(name)
    }
}

impl TryFrom<&str> for ProtocolId {
    type Error = Error;

    fn try_from(name: &str) -> Result<ProtocolId, Error> {
        ProtocolId::new(name)
    }
}

impl TryFrom<String> for ProtocolId {
    type Error = Error;

    fn try_from(name: String) -> Result<ProtocolId, Error> {
        ProtocolId::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeSet, HashSet};

    #[test]
    fn length_one_to_256() {
        assert_eq!(ProtocolId::new(""), Err(Error::Empty));
        assert!(ProtocolId::new("x").is_ok());
        assert!(ProtocolId::new("x".repeat(MAX_LEN)).is_ok());
        assert_eq!(ProtocolId::new("x".repeat(MAX_LEN + 1)), Err(Error::TooLong { len: MAX_LEN + 1 }));
    }

    #[test]
    fn what_multistream_would_misread() {
        assert_eq!(ProtocolId::new("/a\n/b"), Err(Error::LineFeed));
        for word in RESERVED {
            assert_eq!(ProtocolId::new(word), Err(Error::Reserved));
        }
        assert!(ProtocolId::new("/na").is_ok());
    }

    #[test]
    fn static_and_shared_are_the_same_name() {
        const STATIC: ProtocolId = ProtocolId::from_static("/x/1");
        let shared: ProtocolId = "/x/1".parse().unwrap();
        assert_eq!(STATIC, shared);
        assert_eq!(STATIC.cmp(&shared), Ordering::Equal);
        assert!(HashSet::from([STATIC]).contains("/x/1"));
        assert!(BTreeSet::from([shared]).contains("/x/1"));
    }
}
