//! The chat as a full screen: what was said, who is there, and a line to type in.
//!
//! [`Model`] is all there is to see and what keys do to it, without a terminal; `draw` paints it. The task here reads
//! keys, and draws when something has changed.

mod draw;
mod edit;
mod model;
mod wrap;

pub(super) use model::{Bar, Entry, Model, Reaction};

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use ratatui::backend::CrosstermBackend;
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
    painting: Arc<Mutex<Option<Terminal>>>,
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
        let terminal = Terminal::take().map_err(failed)?;
        let screen = Self { model: Arc::new(Mutex::new(model)), changed: Arc::new(Notify::new()) };
        let (typed, lines) = mpsc::channel(AHEAD);
        let painting = Arc::new(Mutex::new(Some(terminal)));
        let task = tokio::spawn(screen.clone().run(painting.clone(), typed, interrupt.clone()));
        Ok((screen, Running { task, painting }, lines))
    }

    /// Changes what is to see.
    pub(super) fn update(&self, change: impl FnOnce(&mut Model)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// The same, if it changed anything.
    pub(super) fn update_if(&self, change: impl FnOnce(&mut Model) -> bool) {
        if change(&mut self.lock()) {
            self.changed.notify_one();
        }
    }

    async fn run(
        self,
        painting: Arc<Mutex<Option<Terminal>>>,
        typed: mpsc::Sender<String>,
        interrupt: Interrupt,
    ) {
        let mut typed = Some(typed);
        let mut keys = EventStream::new();
        loop {
            let drawn = match &mut *painting.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(terminal) => terminal.draw(&mut self.lock()),
                None => return,
            };
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
        self.task.abort();
        // A picture that is being painted is finished first, and none comes after it.
        drop(self.painting.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// The terminal while it is a screen. Dropped, it is given back, and then shows what was logged meanwhile.
///
/// Not by `ratatui::init`, which would give it back in the middle of the chat at every panic, also those that the node
/// survives.
struct Terminal {
    terminal: ratatui::Terminal<CrosstermBackend<io::Stdout>>,
    _restore: Restore,
}

impl Terminal {
    fn take() -> io::Result<Self> {
        let restore = Restore(logs::hold());
        crossterm::terminal::enable_raw_mode()?;
        crossterm::execute!(io::stdout(), crossterm::terminal::EnterAlternateScreen)?;
        let terminal = ratatui::Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(Self { terminal, _restore: restore })
    }

    fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, model)).map(drop)
    }
}

struct Restore(#[allow(dead_code, reason = "its drop is its use")] logs::Held);

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
