//! What keeps a panic within quinn from spreading.
//!
//! quinn's state stands behind locks, whose holder's panic poisons them, and its destructors take those locks: the
//! destructor panics as well, and that in the middle of a panic ends the process. So what panicked is never dropped here,
//! but forgotten. That loses the memory of one connection, or of one socket; nothing else does.

use std::{
    any::Any,
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use futures::future::BoxFuture;

/// What a panic said.
pub(super) type Panic = Box<dyn Any + Send>;

/// Does what may panic; `None` if it did.
pub(super) fn contain<T>(act: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(act)).ok()
}

/// A driver of quinn's, that gives the panic it ends with.
pub(super) struct Contained(Option<BoxFuture<'static, ()>>);

impl Contained {
    pub(super) fn new(driver: BoxFuture<'static, ()>) -> Self {
        Self(Some(driver))
    }

    /// What is left in the place of one that goes on elsewhere.
    pub(super) fn gone() -> Self {
        Self(None)
    }
}

impl Future for Contained {
    type Output = Result<(), Panic>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(driver) = &mut self.0 else {
            return Poll::Ready(Ok(()));
        };
        match catch_unwind(AssertUnwindSafe(|| driver.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.0 = None;
                Poll::Ready(Ok(()))
            }
            Err(panic) => {
                mem::forget(self.0.take());
                Poll::Ready(Err(panic))
            }
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let driver = self.0.take();
        contain(|| drop(driver));
    }
}
