//! Where an answer goes.

use std::fmt;

/// The way back to whoever sent a command. An engine keeps it and hands it out again in an action; only effects
/// [`send`](Reply::send), so that no engine runs foreign code.
pub struct Reply<T>(Box<dyn FnOnce(T) + Send>);

impl<T> Reply<T> {
    /// `deliver` must neither block nor panic: it runs on the actor that answers.
    pub fn new(deliver: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(deliver))
    }

    /// Delivers the answer. Whether anybody still waits for it, is the other side's matter.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_answer_arrives() {
        let (tx, rx) = mpsc::channel();
        let reply = Reply::new(move |answer| tx.send(answer).unwrap());
        assert_eq!(format!("{reply:?}"), "Reply");
        reply.send(7);
        assert_eq!(rx.recv(), Ok(7));
    }
}
