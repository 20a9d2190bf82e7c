use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Context,
};

use bytes::Bytes;
use futures::task::AtomicWaker;

use super::Kind;

/// Datagrams that wait for a [`Receiver`](super::Receiver) at most.
pub const MAX_QUEUED: usize = 1024;

/// Bytes in them, at most: 1 MiB.
pub const MAX_QUEUED_BYTES: usize = 1024 * 1024;

/// A datagram that is not QUIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// STUN or DTLS, by its first byte alone: nothing else was looked at.
    pub kind: Kind,
    /// What is in it, at least one byte.
    pub bytes: Bytes,
    /// Who sent it, or who is said to have: nothing proves it.
    pub source: SocketAddr,
    /// The address that it was sent to; on a wildcard socket the one of the interface, where the system tells.
    pub local: SocketAddr,
}

/// What waits for the receiver. It takes until it is full; what comes then is lost, as on a network that is.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The receiver.
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    /// Whether somebody is there to receive.
    open: bool,
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    Full,
    NobodyThere,
}

impl Queue {
    /// For one receiver at a time: `false` if there is one.
    pub(super) fn open(&self) -> bool {
        !std::mem::replace(&mut self.lock().open, true)
    }

    pub(super) fn close(&self) {
        *self.lock() = State::default();
    }

    pub(super) fn push(&self, datagram: impl FnOnce() -> Datagram, len: usize) -> Pushed {
        let mut state = self.lock();
        if !state.open {
            return Pushed::NobodyThere;
        }
        let bytes = state.bytes.saturating_add(len);
        if state.datagrams.len() >= MAX_QUEUED || bytes > MAX_QUEUED_BYTES {
            return Pushed::Full;
        }
        state.bytes = bytes;
        state.datagrams.push_back(datagram());
        drop(state);
        self.waker.wake();
        Pushed::Queued
    }

    pub(super) fn pop(&self) -> Option<Datagram> {
        let mut state = self.lock();
        let datagram = state.datagrams.pop_front()?;
        state.bytes = state.bytes.saturating_sub(datagram.bytes.len());
        Some(datagram)
    }

    /// To be woken when there is something, or when the receiver has to look after the socket itself.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change has a middle in which something could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &Queue, len: usize) -> Pushed {
        let local: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let bytes = Bytes::from(vec![0; len]);
        queue.push(|| Datagram { kind: Kind::Stun, bytes, source: local, local }, len)
    }

    #[test]
    fn it_takes_its_number_and_not_one_more() {
        let queue = Queue::default();
        assert_eq!(push(&queue, 1), Pushed::NobodyThere);
        assert!(queue.open() && !queue.open());
        assert!((0..MAX_QUEUED).all(|_| push(&queue, 1) == Pushed::Queued));
        assert_eq!(push(&queue, 1), Pushed::Full);
        queue.pop().expect("one");
        assert_eq!(push(&queue, 1), Pushed::Queued);
        queue.close();
        assert!(queue.open() && queue.pop().is_none(), "what waited for the former receiver is gone");
    }

    #[test]
    fn it_takes_its_bytes_and_not_one_more() {
        let queue = Queue::default();
        queue.open();
        assert_eq!(push(&queue, MAX_QUEUED_BYTES - 10), Pushed::Queued);
        assert_eq!(push(&queue, 11), Pushed::Full);
        assert_eq!(push(&queue, 10), Pushed::Queued);
        assert_eq!(push(&queue, 1), Pushed::Full);
        queue.pop().expect("the long one");
        assert_eq!(push(&queue, MAX_QUEUED_BYTES - 10), Pushed::Queued);
    }
}
