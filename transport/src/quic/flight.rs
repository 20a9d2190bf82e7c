//! When everything that was sent has arrived, and what a round trip takes at least. quinn says that to the congestion
//! controller, and to nobody else; so one listens there, and leaves the control of congestion to CUBIC.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::config::MAX_LARGE_PACKET;

/// One for each connection. Clones look at the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Flight {
    landings: Arc<AtomicU64>,
    acks: Arc<AtomicU64>,
    /// Bytes that were not acknowledged when the last acknowledgement came.
    unacknowledged: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// Nanoseconds, plus one; 0 while there is none.
    round_trip: Arc<AtomicU64>,
    closing: Arc<AtomicBool>,
}

/// As long as no more was sent than this, quinn's pacer has held nothing back: it lets ten packets of the smallest size
/// go at once, and the last may have been larger.
const LIGHT: u64 = 9 * 1200;

/// As much as the longest packet: what is unacknowledged may be the last one.
const NEARLY_OVER: u64 = MAX_LARGE_PACKET as u64;

impl Flight {
    /// How often an acknowledgement left nothing unacknowledged.
    pub(super) fn landings(&self) -> u64 {
        self.landings.load(Ordering::Acquire)
    }

    /// How often something was acknowledged.
    pub(super) fn acks(&self) -> u64 {
        self.acks.load(Ordering::Acquire)
    }

    /// Whether no more was left unacknowledged than one packet may hold.
    pub(super) fn is_nearly_over(&self) -> bool {
        self.unacknowledged.load(Ordering::Acquire) <= NEARLY_OVER
    }

    /// The shortest round trip so far, once something was acknowledged.
    pub(super) fn shortest_round_trip(&self) -> Option<Duration> {
        let nanos = self.round_trip.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_nanos(nanos))
    }

    /// To be called before the connection is closed. quinn would hold back even the goodbye while the network is full, as
    /// long as there is something else to be sent; and of a connection that is closed nothing is acknowledged any more. So
    /// the peer would never be told.
    pub(super) fn let_go(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether so little was sent that nothing of it can have been held back.
    pub(super) fn is_light(&self) -> bool {
        self.sent.load(Ordering::Acquire) <= LIGHT
    }
}

impl ControllerFactory for Flight {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::new(CubicConfig::default()).build(now, current_mtu);
        Box::new(Watched { cubic, flight: (*self).clone() })
    }
}

/// CUBIC, watched.
struct Watched {
    cubic: Box<dyn Controller>,
    flight: Flight,
}

impl Controller for Watched {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flight.sent.fetch_add(bytes, Ordering::AcqRel);
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        let nanos = u64::try_from(rtt.min().as_nanos()).unwrap_or(u64::MAX);
        self.flight.round_trip.store(nanos.saturating_add(1), Ordering::Release);
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.flight.unacknowledged.store(in_flight, Ordering::Release);
        self.flight.acks.fetch_add(1, Ordering::AcqRel);
        if in_flight == 0 {
            self.flight.landings.fetch_add(1, Ordering::AcqRel);
        }
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.cubic.on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.flight.closing.load(Ordering::Acquire) { u64::MAX } else { self.cubic.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.cubic.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), flight: self.flight.clone() })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.cubic.into_any()
    }
}
