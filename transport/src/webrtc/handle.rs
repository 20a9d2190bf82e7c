//! The engine as the handles that all engines share see it, and the handshakes below it.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use peerage_core::budget::Budget;
use peerage_muxer::{
    ConnectionError, ErrorCode, StreamError,
    handles::{self, EngineStream, Event, StreamEngine},
};
use tokio::{io::ReadBuf, sync::Notify, time::Instant};

use super::{
    certificate::Fingerprint,
    engine::{Engine, HANDSHAKE_KEY, Key},
    session::{Ended, Side},
};

/// What the driver, the handles and the upgrade share.
pub(super) struct Shared {
    pub(super) streams: Arc<handles::Shared<Engine>>,
    secured: Mutex<Secured>,
    /// Whoever waits for the handshakes below the streams.
    changed: Notify,
}

/// How far the handshakes below the streams are.
#[derive(Clone, Debug, Default)]
pub(super) enum Secured {
    #[default]
    Underway,
    /// With the owner of this certificate.
    Done(Fingerprint),
    Failed(Ended),
}

impl Shared {
    pub(super) fn new(side: Side, budget: Budget) -> Self {
        let engine = Engine::new(side, budget, Instant::now().into_std());
        let streams = Arc::new(handles::Shared::new(engine));
        Self { streams, secured: Mutex::default(), changed: Notify::new() }
    }

    pub(super) fn set_secured(&self, secured: Secured) {
        let mut state = self.secured.lock().unwrap_or_else(PoisonError::into_inner);
        // What failed later is the connection's.
        if matches!(*state, Secured::Underway) {
            *state = secured;
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits for DTLS, and gives the fingerprint of the other side's certificate.
    pub(super) async fn secured(&self) -> Result<Fingerprint, Ended> {
        loop {
            let mut turn = pin!(self.changed.notified());
            turn.as_mut().enable();
            let state = self.secured.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match state {
                Secured::Underway => turn.await,
                Secured::Done(fingerprint) => return Ok(fingerprint),
                Secured::Failed(why) => return Err(why),
            }
        }
    }

    /// The channel of the noise handshake.
    pub(super) fn handshake(&self) -> EngineStream<Engine> {
        EngineStream::new(HANDSHAKE_KEY, &self.streams)
    }
}

impl StreamEngine for Engine {
    type Key = Key;

    fn open(&mut self) -> Result<Option<Key>, ConnectionError> {
        Self::open(self)
    }

    fn may_open(&self) -> bool {
        Self::may_open(self)
    }

    fn accept(&mut self) -> Result<Option<Key>, ConnectionError> {
        Self::accept(self)
    }

    fn may_accept(&self) -> bool {
        Self::may_accept(self)
    }

    fn read(&mut self, key: Key, into: &mut ReadBuf<'_>) -> Result<Option<usize>, StreamError> {
        Self::read(self, key, into)
    }

    fn write(&mut self, key: Key, data: &[u8]) -> Result<Option<usize>, StreamError> {
        Self::write(self, key, data)
    }

    fn writable(&self, key: Key) -> Result<(), StreamError> {
        Self::writable(self, key)
    }

    fn finish(&mut self, key: Key) -> Result<(), StreamError> {
        Self::finish(self, key)
    }

    fn release(&mut self, key: Key, code: Option<ErrorCode>) {
        Self::release(self, key, code);
    }

    /// The code is lost: WebRTC has no place for it.
    fn close(&mut self, _: ErrorCode) {
        Self::close(self);
    }

    fn end(&mut self, reason: ConnectionError) {
        Self::end(self, reason);
    }

    fn take_stirred(&mut self) -> bool {
        Self::take_stirred(self)
    }

    fn poll_event(&mut self) -> Option<Event<Key>> {
        Self::poll_event(self)
    }

    fn rtt(&self) -> Option<Duration> {
        Self::rtt(self)
    }
}
