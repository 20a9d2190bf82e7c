use std::{borrow::Borrow, fmt, sync::Arc};

/// The most bytes of a topic's name.
pub const MAX_TOPIC: usize = 256;

/// What messages are about: the name that subscribers share. 1 to [`MAX_TOPIC`] bytes. Cheap to clone.
///
/// ```
/// use peerage_pubsub::Topic;
///
/// let topic = Topic::new("weather")?;
/// assert_eq!(topic.as_str(), "weather");
/// assert!(Topic::new("").is_err());
/// assert!(Topic::new("x".repeat(257)).is_err());
/// # Ok::<(), peerage_pubsub::TopicError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a name is no topic's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic's name has 1 to {MAX_TOPIC} bytes, this one has {len}")]
pub struct TopicError {
    /// Its bytes.
    pub len: usize,
}

impl Topic {
    /// The topic of this name.
    ///
    /// # Errors
    /// [`TopicError`] if it is empty or too long.
    pub fn new(name: impl AsRef<str>) -> Result<Self, TopicError> {
        let name = name.as_ref();
        if !(1..=MAX_TOPIC).contains(&name.len()) {
            return Err(TopicError { len: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Topic {
    type Error = TopicError;

    fn try_from(name: &str) -> Result<Self, TopicError> {
        Self::new(name)
    }
}

impl TryFrom<String> for Topic {
    type Error = TopicError;

    fn try_from(name: String) -> Result<Self, TopicError> {
        Self::new(name)
    }
}

impl TryFrom<&Topic> for Topic {
    type Error = TopicError;

    fn try_from(topic: &Topic) -> Result<Self, TopicError> {
        Ok(topic.clone())
    }
}

/// A topic is found by its name: `Borrow` demands that both hash and order alike, and they do.
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
