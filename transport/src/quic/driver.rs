//! What moves a connection: quinn's driver, and around it the windows, the budget, and an orderly end.

use std::{
    future::Future,
    mem,
    panic::resume_unwind,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use peerage_core::budget::Reserved;
use peerage_muxer::{ConnectionError, ErrorCode, window::SPAN};
use quinn::{ConnectionStats, FrameStats, VarInt};
use tokio::time::{self, Instant, Sleep};

use super::{
    contained::Contained,
    error,
    port::Port,
    shared::Shared,
    window::{Seen, Windows},
};

/// How long an orderly end may take: the delivery of what was written before it, and the goodbye.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// For so long, or a round trip if that is longer, quinn may hold back what it has to send (its pacer fills a burst in
/// 2 ms).
const PACING: Duration = Duration::from_millis(2);

/// So long a peer may take to acknowledge what came alone (RFC 9000, section 18.2).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// A peer that acknowledges a part of what was sent is asked for the rest at once, so often: what it has not acknowledged
/// came alone, and would take it [`ACK_DELAY`].
const PROMPTS: u32 = 4;

/// Drives a connection to its end.
pub(super) struct Driver {
    shared: Arc<Shared>,
    /// quinn's own.
    inner: Contained,
    windows: Windows,
    memory: Reserved,
    last_look: Instant,
    next_look: Instant,
    /// Set if there has to be a look then.
    look: Option<Pin<Box<Sleep>>>,
    delivery: Delivery,
    /// While somebody has to be waited for.
    watch: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
    /// The end of the endpoint, without which no packet comes.
    endpoint_over: BoxFuture<'static, ()>,
    over: bool,
    port: Arc<Port>,
}

/// What is known of the delivery of streams. quinn does not tell, but it tells when nothing is unacknowledged.
#[derive(Default)]
struct Delivery {
    /// Frames of streams that have been sent.
    sent: u64,
    /// Those of them that have arrived.
    arrived: u64,
    landings: u64,
}

impl Delivery {
    /// To be called after each time that quinn has moved the connection: what it received may have acknowledged what was
    /// sent before, and nothing that it sent then.
    fn note(&mut self, landings: u64, frames: &FrameStats) {
        if landings != self.landings {
            self.landings = landings;
            self.arrived = self.sent;
        }
        self.sent = frames.stream.saturating_add(frames.reset_stream).saturating_add(frames.stop_sending);
    }
}

/// An orderly end on its way.
struct Closing {
    deadline: Pin<Box<Sleep>>,
    told: bool,
    /// Frames of streams that had been sent when it was looked last.
    sent: u64,
    /// When nothing is held back any more.
    quiet: Pin<Box<Sleep>>,
    /// How often the peer was sent something that it has to acknowledge, and how often because of what it acknowledged.
    asked: u32,
    prompted: u32,
    /// Acknowledgements that had come when the peer was asked last.
    acks: u64,
}

impl Closing {
    fn new() -> Self {
        Self {
            deadline: Box::pin(time::sleep(CLOSE_TIMEOUT)),
            told: false,
            sent: 0,
            quiet: Box::pin(time::sleep(Duration::ZERO)),
            asked: 0,
            prompted: 0,
            acks: 0,
        }
    }
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, inner: Contained, memory: Reserved, port: Arc<Port>) -> Self {
        Self {
            shared,
            inner,
            windows: Windows::default(),
            memory,
            last_look: Instant::now(),
            next_look: Instant::now(),
            look: None,
            delivery: Delivery::default(),
            watch: None,
            closing: None,
            endpoint_over: Box::pin(port.over()),
            over: false,
            port,
        }
    }

    /// Polls quinn's driver. `true` if it has ended.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        match Pin::new(&mut self.inner).poll(cx) {
            Poll::Pending => false,
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(panic)) => {
                self.over = true;
                // Whoever polls this contains panics, and says whose they are.
                resume_unwind(panic);
            }
        }
    }

    /// Looks once in a round trip, and not more often than speed can be told.
    fn look_after_windows(&mut self, stats: &ConnectionStats, cx: &mut Context<'_>) {
        let now = Instant::now();
        let seen = Seen {
            received: stats.udp_rx.bytes,
            blocked: stats.frame_rx.data_blocked,
            read: self.shared.read.load(Ordering::Relaxed),
            sent: stats.udp_tx.bytes,
            congestion_window: stats.path.cwnd,
            writer_waited: false,
            took: now.saturating_duration_since(self.last_look),
            round_trip: self.shared.flight.shortest_round_trip().unwrap_or(stats.path.rtt),
        };
        let again = if now < self.next_look {
            self.windows.note(seen);
            self.windows.is_full()
        } else {
            self.last_look = now;
            self.next_look = now.checked_add(stats.path.rtt.max(SPAN)).unwrap_or(now);
            self.look = None;
            self.look(seen);
            self.windows.peer_waits()
        };
        if again {
            let next = self.next_look;
            let look = self.look.get_or_insert_with(|| Box::pin(time::sleep_until(next)));
            if look.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }

    fn look(&mut self, seen: Seen) {
        let writer_waited = self.shared.writer_waited.swap(false, Ordering::Relaxed);
        let (receive, send) = self.windows.look(Seen { writer_waited, ..seen });
        // Without memory for it, the connection stays as slow as it is.
        if let Some(receive) = receive
            && self.memory.grow(difference(receive, self.windows.receive)).is_ok()
        {
            self.windows.receive = receive;
            self.shared.connection.set_receive_window(VarInt::from_u32(receive));
        }
        if let Some(send) = send
            && self.memory.grow(difference(send, self.windows.send)).is_ok()
        {
            self.windows.send = send;
            self.shared.set_send_window(send);
        }
    }

    /// While streams wait for others that were called, sees to it that they do not wait long.
    fn look_after_turns(&mut self, cx: &mut Context<'_>) {
        while self.shared.turns.is_to_be_watched() {
            let watch = self.watch.get_or_insert_with(|| Box::pin(time::sleep(SPAN)));
            if watch.as_mut().poll(cx).is_pending() {
                return;
            }
            self.watch = None;
            self.shared.turns.lapse();
        }
    }

    /// Takes the next step towards the end that this side wants: what was written is delivered, as far as the peer takes
    /// it; and the peer is told. `true` once it is over: that what still comes is answered with the same takes three
    /// times as long as a lost packet, and nobody has to wait for it.
    fn close(&mut self, code: ErrorCode, cx: &mut Context<'_>) -> bool {
        let closing = self.closing.get_or_insert_with(Closing::new);
        let late = closing.deadline.as_mut().poll(cx).is_ready();
        if closing.told {
            return late;
        }
        let delivered = !self.shared.touched.load(Ordering::Relaxed) || self.is_delivered(cx);
        if delivered || late {
            if let Some(closing) = &mut self.closing {
                closing.told = true;
            }
            self.shared.flight.let_go();
            self.shared.connection.close(error::varint(code), b"");
            if self.drive(cx) {
                return true;
            }
            if self.port.has_time() {
                self.port.see_off(mem::replace(&mut self.inner, Contained::gone()));
                return true;
            }
            return late;
        }
        false
    }

    /// Whether the peer has everything that it takes: everything was acknowledged after the last frame of a stream was
    /// sent, and quinn had the time to send another one, if it sent enough to hold any back.
    fn is_delivered(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(closing) = &mut self.closing else {
            return true;
        };
        let flight = &self.shared.flight;
        let pause = self.shared.connection.rtt().max(PACING).saturating_mul(2);
        if closing.asked == 0 || self.delivery.sent != closing.sent {
            closing.sent = self.delivery.sent;
            closing.quiet.as_mut().reset(later(pause));
        }
        let quiet = closing.quiet.as_mut().poll(cx).is_ready();
        if (quiet || flight.is_light()) && self.delivery.arrived == self.delivery.sent {
            return true;
        }
        let acks = flight.acks();
        // Two packets are acknowledged at once (RFC 9000, section 13.2.2); which ones are two, only the peer knows.
        let prompted = acks != closing.acks && closing.prompted < PROMPTS && flight.is_nearly_over();
        if closing.asked == 0 || quiet || prompted {
            // What was sent last may have been an acknowledgement alone, which nobody acknowledges. A window that is
            // opened by one byte is.
            closing.prompted = closing.prompted.saturating_add(u32::from(prompted));
            closing.acks = acks;
            closing.asked = closing.asked.saturating_add(1);
            if quiet {
                closing.quiet.as_mut().reset(later(pause.saturating_add(ACK_DELAY)));
            }
            let _ = closing.quiet.as_mut().poll(cx);
            let window = self.windows.receive.saturating_add(closing.asked);
            self.shared.connection.set_receive_window(VarInt::from_u32(window));
            let _ = self.drive(cx);
        }
        false
    }

    /// Whether the connection ended otherwise than by this side, and how.
    fn end(&self) -> Option<ConnectionError> {
        match self.shared.connection.close_reason()? {
            quinn::ConnectionError::LocallyClosed
                if self.closing.as_ref().is_some_and(|closing| closing.told) =>
            {
                None
            }
            end => Some(self.shared.end_of(end)),
        }
    }
}

impl Future for Driver {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.driver.register(cx.waker());
        if this.endpoint_over.as_mut().poll(cx).is_ready() {
            this.over = true;
            this.shared.abandon(ConnectionError::DriverGone);
            return Poll::Ready(Err(ConnectionError::DriverGone));
        }
        // Asked before quinn is polled: what was written before the close is sent by then, and counted.
        let closing = this.shared.closing();
        let ended = this.drive(cx);
        if let Some(end) = this.end() {
            this.over = true;
            return Poll::Ready(Err(end));
        }
        let stats = this.shared.connection.stats();
        this.delivery.note(this.shared.flight.landings(), &stats.frame_tx);
        if ended || closing.is_some_and(|code| this.close(code, cx)) {
            this.over = true;
            // Its end without a reason would be quinn's socket failing.
            let told = this.closing.as_ref().is_some_and(|closing| closing.told);
            if !told {
                this.shared.abandon(ConnectionError::DriverGone);
            }
            return Poll::Ready(if told { Ok(()) } else { Err(ConnectionError::DriverGone) });
        }
        this.look_after_windows(&stats, cx);
        this.look_after_turns(cx);
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.turns.end();
        if !self.over && self.shared.is_sound() {
            // Nobody drives it any more. The streams hear of it, and the endpoint's task tells the peer.
            self.shared.abandon(ConnectionError::DriverGone);
            self.port.see_off(mem::replace(&mut self.inner, Contained::gone()));
        }
    }
}

fn later(pause: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(pause).unwrap_or(now)
}

fn difference(larger: u32, smaller: u32) -> usize {
    usize::try_from(larger.saturating_sub(smaller)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(stream: u64, reset: u64, stopped: u64) -> FrameStats {
        let mut frames = FrameStats::default();
        (frames.stream, frames.reset_stream, frames.stop_sending) = (stream, reset, stopped);
        frames
    }

    #[test]
    fn what_was_sent_before_an_acknowledgement_has_arrived_and_nothing_that_was_sent_with_it() {
        let mut delivery = Delivery::default();
        delivery.note(0, &frames(2, 0, 0));
        assert_eq!((delivery.sent, delivery.arrived), (2, 0));
        // In one step the acknowledgement came, and a reset and a stop were sent.
        delivery.note(1, &frames(2, 1, 1));
        assert_eq!((delivery.sent, delivery.arrived), (4, 2));
        delivery.note(1, &frames(2, 1, 1));
        assert_eq!((delivery.sent, delivery.arrived), (4, 2));
        delivery.note(3, &frames(2, 1, 1));
        assert_eq!((delivery.sent, delivery.arrived), (4, 4));
    }
}
