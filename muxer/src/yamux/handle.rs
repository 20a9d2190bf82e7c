//! The state that the driver shares with the handle and the streams, and what those do with it.

use std::{
    collections::HashMap,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{future::BoxFuture, task::AtomicWaker};
use peerage_core::budget::Budget;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use super::{
    Config, Mode,
    engine::{Engine, Event},
};
use crate::{ConnectionError, Control, ErrorCode, Stream};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) driver: AtomicWaker,
    /// Those who wait to open, woken one for each place; whoever finds more places wakes the next.
    opens: Notify,
    accepts: Notify,
}

pub(super) struct State {
    pub(super) engine: Engine,
    waiting: HashMap<u32, Waiting>,
}

#[derive(Default)]
struct Waiting {
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Who can go on. They are told when the lock is open again.
#[derive(Default)]
struct Woken {
    tasks: Vec<Waker>,
    open: bool,
    accept: bool,
}

impl Shared {
    pub(super) fn new(mode: Mode, config: Config, budget: Budget) -> Self {
        let engine = Engine::new(mode, config, budget, Instant::now().into_std());
        Self {
            state: Mutex::new(State { engine, waiting: HashMap::new() }),
            driver: AtomicWaker::new(),
            opens: Notify::new(),
            accepts: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the driver: does something with the engine, and wakes whoever can then go on.
    pub(super) fn drive<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.engine);
        state.engine.take_stirred();
        let woken = state.woken();
        drop(state);
        self.wake(woken);
        result
    }

    /// The same for everybody else: wakes also the driver if it has something to do.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let stirred = state.engine.take_stirred();
        let woken = state.woken();
        drop(state);
        self.wake(woken);
        if stirred {
            self.driver.wake();
        }
        result
    }

    fn wake(&self, woken: Woken) {
        woken.tasks.into_iter().for_each(Waker::wake);
        if woken.open {
            self.opens.notify_one();
        }
        if woken.accept {
            self.accepts.notify_one();
        }
    }

    /// Ends the connection for all handles.
    pub(super) fn end(&self, reason: ConnectionError) {
        self.drive(|engine| engine.end(reason));
        self.wake_the_waiting();
    }

    /// Those who wait to open or to accept wait in vain.
    pub(super) fn wake_the_waiting(&self) {
        self.opens.notify_waiters();
        self.accepts.notify_waiters();
    }
}

impl State {
    fn woken(&mut self) -> Woken {
        let mut woken = Woken::default();
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Acceptable => woken.accept = true,
                Event::Openable => woken.open = true,
                Event::Readable(id) => {
                    woken.tasks.extend(self.waiting.get_mut(&id).and_then(|waiting| waiting.reader.take()));
                }
                Event::Writable(id) => {
                    woken.tasks.extend(self.waiting.get_mut(&id).and_then(|waiting| waiting.writer.take()));
                }
            }
        }
        woken
    }

    fn wait_to_read(&mut self, id: u32, cx: &Context<'_>) -> Option<Waker> {
        watch(&mut self.waiting.entry(id).or_default().reader, cx)
    }

    fn wait_to_write(&mut self, id: u32, cx: &Context<'_>) -> Option<Waker> {
        watch(&mut self.waiting.entry(id).or_default().writer, cx)
    }
}

/// Takes the place of an earlier waker, which is handed back to be dropped when the lock is open again.
fn watch(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    if slot.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    slot.replace(cx.waker().clone())
}

/// What [`Connection`](crate::Connection) holds.
pub(super) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Control for Handle {
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            loop {
                let mut turn = pin!(shared.opens.notified());
                turn.as_mut().enable();
                let (id, more) =
                    shared.with(|state| state.engine.open().map(|id| (id, state.engine.may_open())))?;
                if let Some(id) = id {
                    if more {
                        shared.opens.notify_one();
                    }
                    return Ok(Stream::new(Substream { id, shared: Arc::clone(&shared), released: false }));
                }
                turn.await;
            }
        })
    }

    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            loop {
                let mut turn = pin!(shared.accepts.notified());
                turn.as_mut().enable();
                let (id, more) =
                    shared.with(|state| state.engine.accept().map(|id| (id, state.engine.may_accept())))?;
                if let Some(id) = id {
                    if more {
                        shared.accepts.notify_one();
                    }
                    return Ok(Stream::new(Substream { id, shared: Arc::clone(&shared), released: false }));
                }
                turn.await;
            }
        })
    }

    fn close(&self, code: ErrorCode) {
        self.shared.with(|state| state.engine.close(code));
        self.shared.wake_the_waiting();
    }

    fn rtt(&self) -> Option<Duration> {
        self.shared.with(|state| state.engine.rtt())
    }
}

struct Substream {
    id: u32,
    shared: Arc<Shared>,
    released: bool,
}

impl Substream {
    fn release(&mut self, code: Option<ErrorCode>) {
        if !std::mem::replace(&mut self.released, true) {
            let id = self.id;
            let waiting = self.shared.with(|state| {
                state.engine.release(id, code);
                state.waiting.remove(&id)
            });
            // Dropping a waker may run foreign code, which has no business under the lock.
            drop(waiting);
        }
    }
}

impl crate::Substream for Substream {
    fn reset(&mut self, code: ErrorCode) {
        self.release(Some(code));
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl AsyncRead for Substream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        let (result, _old) = self.shared.with(|state| match state.engine.read(id, buf) {
            Ok(Some(_)) => (Poll::Ready(Ok(())), None),
            Ok(None) => (Poll::Pending, state.wait_to_read(id, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        });
        result
    }
}

impl AsyncWrite for Substream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let id = self.id;
        let (result, _old) = self.shared.with(|state| match state.engine.write(id, buf) {
            Ok(Some(n)) => (Poll::Ready(Ok(n)), None),
            Ok(None) => (Poll::Pending, state.wait_to_write(id, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        });
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        // What was written is the driver's already.
        Poll::Ready(self.shared.with(|state| state.engine.writable(id)).map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let id = self.id;
        Poll::Ready(self.shared.with(|state| state.engine.finish(id)).map_err(io::Error::from))
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn probe<T>(&self, look: impl FnOnce(&mut Engine) -> T) -> T {
        look(&mut self.lock().engine)
    }

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
