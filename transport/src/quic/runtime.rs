//! What quinn needs of a runtime: timers, and somebody who polls its drivers.

use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use quinn::{AsyncTimer, AsyncUdpSocket};
use tokio::{
    runtime::{Handle, Id},
    time::{self, Sleep},
};

/// Gives the drivers that quinn wants to be spawned to whoever made quinn want it: a connection's driver is polled as
/// a part of that connection's [`Driver`](peerage_muxer::Driver), where its end, its panics and its thread are somebody's
/// business. The endpoint's becomes the one task that this transport spawns.
#[derive(Default)]
pub(super) struct Runtime {
    drivers: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl Runtime {
    /// The driver that was to be spawned last.
    pub(super) fn take(&self) -> Option<BoxFuture<'static, ()>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl quinn::Runtime for Runtime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(Timer { at, moved: false, sleep: None })
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).push(driver);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn now(&self) -> Instant {
        time::Instant::now().into_std()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}

/// A timer of the runtime that polls it. A connection changes its thread after the handshake, and quinn's timer moves with
/// every packet: in another thread's runtime, it would wake that thread each time.
struct Timer {
    at: Instant,
    moved: bool,
    sleep: Option<(Id, Pin<Box<Sleep>>)>,
}

impl AsyncTimer for Timer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.at = at;
        self.moved = true;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let here = Handle::current().id();
        let moved = std::mem::take(&mut this.moved);
        let sleep = match &mut this.sleep {
            Some((home, sleep)) if *home == here => {
                if moved {
                    Sleep::reset(sleep.as_mut(), this.at.into());
                }
                sleep
            }
            elsewhere => &mut elsewhere.insert((here, Box::pin(time::sleep_until(this.at.into())))).1,
        };
        Future::poll(sleep.as_mut(), cx)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("at", &self.at).finish_non_exhaustive()
    }
}
