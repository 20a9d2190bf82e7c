//! Messages that are counted: every subscriber gets each once, or the measure has failed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use super::Taken;
use crate::{Error, Result};

/// A number and a time, of eight bytes each, before what fills a message up.
const HEAD: usize = 16;
/// How long a message may take until all have it. What is later is lost.
const LOST: Duration = Duration::from_secs(30);

/// What is under way: at most as many messages as there are slots, each in the slot of its number. Cheap to clone.
#[derive(Clone)]
pub(super) struct Board(Arc<Inner>);

struct Inner {
    /// How many subscribers have not got the message that is in it.
    slots: Vec<AtomicUsize>,
    subscribers: Vec<Mutex<Told>>,
    /// A message has come to all.
    through: Notify,
    /// What begins now counts.
    counts: AtomicBool,
    began: Instant,
}

/// What one subscriber was told.
#[derive(Default)]
struct Told {
    /// The numbers that it was told, each once.
    numbers: Vec<bool>,
    /// How long each took that counts.
    times: Vec<Duration>,
    wrong: Option<String>,
}

impl Board {
    /// For so many subscribers, and so many messages at once.
    pub(super) fn new(subscribers: usize, window: usize) -> Self {
        Self(Arc::new(Inner {
            slots: (0..window).map(|_| AtomicUsize::new(0)).collect(),
            subscribers: (0..subscribers).map(|_| Mutex::default()).collect(),
            through: Notify::new(),
            counts: AtomicBool::new(false),
            began: Instant::now(),
        }))
    }

    /// What a subscriber does with a message.
    pub(super) fn taken(&self, subscriber: usize) -> Taken {
        let board = self.clone();
        Box::new(move |data| board.take(subscriber, data))
    }

    fn take(&self, subscriber: usize, data: &[u8]) {
        let Some(told) = self.0.subscribers.get(subscriber) else { return };
        let mut told = lock(told);
        let Some((number, sent)) = read(data) else {
            told.wrong = Some("a message without a head".to_owned());
            return;
        };
        if !told.enter(number) {
            told.wrong = Some(format!("message {number} came twice"));
            return;
        }
        if self.0.counts.load(Ordering::Relaxed) {
            told.times.push(self.0.began.elapsed().saturating_sub(sent));
        }
        drop(told);
        let left = self.slot(number).map(|slot| slot.fetch_sub(1, Ordering::AcqRel));
        if left == Some(1) {
            self.0.through.notify_one();
        }
    }

    fn slot(&self, number: usize) -> Option<&AtomicUsize> {
        self.0.slots.get(number.checked_rem(self.0.slots.len())?)
    }

    /// Waits for room, and gives the next message, of so many bytes.
    pub(super) async fn next(&self, number: usize, size: usize) -> Result<Vec<u8>> {
        let Some(slot) = self.slot(number) else { return Err(Error::Failed("no slots".to_owned())) };
        self.wait(|| slot.load(Ordering::Acquire) == 0).await?;
        slot.store(self.0.subscribers.len(), Ordering::Release);
        let mut data = vec![0; size.max(HEAD)];
        let nanos = u64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let head = (number as u64).to_be_bytes().into_iter().chain(nanos.to_be_bytes());
        data.iter_mut().zip(head).for_each(|(byte, head)| *byte = head);
        Ok(data)
    }

    /// Waits until all have all.
    pub(super) async fn drained(&self) -> Result<()> {
        self.wait(|| self.0.slots.iter().all(|slot| slot.load(Ordering::Acquire) == 0)).await
    }

    async fn wait(&self, until: impl Fn() -> bool) -> Result<()> {
        while !until() {
            let told = timeout(LOST, self.0.through.notified()).await;
            if told.is_err() && !until() {
                let wrong = self.0.subscribers.iter().find_map(|told| lock(told).wrong.clone());
                return Err(Error::Failed(wrong.unwrap_or_else(|| "a message was lost".to_owned())));
            }
        }
        Ok(())
    }

    /// What is published from now on counts.
    pub(super) fn count(&self) {
        self.0.counts.store(true, Ordering::Relaxed);
    }

    /// How long each delivery took that counts, if everybody was told all of so many messages, and each once.
    pub(super) fn times(&self, messages: usize) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for told in &self.0.subscribers {
            let told = lock(told);
            if let Some(wrong) = &told.wrong {
                return Err(Error::Failed(wrong.clone()));
            }
            let got = told.numbers.iter().filter(|there| **there).count();
            if got != messages || told.numbers.len() != messages {
                return Err(Error::Failed(format!("{got} of {messages} messages came to a subscriber")));
            }
            times.extend_from_slice(&told.times);
        }
        Ok(times)
    }
}

impl Told {
    /// Whether it is there for the first time.
    fn enter(&mut self, number: usize) -> bool {
        if self.numbers.len() <= number {
            self.numbers.resize(number.saturating_add(1), false);
        }
        self.numbers.get_mut(number).is_some_and(|there| !std::mem::replace(there, true))
    }
}

fn read(data: &[u8]) -> Option<(usize, Duration)> {
    let (number, rest) = data.split_first_chunk::<8>()?;
    let (nanos, _) = rest.split_first_chunk::<8>()?;
    let number = usize::try_from(u64::from_be_bytes(*number)).ok()?;
    Some((number, Duration::from_nanos(u64::from_be_bytes(*nanos))))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_told_everything_once() {
        let board = Board::new(2, 2);
        let mut taken = [board.taken(0), board.taken(1)];
        board.count();
        let messages = [board.next(0, 100).await.unwrap(), board.next(1, 100).await.unwrap()];
        assert!(messages.iter().all(|message| message.len() == 100));
        assert!(timeout(Duration::from_millis(1), board.next(2, 100)).await.is_err(), "no room");
        for taken in &mut taken {
            // In any order.
            taken(&messages[1]);
            taken(&messages[0]);
        }
        board.drained().await.unwrap();
        assert_eq!(board.times(2).unwrap().len(), 4);
        assert!(board.times(3).is_err(), "one is missing");
        taken[0](&messages[1]);
        assert!(board.times(2).is_err(), "one came twice");
    }
}
