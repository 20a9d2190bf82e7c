//! What stands between an engine of streams and those who use it: the lock, the handles, and who waits for what.
//!
//! A muxer whose engine is sans-IO, and a transport that multiplexes by itself, implement [`StreamEngine`] and write a driver.
//! [`Handle`] and the streams are the same for all of them.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{future::BoxFuture, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::{ConnectionError, Control, ErrorCode, Stream, StreamError, Substream};

/// The streams of a connection, without I/O. Nothing in it panics half way through a change.
pub trait StreamEngine: Send + 'static {
    /// Names a stream for as long as there is a handle to it.
    type Key: Copy + Eq + Hash + Send + Unpin + 'static;

    /// Opens a stream; `None` while there is no place for one.
    ///
    /// # Errors
    /// When the connection has ended.
    fn open(&mut self) -> Result<Option<Self::Key>, ConnectionError>;

    /// Whether there is a place for another one.
    fn may_open(&self) -> bool;

    /// The next stream that the peer opened.
    ///
    /// # Errors
    /// When the connection has ended.
    fn accept(&mut self) -> Result<Option<Self::Key>, ConnectionError>;

    /// Whether another one waits.
    fn may_accept(&self) -> bool;

    /// Reads what is there; 0 is the end of the stream, `None` that nothing is there yet.
    ///
    /// # Errors
    /// [`StreamError`].
    fn read(&mut self, key: Self::Key, into: &mut ReadBuf<'_>) -> Result<Option<usize>, StreamError>;

    /// Takes what there is room for; `None` if there is none.
    ///
    /// # Errors
    /// [`StreamError`].
    fn write(&mut self, key: Self::Key, data: &[u8]) -> Result<Option<usize>, StreamError>;

    /// Whether the stream can be written to.
    ///
    /// # Errors
    /// Why it cannot.
    fn writable(&self, key: Self::Key) -> Result<(), StreamError>;

    /// Ends the writing half, after what was written.
    ///
    /// # Errors
    /// [`StreamError`].
    fn finish(&mut self, key: Self::Key) -> Result<(), StreamError>;

    /// The handle is gone: the stream is given up with a code, or (`None`) nothing more will be read of it.
    fn release(&mut self, key: Self::Key, code: Option<ErrorCode>);

    /// This side says goodbye.
    fn close(&mut self, code: ErrorCode);

    /// The connection is over.
    fn end(&mut self, reason: ConnectionError);

    /// Whether there is more to do than at the last asking, which the driver has to be told.
    fn take_stirred(&mut self) -> bool;

    /// Who can go on.
    fn poll_event(&mut self) -> Option<Event<Self::Key>>;

    /// The round-trip time, if it is known.
    fn rtt(&self) -> Option<Duration>;
}

/// Who can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// Who reads this stream.
    Readable(K),
    /// Who writes to this stream.
    Writable(K),
    /// Who accepts: a stream is there.
    Acceptable,
    /// Who opens: there is a place.
    Openable,
}

/// A driver that can be made to send from another thread than its own.
///
/// A short message that is sent by whoever writes it leaves one change of threads earlier.
pub trait Push: Send + Sync {
    /// Sends what there is to be sent, or says `false`: then the driver has to be woken, as it is for everything else.
    fn push(&self) -> bool;
}

/// What is written at once and may be pushed, in bytes. Of more the sealing takes longer than waking the driver, which
/// does it while the next piece is written.
const PUSH_MAX: usize = 4096;

/// An engine that a driver shares with the handles.
pub struct Shared<E: StreamEngine> {
    state: Mutex<State<E>>,
    driver: AtomicWaker,
    push: OnceLock<Box<dyn Push>>,
    /// Those who wait to open, woken one for each place; whoever finds more places wakes the next.
    opens: Notify,
    accepts: Notify,
}

struct State<E: StreamEngine> {
    engine: E,
    waiting: HashMap<E::Key, Waiting>,
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

impl<E: StreamEngine> Shared<E> {
    /// Behind a lock from now on.
    pub fn new(engine: E) -> Self {
        Self {
            state: Mutex::new(State { engine, waiting: HashMap::new() }),
            driver: AtomicWaker::new(),
            push: OnceLock::new(),
            opens: Notify::new(),
            accepts: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver is woken by what handles do from now on.
    pub fn register_driver(&self, waker: &Waker) {
        self.driver.register(waker);
    }

    /// From now on short messages are pushed. The first call counts.
    pub fn push_by(&self, push: impl Push + 'static) {
        let _ = self.push.set(Box::new(push));
    }

    /// For the driver: does something with the engine, and wakes whoever can then go on.
    pub fn drive<T>(&self, act: impl FnOnce(&mut E) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.engine);
        state.engine.take_stirred();
        let woken = state.woken();
        drop(state);
        self.wake(woken);
        result
    }

    /// The same for everybody else: wakes also the driver if it has something to do.
    fn with<T>(&self, act: impl FnOnce(&mut State<E>) -> T) -> T {
        let (result, stirred) = self.act(act);
        if stirred {
            self.driver.wake();
        }
        result
    }

    /// The same for who has written something short: it is sent from here, if that can be.
    fn with_short<T>(&self, act: impl FnOnce(&mut State<E>) -> T) -> T {
        let (result, stirred) = self.act(act);
        if stirred && !self.push.get().is_some_and(|push| push.push()) {
            self.driver.wake();
        }
        result
    }

    /// Does something with the engine. Whether the driver has something to do.
    fn act<T>(&self, act: impl FnOnce(&mut State<E>) -> T) -> (T, bool) {
        let mut state = self.lock();
        let result = act(&mut state);
        let stirred = state.engine.take_stirred();
        let woken = state.woken();
        drop(state);
        self.wake(woken);
        (result, stirred)
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
    pub fn end(&self, reason: ConnectionError) {
        self.drive(|engine| engine.end(reason));
        self.wake_the_waiting();
    }

    /// Those who wait to open or to accept wait in vain.
    pub fn wake_the_waiting(&self) {
        self.opens.notify_waiters();
        self.accepts.notify_waiters();
    }

    #[cfg(test)]
    pub(crate) fn probe<T>(&self, look: impl FnOnce(&mut E) -> T) -> T {
        look(&mut self.lock().engine)
    }
}

impl<E: StreamEngine> State<E> {
    fn woken(&mut self) -> Woken {
        let mut woken = Woken::default();
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::Acceptable => woken.accept = true,
                Event::Openable => woken.open = true,
                Event::Readable(key) => {
                    woken.tasks.extend(self.waiting.get_mut(&key).and_then(|waiting| waiting.reader.take()));
                }
                Event::Writable(key) => {
                    woken.tasks.extend(self.waiting.get_mut(&key).and_then(|waiting| waiting.writer.take()));
                }
            }
        }
        woken
    }

    fn wait_to_read(&mut self, key: E::Key, cx: &Context<'_>) -> Option<Waker> {
        watch(&mut self.waiting.entry(key).or_default().reader, cx)
    }

    fn wait_to_write(&mut self, key: E::Key, cx: &Context<'_>) -> Option<Waker> {
        watch(&mut self.waiting.entry(key).or_default().writer, cx)
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
pub struct Handle<E: StreamEngine>(Arc<Shared<E>>);

impl<E: StreamEngine> Handle<E> {
    /// A handle to what the driver drives.
    pub fn new(shared: Arc<Shared<E>>) -> Self {
        Self(shared)
    }
}

impl<E: StreamEngine> Control for Handle<E> {
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                let mut turn = pin!(shared.opens.notified());
                turn.as_mut().enable();
                let (key, more) =
                    shared.with(|state| state.engine.open().map(|key| (key, state.engine.may_open())))?;
                if let Some(key) = key {
                    if more {
                        shared.opens.notify_one();
                    }
                    return Ok(Stream::new(EngineStream::new(key, &shared)));
                }
                turn.await;
            }
        })
    }

    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                let mut turn = pin!(shared.accepts.notified());
                turn.as_mut().enable();
                let (key, more) =
                    shared.with(|state| state.engine.accept().map(|key| (key, state.engine.may_accept())))?;
                if let Some(key) = key {
                    if more {
                        shared.accepts.notify_one();
                    }
                    return Ok(Stream::new(EngineStream::new(key, &shared)));
                }
                turn.await;
            }
        })
    }

    fn close(&self, code: ErrorCode) {
        self.0.with(|state| state.engine.close(code));
        self.0.wake_the_waiting();
    }

    fn rtt(&self) -> Option<Duration> {
        self.0.with(|state| state.engine.rtt())
    }
}

/// A stream's handle.
pub struct EngineStream<E: StreamEngine> {
    key: E::Key,
    shared: Arc<Shared<E>>,
    released: bool,
}

impl<E: StreamEngine> EngineStream<E> {
    /// The one handle of a stream of this engine.
    pub fn new(key: E::Key, shared: &Arc<Shared<E>>) -> Self {
        Self { key, shared: Arc::clone(shared), released: false }
    }

    fn release(&mut self, code: Option<ErrorCode>) {
        if !std::mem::replace(&mut self.released, true) {
            let key = self.key;
            let waiting = self.shared.with(|state| {
                state.engine.release(key, code);
                state.waiting.remove(&key)
            });
            // Dropping a waker may run foreign code, which has no business under the lock.
            drop(waiting);
        }
    }
}

impl<E: StreamEngine> Substream for EngineStream<E> {
    fn reset(&mut self, code: ErrorCode) {
        self.release(Some(code));
    }
}

impl<E: StreamEngine> Drop for EngineStream<E> {
    fn drop(&mut self) {
        self.release(None);
    }
}

impl<E: StreamEngine> AsyncRead for EngineStream<E> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let key = self.key;
        let (result, _old) = self.shared.with(|state| match state.engine.read(key, buf) {
            Ok(Some(_)) => (Poll::Ready(Ok(())), None),
            Ok(None) => (Poll::Pending, state.wait_to_read(key, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        });
        result
    }
}

impl<E: StreamEngine> AsyncWrite for EngineStream<E> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let key = self.key;
        let write = |state: &mut State<E>| match state.engine.write(key, buf) {
            Ok(Some(n)) => (Poll::Ready(Ok(n)), None),
            Ok(None) => (Poll::Pending, state.wait_to_write(key, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        };
        let (result, _old) =
            if buf.len() <= PUSH_MAX { self.shared.with_short(write) } else { self.shared.with(write) };
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = self.key;
        // What was written is the driver's already.
        Poll::Ready(self.shared.with(|state| state.engine.writable(key)).map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = self.key;
        Poll::Ready(self.shared.with_short(|state| state.engine.finish(key)).map_err(io::Error::from))
    }
}
