//! Ctrl-C, and the like of it.

use std::{process, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{failure::Failure, logs};

/// How long a command may take to end after it was told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tells commands that they are to end. Whoever asks twice, or waits for longer than [`PATIENCE`], gets an end at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    told: watch::Receiver<bool>,
    asked: Arc<Notify>,
}

impl Interrupt {
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error| Failure::new(format!("cannot catch Ctrl-C: {error}"));
        let (told, watch) = watch::channel(false);
        let mut signals = Signals::new().map_err(failed)?;
        let asked = Arc::new(Notify::new());
        let asks = asked.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = signals.next() => {}
                () = asks.notified() => {}
            }
            told.send_replace(true);
            tokio::select! {
                () = signals.next() => {}
                () = asks.notified() => {}
                () = sleep(PATIENCE) => {}
            }
            // Nothing is dropped on this way out.
            if logs::is_held() {
                ratatui::restore();
            }
            process::exit(130);
        });
        Ok(Self { told: watch, asked })
    }

    /// Ends the command as Ctrl-C does, which a terminal in raw mode gives as a key.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Returns once the command is to end. Cancel-safe.
    pub(crate) async fn wait(&self) {
        // The sender lives in a task that never ends.
        let _ = self.told.clone().wait_for(|told| *told).await;
    }

    /// Does `work`, but no longer than until the command is to end.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.wait() => Err(Failure::Interrupted),
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The window of the terminal is closed, or the connection to it.
    hangup: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = if outlives_the_terminal() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = async { self.hangup.as_mut()?.recv().await } => {}
        }
    }
}

/// Whether whoever started this had it ignore the end of the terminal, as nohup does. To catch it would undo that.
#[cfg(unix)]
fn outlives_the_terminal() -> bool {
    use std::io::{IsTerminal as _, stdin, stdout};
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => ignores_hangup(&status),
        // Not Linux. What nohup starts has no terminal.
        Err(_) => !stdin().is_terminal() && !stdout().is_terminal(),
    }
}

/// Reads what proc(5) says of a process: a mask of signals, in hexadecimal, from SIGHUP, which is 1, upwards.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert!(!ignores_hangup("Name:\tpeerage\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("") && !ignores_hangup("SigIgn:\tnone\n"));
    }
}
