//! The engine, as the handles that all engines share see it.

use std::time::Duration;

use tokio::io::ReadBuf;

use super::engine::Engine;
use crate::{
    ConnectionError, ErrorCode, StreamError,
    handles::{self, Event, StreamEngine},
};

/// What the driver and the handles share.
pub(super) type Shared = handles::Shared<Engine>;

impl StreamEngine for Engine {
    type Key = u32;

    fn open(&mut self) -> Result<Option<u32>, ConnectionError> {
        Self::open(self)
    }

    fn may_open(&self) -> bool {
        Self::may_open(self)
    }

    fn accept(&mut self) -> Result<Option<u32>, ConnectionError> {
        Self::accept(self)
    }

    fn may_accept(&self) -> bool {
        Self::may_accept(self)
    }

    fn read(&mut self, key: u32, into: &mut ReadBuf<'_>) -> Result<Option<usize>, StreamError> {
        Self::read(self, key, into)
    }

    fn write(&mut self, key: u32, data: &[u8]) -> Result<Option<usize>, StreamError> {
        Self::write(self, key, data)
    }

    fn writable(&self, key: u32) -> Result<(), StreamError> {
        Self::writable(self, key)
    }

    fn finish(&mut self, key: u32) -> Result<(), StreamError> {
        Self::finish(self, key)
    }

    fn release(&mut self, key: u32, code: Option<ErrorCode>) {
        Self::release(self, key, code);
    }

    fn close(&mut self, code: ErrorCode) {
        Self::close(self, code);
    }

    fn end(&mut self, reason: ConnectionError) {
        Self::end(self, reason);
    }

    fn take_stirred(&mut self) -> bool {
        Self::take_stirred(self)
    }

    fn poll_event(&mut self) -> Option<Event<u32>> {
        Self::poll_event(self)
    }

    fn rtt(&self) -> Option<Duration> {
        Self::rtt(self)
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn inbound(&self) -> usize {
        self.probe(|engine| engine.inbound())
    }

    pub(super) fn outbound(&self) -> usize {
        self.probe(|engine| engine.outbound())
    }

    pub(super) fn entries(&self) -> usize {
        self.probe(|engine| engine.entries())
    }

    pub(super) fn anyone_lingers(&self) -> bool {
        self.probe(|engine| engine.lingering() > 0)
    }
}
