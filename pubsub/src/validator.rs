use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::message::Message;

/// What a validator says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Verdict {
    /// It is given to subscribers and sent on.
    Accept,
    /// It is not, and who sent it should not have.
    Reject,
    /// It is not, and that is nobody's fault.
    Ignore,
}

/// How much a topic's validator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidateOptions {
    /// How many messages it looks at at once; more are ignored and counted. Default: 256.
    pub concurrency: usize,
    /// How long it may take for one; then that is ignored. Default: 5 s.
    pub timeout: Duration,
}

impl Default for ValidateOptions {
    fn default() -> Self {
        Self { concurrency: 256, timeout: Duration::from_secs(5) }
    }
}

impl ValidateOptions {
    /// Sets how many messages it looks at at once.
    #[must_use]
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages;
        self
    }

    /// Sets how long it may take for one.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// Looks at messages before they go anywhere.
#[derive(Clone)]
pub(crate) struct Validator {
    pub(crate) options: ValidateOptions,
    pub(crate) judge: Arc<dyn Fn(Message) -> Judging + Send + Sync>,
}

pub(crate) type Judging = Pin<Box<dyn Future<Output = Verdict> + Send>>;

impl Validator {
    pub(crate) fn new<F>(
        options: ValidateOptions,
        judge: impl Fn(Message) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Verdict> + Send + 'static,
    {
        Self { options, judge: Arc::new(move |message| Box::pin(judge(message))) }
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validator").field("options", &self.options).finish_non_exhaustive()
    }
}
