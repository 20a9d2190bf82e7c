//! What drivers tell the thread that they run on: that somebody may be about to answer.
//!
//! A conversation of short messages lives by how soon each is noticed. Everything else, bulk and crowds of streams, lives by
//! how much is done at once, and gains when the thread sleeps while more comes together. A driver knows which of them it has.

use std::cell::Cell;

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// A driver has moved a short message, and little else goes on in its connection.
pub fn expect() {
    ASKED.set(true);
}

/// Whether a driver on this thread has expected something since the last asking.
pub fn take() -> bool {
    ASKED.take()
}
