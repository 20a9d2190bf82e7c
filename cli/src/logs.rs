//! What is logged, on standard error; kept back while a screen is shown, which it would scribble on.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// Pieces of log that are kept back; the oldest go first.
const KEPT: usize = 1000;

/// `Some` while a screen is shown.
static BACK: Mutex<Option<VecDeque<Vec<u8>>>> = Mutex::new(None);

/// Begins to log. PEERAGE_LOG says what.
pub(crate) fn install() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .with_env_var("PEERAGE_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

/// Keeps logs back until what is returned is dropped. One at a time.
pub(crate) fn hold() -> Held {
    *lock() = Some(VecDeque::new());
    Held(())
}

/// Whether there is a screen, which has to be given back.
pub(crate) fn is_held() -> bool {
    lock().is_some()
}

/// While it is there, nothing is logged to the terminal.
#[derive(Debug)]
pub(crate) struct Held(());

impl Drop for Held {
    fn drop(&mut self) {
        let kept = lock().take().unwrap_or_default();
        let mut err = io::stderr().lock();
        for piece in kept {
            // Nobody to tell is fine.
            let _ = err.write_all(&piece);
        }
    }
}

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *lock() {
            Some(kept) => {
                if kept.len() >= KEPT {
                    kept.pop_front();
                }
                kept.push_back(bytes.to_vec());
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn lock() -> MutexGuard<'static, Option<VecDeque<Vec<u8>>>> {
    BACK.lock().unwrap_or_else(PoisonError::into_inner)
}
