//! The chat as a full screen: what was said, who is there, and a line to type in.
//!
//! [`Model`] is all there is to see and what keys do to it, without a terminal; `draw` paints it. The task here reads
//! keys, and draws when something has changed.

mod draw;
mod edit;
mod model;
mod wrap;

pub(super) use model::{Entry, Model, Reaction};

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{failure::Failure, interrupt::Interrupt, logs};

/// Lines that were typed and not taken yet. The next one stays in the input.
const AHEAD: usize = 16;
/// The least time between two pictures: a flood of lines shall not make the terminal the slowest part.
const FRAME: Duration = Duration::from_millis(33);

/// The screen. Cheap to clone; it goes with the last of [`Running`].
#[derive(Clone)]
pub(super) struct Screen {
    model: Arc<Mutex<Model>>,
    changed: Arc<Notify>,
}

/// The task that owns the terminal. Dropped, it gives the terminal back.
pub(super) struct Running {
    task: JoinHandle<()>,
    _terminal: Restore,
}

impl Screen {
    /// Whether there is a terminal on both sides, and one that can be painted on.
    pub(super) fn is_possible() -> bool {
        let painted = std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        io::stdin().is_terminal() && io::stdout().is_terminal() && painted
    }

    /// Takes the terminal. What is typed comes out of the receiver, which closes with Ctrl-D.
    pub(super) fn start(
        model: Model,
        interrupt: &Interrupt,
    ) -> Result<(Self, Running, mpsc::Receiver<String>), Failure> {
        let failed = |error| {
            Failure::new(format!("cannot use the terminal: {error}")).hint("--plain chats without a screen")
        };
        let terminal = ratatui::try_init().map_err(failed)?;
        let restore = Restore(logs::hold());
        let screen = Self { model: Arc::new(Mutex::new(model)), changed: Arc::new(Notify::new()) };
        let (typed, lines) = mpsc::channel(AHEAD);
        let task = tokio::spawn(screen.clone().run(terminal, typed, interrupt.clone()));
        Ok((screen, Running { task, _terminal: restore }, lines))
    }

    /// Changes what is to see.
    pub(super) fn update(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    async fn run(self, mut terminal: DefaultTerminal, typed: mpsc::Sender<String>, interrupt: Interrupt) {
        let mut typed = Some(typed);
        let mut keys = EventStream::new();
        loop {
            let drawn = terminal.draw(|frame| draw::draw(frame, &mut self.lock())).map(drop);
            let next = Instant::now() + FRAME;
            let event = tokio::select! {
                event = keys.next() => event,
                () = self.changed.notified() => {
                    sleep_until(next).await;
                    continue;
                }
            };
            // A terminal that is gone ends the chat, as Ctrl-C does.
            let (Ok(()), Some(Ok(event))) = (drawn, event) else {
                interrupt.ask();
                return;
            };
            let Event::Key(key) = event else { continue };
            if key.kind == KeyEventKind::Release {
                continue;
            }
            let reaction = self.lock().key(key);
            match reaction {
                Reaction::None => {}
                Reaction::Say(line) => {
                    let sent = typed.as_ref().map(|typed| typed.try_send(line));
                    if let Some(Err(error)) = sent {
                        self.lock().unsaid(error.into_inner());
                    }
                }
                Reaction::Leave => typed = None,
                Reaction::Interrupt => interrupt.ask(),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It waits for keys, and draws no more once it is aborted: drawing has no await inside.
        self.task.abort();
    }
}

/// Gives the terminal back, and then what was logged meanwhile.
struct Restore(#[allow(dead_code, reason = "its drop is its use")] logs::Held);

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
