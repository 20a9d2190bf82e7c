//! The engine behind a lock, and the handles that share it with the driver.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{future::BoxFuture, task::AtomicWaker};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use super::{
    engine::{Engine, Event},
    frame::Key,
};
use crate::{ConnectionError, Control, ErrorCode, Stream};

pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) driver: AtomicWaker,
    acceptable: Notify,
    openable: Notify,
}

struct State {
    engine: Engine,
    /// Who waits to read; at most one for each stream, as the writers.
    readers: HashMap<Key, Waker>,
    writers: HashMap<Key, Waker>,
}

impl Shared {
    pub(super) fn new(engine: Engine) -> Self {
        let state = State { engine, readers: HashMap::new(), writers: HashMap::new() };
        Self {
            state: Mutex::new(state),
            driver: AtomicWaker::new(),
            acceptable: Notify::new(),
            openable: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the handles: what they do may give the driver something to do.
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let stirred = state.engine.take_stirred();
        self.wake(state);
        if stirred {
            self.driver.wake();
        }
        result
    }

    /// For the driver, which looks at everything anyway.
    pub(super) fn drive<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state.engine);
        state.engine.take_stirred();
        self.wake(state);
        result
    }

    pub(super) fn end(&self, reason: ConnectionError) {
        self.drive(|engine| engine.end(reason));
    }

    /// Wakes whom the events concern, after the lock is given back.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let (mut acceptable, mut openable) = (false, false);
        let mut wakers = Vec::new();
        while let Some(event) = state.engine.poll_event() {
            match event {
                Event::Readable(key) => wakers.extend(state.readers.remove(&key)),
                Event::Writable(key) => wakers.extend(state.writers.remove(&key)),
                Event::Acceptable => acceptable = true,
                Event::Openable => openable = true,
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        if acceptable {
            self.acceptable.notify_waiters();
        }
        if openable {
            self.openable.notify_waiters();
        }
    }
}

/// Takes the place of an earlier waker, which is handed back to be dropped when the lock is open again.
fn watch(waiting: &mut HashMap<Key, Waker>, key: Key, cx: &Context<'_>) -> Option<Waker> {
    if waiting.get(&key).is_some_and(|waker| waker.will_wake(cx.waker())) {
        return None;
    }
    waiting.insert(key, cx.waker().clone())
}

/// What [`Connection`](crate::Connection) holds.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Control for Handle {
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                // Made before the look, so that nothing that happens after it is missed.
                let openable = shared.openable.notified();
                if let Some(key) = shared.with(|state| state.engine.open())? {
                    return Ok(Substream::stream(&shared, key));
                }
                openable.await;
            }
        })
    }

    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            loop {
                let acceptable = shared.acceptable.notified();
                if let Some(key) = shared.with(|state| state.engine.accept())? {
                    return Ok(Substream::stream(&shared, key));
                }
                acceptable.await;
            }
        })
    }

    /// mplex has no goodbye that could carry a code.
    fn close(&self, _code: ErrorCode) {
        self.0.with(|state| state.engine.close());
    }
}

struct Substream {
    shared: Arc<Shared>,
    key: Key,
    closed: bool,
}

impl Substream {
    fn stream(shared: &Arc<Shared>, key: Key) -> Stream {
        Stream::new(Self { shared: Arc::clone(shared), key, closed: false })
    }

    fn release(&self, code: Option<ErrorCode>) {
        let key = self.key;
        let waiting = self.shared.with(|state| {
            state.engine.release(key, code);
            (state.readers.remove(&key), state.writers.remove(&key))
        });
        // Dropping a waker may run foreign code, which has no business under the lock.
        drop(waiting);
    }
}

impl crate::Substream for Substream {
    fn reset(&mut self, code: ErrorCode) {
        self.release(Some(code));
    }
}

impl Drop for Substream {
    fn drop(&mut self) {
        // Without effect after a reset.
        self.release(if self.closed { None } else { Some(ErrorCode::NONE) });
    }
}

impl AsyncRead for Substream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let key = self.key;
        let (result, _old) = self.shared.with(|state| match state.engine.read(key, buf) {
            Ok(Some(_)) => (Poll::Ready(Ok(())), None),
            Ok(None) => (Poll::Pending, watch(&mut state.readers, key, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        });
        result
    }
}

impl AsyncWrite for Substream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let key = self.key;
        let (result, _old) = self.shared.with(|state| match state.engine.write(key, buf) {
            Ok(Some(n)) => (Poll::Ready(Ok(n)), None),
            Ok(None) => (Poll::Pending, watch(&mut state.writers, key, cx)),
            Err(error) => (Poll::Ready(Err(error.into())), None),
        });
        result
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is the driver's already.
        let key = self.key;
        Poll::Ready(self.shared.with(|state| state.engine.writable(key)).map_err(io::Error::from))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = self.key;
        let finished = self.shared.with(|state| state.engine.finish(key));
        self.closed = finished.is_ok();
        Poll::Ready(finished.map_err(io::Error::from))
    }
}

#[cfg(test)]
impl Shared {
    pub(super) fn probe<T>(&self, look: impl FnOnce(&Engine) -> T) -> T {
        look(&self.lock().engine)
    }
}
