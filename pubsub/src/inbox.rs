use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::task::coop::cooperative;

use crate::{message::Message, partial::Received};

/// Room that is kept for messages when all were read; a burst's is given back.
const KEPT: usize = 64;

/// What a subscriber gets.
pub(crate) trait Item: Clone {
    /// What of it a peer has sent, in bytes.
    fn len(&self) -> usize;
}

impl Item for Message {
    fn len(&self) -> usize {
        self.data.len()
    }
}

impl Item for Received {
    fn len(&self) -> usize {
        let bytes = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
        bytes(&self.parts).saturating_add(bytes(&self.metadata)).saturating_add(self.group.len())
    }
}

/// The messages that one subscriber has not read yet. It takes no memory while there are none, for a node may have
/// thousands of quiet topics.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    max_messages: usize,
    max_bytes: usize,
    unread: Mutex<Unread<T>>,
}

#[derive(Debug)]
struct Unread<T> {
    messages: VecDeque<T>,
    /// What they say, in bytes.
    bytes: usize,
    /// Messages that had no room.
    missed: u64,
    /// The reader, if it waits.
    reader: Option<Waker>,
}

impl<T: Item> Inbox<T> {
    /// For so many messages, and so many bytes of them; one always fits.
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Self {
        let unread = Unread { messages: VecDeque::new(), bytes: 0, missed: 0, reader: None };
        Self { max_messages, max_bytes, unread: Mutex::new(unread) }
    }

    /// Adds a message, if there is room.
    pub(crate) fn give(&self, message: &T) -> bool {
        let mut unread = self.lock();
        let bytes = unread.bytes.saturating_add(message.len());
        let full = unread.messages.len() >= self.max_messages || bytes > self.max_bytes;
        if full && !unread.messages.is_empty() {
            unread.missed = unread.missed.saturating_add(1);
            return false;
        }
        unread.bytes = bytes;
        unread.messages.push_back(message.clone());
        let reader = unread.reader.take();
        drop(unread);
        reader.into_iter().for_each(Waker::wake);
        true
    }

    /// The next message. There is one reader at a time.
    pub(crate) async fn next(&self) -> T {
        // Who reads without a pause lets others have their turn now and then.
        cooperative(poll_fn(|cx| self.poll_next(cx))).await
    }

    fn poll_next(&self, cx: &Context<'_>) -> Poll<T> {
        let mut unread = self.lock();
        match unread.pop() {
            Some(message) => Poll::Ready(message),
            None => {
                unread.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next message, if there is one now.
    pub(crate) fn try_next(&self) -> Option<T> {
        self.lock().pop()
    }

    /// How many were missed since this was asked the last time.
    pub(crate) fn missed(&self) -> u64 {
        std::mem::take(&mut self.lock().missed)
    }

    fn lock(&self) -> MutexGuard<'_, Unread<T>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Item> Unread<T> {
    fn pop(&mut self) -> Option<T> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        if self.messages.is_empty() && self.messages.capacity() > KEPT {
            self.messages = VecDeque::new();
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use peerage_core::Keypair;

    use super::*;
    use crate::{message::MessageId, topic::Topic};

    fn message(len: usize) -> Message {
        let received_from = Keypair::from_ed25519_seed([1; 32]).peer_id();
        Message {
            id: MessageId::new([1]).unwrap(),
            topic: Topic::new("t").unwrap(),
            data: Bytes::from(vec![0; len]),
            author: None,
            sequence: None,
            received_from,
        }
    }

    #[test]
    fn messages_and_bytes_are_bounded_but_one_always_fits() {
        let inbox = Inbox::new(2, 100);
        assert!(inbox.give(&message(101)));
        assert!(!inbox.give(&message(0)), "no bytes are left, not even for none");
        assert!(inbox.try_next().is_some());
        assert!(inbox.give(&message(60)) && inbox.give(&message(40)));
        assert!(!inbox.give(&message(0)), "a third");
        assert!(inbox.try_next().is_some());
        assert!(!inbox.give(&message(61)));
        assert!(inbox.give(&message(60)));
        assert_eq!((inbox.missed(), inbox.missed()), (3, 0));
        assert_eq!(std::iter::from_fn(|| inbox.try_next()).count(), 2);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let inbox = Arc::new(Inbox::new(1000, 1000));
        let reader = inbox.clone();
        let reading = tokio::spawn(async move { reader.next().await });
        // It runs until it waits.
        tokio::task::yield_now().await;
        assert!(inbox.lock().reader.is_some());
        assert!(inbox.give(&message(1)));
        assert_eq!(reading.await.unwrap().data.len(), 1);
    }

    #[test]
    fn the_room_of_a_burst_is_given_back() {
        let inbox = Inbox::new(1000, 1000);
        (0..=KEPT).for_each(|_| assert!(inbox.give(&message(1))));
        while inbox.try_next().is_some() {}
        assert_eq!(inbox.lock().messages.capacity(), 0);
    }
}
