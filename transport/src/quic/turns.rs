//! Who may write next, when there is not room for everybody.
//!
//! quinn keeps one bounded buffer for all streams of a connection. When there is room in it again it wakes all who wait,
//! the last one first, and whoever comes first takes all of it: a few streams would share a connection among
//! themselves, and others not move at all. So whoever finds no room draws a ticket; once there is room, those that were
//! called go in the order of their tickets, and each writes a limited amount before it draws the next.
//!
//! That a stream finds no room may also be its own peer's doing, who does not read it. Such a stream is not called, and
//! nobody waits for it. One that is called and does not come is not waited for long.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

/// Bytes that a stream writes in its turn, while others wait: 32 KiB.
pub(super) const TURN: usize = 32 * 1024;

type Ticket = u64;

/// Of one connection.
#[derive(Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    /// Tickets that are drawn, to be looked at without the lock.
    drawn: AtomicUsize,
}

/// A stream's place in it.
#[derive(Default)]
pub(super) struct Place {
    /// Kept until its turn is over, so that whoever could not finish it is the first again.
    ticket: Option<Ticket>,
    waits: bool,
    /// Bytes of a turn that has begun, which it has not written for lack of room or since it had no more.
    left: usize,
    call: Option<Arc<Call>>,
}

impl Place {
    fn draw(&mut self, queue: &mut Queue) -> Ticket {
        let ticket = *self.ticket.get_or_insert_with(|| queue.next());
        self.waits = true;
        queue.drawn.insert(ticket);
        ticket
    }

    fn left(&self) -> usize {
        if self.left == 0 { TURN } else { self.left }
    }
}

impl Turns {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue();
        let result = act(&mut queue);
        let next = queue.next_behind();
        self.drawn.store(queue.drawn.len(), Ordering::Release);
        drop(queue);
        if let Some(next) = next {
            next.wake();
        }
        result
    }

    /// How many bytes the stream may write now. `None` if it is somebody else's turn: it is woken when it is not any more,
    /// and `watch` is called if nobody watched until now.
    pub(super) fn turn(&self, place: &mut Place, waker: &Waker, watch: impl FnOnce()) -> Option<usize> {
        let others = self.drawn.load(Ordering::Acquire) > usize::from(place.waits);
        if !others {
            return Some(usize::MAX);
        }
        (!self.has_to_wait(place, waker, watch)).then_some(place.left())
    }

    fn has_to_wait(&self, place: &mut Place, waker: &Waker, watch: impl FnOnce()) -> bool {
        let mut queue = self.queue();
        let waits = queue.stands_behind(place.ticket);
        if waits {
            let ticket = place.draw(&mut queue);
            queue.step_back(ticket, waker);
            self.drawn.store(queue.drawn.len(), Ordering::Release);
            if !mem::replace(&mut queue.watch, true) {
                drop(queue);
                watch();
            }
        }
        waits
    }

    /// The stream found no room. It is to wait with this waker, through which it is called.
    pub(super) fn draw(self: &Arc<Self>, place: &mut Place, waker: &Waker) -> Waker {
        let ticket = self.change(|queue| {
            let ticket = place.draw(queue);
            queue.came(ticket);
            ticket
        });
        let call = match &place.call {
            Some(call) => Arc::clone(call),
            None => Arc::clone(place.call.insert(Arc::new(Call::new(Arc::clone(self), waker)))),
        };
        call.aim(ticket, waker);
        Waker::from(call)
    }

    /// The stream has written so many bytes of its turn.
    pub(super) fn wrote(&self, place: &mut Place, bytes: usize) {
        self.leave(place);
        place.left = place.left().saturating_sub(bytes);
        if place.left == 0 {
            place.ticket = None;
        }
    }

    /// The stream waits no longer.
    pub(super) fn leave(&self, place: &mut Place) {
        if let Some(ticket) = place.ticket
            && mem::take(&mut place.waits)
        {
            self.change(|queue| queue.leave(ticket));
        }
    }

    /// Whether somebody stands behind another one that may never come; or did since it was watched last.
    pub(super) fn is_to_be_watched(&self) -> bool {
        self.queue().watch
    }

    /// Waits no longer for those that were called before the last time. To be done now and then while it is watched.
    pub(super) fn lapse(&self) {
        self.change(Queue::lapse);
    }

    /// Nobody waits for anybody from now on: the connection is over.
    pub(super) fn end(&self) {
        let mut queue = self.queue();
        queue.over = true;
        queue.called.clear();
        let behind = mem::take(&mut queue.behind);
        drop(queue);
        behind.into_values().for_each(Waker::wake);
    }
}

/// Without locks and tasks.
#[derive(Default)]
struct Queue {
    next: Ticket,
    drawn: BTreeSet<Ticket>,
    /// Those that may come, and at which beat they were called.
    called: BTreeMap<Ticket, u64>,
    /// Those that came before others who were called and are older.
    behind: BTreeMap<Ticket, Waker>,
    beat: u64,
    watch: bool,
    over: bool,
}

impl Queue {
    fn next(&mut self) -> Ticket {
        let ticket = self.next;
        self.next = ticket.wrapping_add(1);
        ticket
    }

    /// Without a ticket one stands behind everybody.
    fn stands_behind(&self, ticket: Option<Ticket>) -> bool {
        let oldest = self.called.first_key_value().map(|(oldest, _)| *oldest);
        oldest.is_some_and(|oldest| ticket.is_none_or(|ticket| oldest < ticket))
    }

    fn step_back(&mut self, ticket: Ticket, waker: &Waker) {
        self.called.remove(&ticket);
        self.behind.insert(ticket, waker.clone());
    }

    fn call(&mut self, ticket: Ticket) {
        if self.drawn.contains(&ticket) && !self.over {
            self.called.insert(ticket, self.beat);
        }
    }

    fn came(&mut self, ticket: Ticket) {
        self.called.remove(&ticket);
        self.behind.remove(&ticket);
    }

    fn leave(&mut self, ticket: Ticket) {
        self.came(ticket);
        self.drawn.remove(&ticket);
    }

    fn lapse(&mut self) {
        let beat = self.beat;
        self.called.retain(|_, called| *called == beat);
        self.beat = beat.wrapping_add(1);
        self.watch = !self.behind.is_empty();
    }

    /// Calls the first of those that stood behind, if nobody stands before it any more.
    fn next_behind(&mut self) -> Option<Waker> {
        let (ticket, _) = self.behind.first_key_value()?;
        if self.stands_behind(Some(*ticket)) {
            return None;
        }
        let (ticket, waker) = self.behind.pop_first()?;
        self.called.insert(ticket, self.beat);
        Some(waker)
    }
}

/// What quinn wakes when there is room.
struct Call {
    turns: Arc<Turns>,
    whom: Mutex<(Ticket, Waker)>,
}

impl Call {
    fn new(turns: Arc<Turns>, waker: &Waker) -> Self {
        Self { turns, whom: Mutex::new((Ticket::MAX, waker.clone())) }
    }

    fn whom(&self) -> MutexGuard<'_, (Ticket, Waker)> {
        self.whom.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn aim(&self, ticket: Ticket, waker: &Waker) {
        let mut whom = self.whom();
        whom.0 = ticket;
        whom.1.clone_from(waker);
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (ticket, waker) = self.whom().clone();
        self.turns.queue().call(ticket);
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// A stream that always has something to write, and the task that does it.
    #[derive(Default)]
    struct Writer {
        place: Place,
        woken: Arc<Flag>,
        wrote: usize,
        /// What it writes at once.
        piece: usize,
        /// Its peer does not read it.
        shut: bool,
    }

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Flag {
        fn take(&self) -> bool {
            self.0.swap(false, Ordering::Relaxed)
        }
    }

    /// As quinn has it: room for all together, and those who wait for it are woken from the last to the first.
    #[derive(Default)]
    struct Buffer {
        room: usize,
        blocked: Vec<(usize, Waker)>,
    }

    struct Side {
        turns: Arc<Turns>,
        buffer: Buffer,
        writers: Vec<Writer>,
    }

    impl Side {
        fn new(writers: usize) -> Self {
            let writers: Vec<_> =
                (0..writers).map(|_| Writer { piece: usize::MAX, ..Writer::default() }).collect();
            Self { turns: Arc::default(), buffer: Buffer::default(), writers }
        }

        fn try_write(&mut self, number: usize, most: usize) -> usize {
            let writer = &mut self.writers[number];
            let wrote = if writer.shut { 0 } else { most.min(self.buffer.room).min(writer.piece) };
            self.buffer.room -= wrote;
            writer.wrote += wrote;
            wrote
        }

        /// Writes until it has to wait.
        fn run(&mut self, number: usize) {
            loop {
                let writer = &mut self.writers[number];
                let waker = Waker::from(Arc::clone(&writer.woken));
                let Some(most) = self.turns.turn(&mut writer.place, &waker, || ()) else {
                    return;
                };
                let wrote = self.try_write(number, most);
                if wrote > 0 {
                    self.turns.wrote(&mut self.writers[number].place, wrote);
                    continue;
                }
                let writer = &mut self.writers[number];
                let waker = self.turns.draw(&mut writer.place, &waker);
                if !writer.shut {
                    self.buffer.blocked.push((number, waker));
                }
                return;
            }
        }

        fn run_woken(&mut self) {
            while let Some(number) = self.writers.iter().rposition(|writer| writer.woken.take()) {
                self.run(number);
            }
        }

        /// So much was acknowledged.
        fn make_room(&mut self, bytes: usize) {
            self.buffer.room += bytes;
            while let Some((_, waker)) = self.buffer.blocked.pop() {
                waker.wake();
            }
        }

        fn wrote(&self) -> Vec<usize> {
            self.writers.iter().map(|writer| writer.wrote).collect()
        }
    }

    fn spread(wrote: &[usize]) -> usize {
        wrote.iter().max().unwrap() - wrote.iter().min().unwrap()
    }

    #[test]
    fn all_get_the_same_whoever_is_woken_first() {
        for room in [1000, TURN, 100_000] {
            let mut side = Side::new(7);
            // As `tokio::io::copy` writes, and others.
            (side.writers[2].piece, side.writers[5].piece) = (8 * 1024, 1000);
            (0..7).for_each(|number| side.run(number));
            for _ in 0..700 {
                side.make_room(room);
                side.run_woken();
            }
            let wrote = side.wrote();
            assert_eq!(wrote.iter().sum::<usize>(), 700 * room);
            assert!(spread(&wrote) <= 2 * TURN, "{room}: {wrote:?}");
        }
    }

    #[test]
    fn nobody_waits_for_a_stream_that_its_peer_does_not_read() {
        let mut side = Side::new(3);
        side.writers[0].shut = true;
        (0..3).for_each(|number| side.run(number));
        for _ in 0..100 {
            side.make_room(TURN);
            side.run_woken();
        }
        let wrote = side.wrote();
        assert!(wrote[0] == 0 && spread(&wrote[1..]) <= TURN, "{wrote:?}");
    }

    #[test]
    fn one_that_does_not_come_is_waited_for_and_then_not_any_more() {
        let mut side = Side::new(2);
        (0..2).for_each(|number| side.run(number));
        side.make_room(TURN);
        assert!(side.writers[0].woken.take() && side.writers[1].woken.take());
        side.run(1);
        assert!(side.turns.is_to_be_watched());
        side.turns.lapse();
        assert_eq!(side.wrote(), [0, 0], "called since the last time");
        side.turns.lapse();
        side.run_woken();
        assert_eq!(side.wrote(), [0, TURN]);
        side.turns.lapse();
        assert!(!side.turns.is_to_be_watched());
        // It still has the older ticket.
        side.run(0);
        side.make_room(TURN);
        side.run_woken();
        assert_eq!(side.wrote(), [TURN, TURN]);
    }

    #[test]
    fn one_that_leaves_is_not_waited_for() {
        let mut side = Side::new(2);
        (0..2).for_each(|number| side.run(number));
        side.make_room(TURN);
        assert!(side.writers[0].woken.take() && side.writers[1].woken.take());
        side.run(1);
        let writer = &mut side.writers[0];
        side.turns.leave(&mut writer.place);
        side.run_woken();
        assert_eq!(side.wrote(), [0, TURN]);
    }

    #[test]
    fn at_the_end_all_come() {
        let mut side = Side::new(2);
        (0..2).for_each(|number| side.run(number));
        side.make_room(TURN);
        assert!(side.writers[1].woken.take());
        side.run(1);
        side.turns.end();
        assert!(side.writers[1].woken.take());
        side.run(1);
        assert_eq!(side.wrote(), [0, TURN]);
    }

    #[test]
    fn alone_there_are_no_turns() {
        let mut side = Side::new(1);
        side.run(0);
        side.make_room(10 * TURN);
        side.run_woken();
        assert_eq!(side.wrote(), [10 * TURN]);
    }
}
