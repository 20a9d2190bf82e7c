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
use peerage_muxer::{ConnectionError, Control, ErrorCode, Stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::Instant,
};

use super::{
    certificate::Fingerprint,
    engine::{Engine, Event, HANDSHAKE_KEY, Key},
    session::{Ended, Side},
};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) driver: AtomicWaker,
    /// Those who wait to open, woken one for each place; whoever finds more places wakes the next.
    opens: Notify,
    accepts: Notify,
    /// Whoever waits for the handshakes below the streams.
    secured: Notify,
}

struct State {
    engine: Engine,
    waiting: HashMap<Key, Waiting>,
    secured: Secured,
    rtt: Option<Duration>,
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
    pub(super) fn new(side: Side, budget: Budget) -> Self {
        let engine = Engine::new(side, budget, Instant::now().into_std());
        let state = State { engine, waiting: HashMap::new(), secured: Secured::default(), rtt: None };
        Self {
            state: Mutex::new(state),
            driver: AtomicWaker::new(),
            opens: Notify::new(),
            accepts: Notify::new(),
            secured: Notify::new(),
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
    fn wake_the_waiting(&self) {
        self.opens.notify_waiters();
        self.accepts.notify_waiters();
    }

    pub(super) fn set_secured(&self, secured: Secured) {
        let mut state = self.lock();
        // What failed later is the connection's.
        if matches!(state.secured, Secured::Underway) {
            state.secured = secured;
        }
        drop(state);
        self.secured.notify_waiters();
    }

    /// Waits for DTLS, and gives the fingerprint of the other side's certificate.
    pub(super) async fn secured(&self) -> Result<Fingerprint, Ended> {
        loop {
            let mut turn = pin!(self.secured.notified());
            turn.as_mut().enable();
            match self.lock().secured.clone() {
                Secured::Underway => {}
                Secured::Done(fingerprint) => return Ok(fingerprint),
                Secured::Failed(why) => return Err(why),
            }
            turn.await;
        }
    }

    pub(super) fn set_rtt(&self, rtt: Duration) {
        self.lock().rtt = Some(rtt);
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

    fn wait_to_read(&mut self, id: Key, cx: &Context<'_>) -> Option<Waker> {
        watch(&mut self.waiting.entry(id).or_default().reader, cx)
    }

    fn wait_to_write(&mut self, id: Key, cx: &Context<'_>) -> Option<Waker> {
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

/// What [`Connection`](peerage_muxer::Connection) holds.
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
                    return Ok(Stream::new(Substream::new(id, &shared)));
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
                    return Ok(Stream::new(Substream::new(id, &shared)));
                }
                turn.await;
            }
        })
    }

    /// The code is lost: WebRTC has no place for it.
    fn close(&self, _: ErrorCode) {
        self.shared.with(|state| state.engine.close());
        self.shared.wake_the_waiting();
    }

    fn rtt(&self) -> Option<Duration> {
        self.shared.lock().rtt
    }
}

/// A stream's handle.
pub(super) struct Substream {
    id: Key,
    shared: Arc<Shared>,
    released: bool,
}

impl Substream {
    fn new(id: Key, shared: &Arc<Shared>) -> Self {
        Self { id, shared: Arc::clone(shared), released: false }
    }

    /// The channel of the noise handshake.
    pub(super) fn handshake(shared: &Arc<Shared>) -> Self {
        Self::new(HANDSHAKE_KEY, shared)
    }

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

impl peerage_muxer::Substream for Substream {
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
