use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::sync::Semaphore;

/// What stands at a place of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActorKind {
    /// Starts, watches and restarts the actors below it.
    Supervisor,
    /// An actor.
    Actor,
}

/// How an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActorState {
    /// At work.
    Running,
    /// Waiting to be started again.
    Restarting,
    /// Its restart budget is spent; it stays off.
    Off,
}

/// One place of the tree.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ActorInfo {
    /// Its path: `protocols/ping`.
    pub path: String,
    /// What it is.
    pub kind: ActorKind,
    /// How it is.
    pub state: ActorState,
    /// How often it was started, in place or anew; the first start counts.
    pub generation: u64,
    /// How often it panicked.
    pub panics: u64,
    /// What the last panic said.
    pub last_panic: Option<String>,
    /// Mail that is waiting or being handled.
    pub queue: usize,
}

/// The tree as it was at one moment, in order of path. `Display` draws it.
#[derive(Clone, Debug)]
pub struct TreeSnapshot(pub Vec<ActorInfo>);

/// The live tree of a node: every supervisor and actor enters itself here.
#[derive(Clone, Default)]
pub(crate) struct Tree(Arc<Mutex<BTreeMap<String, Entry>>>);

struct Entry {
    kind: ActorKind,
    state: ActorState,
    generation: u64,
    panics: u64,
    last_panic: Option<String>,
    credits: Option<(Weak<Semaphore>, usize)>,
}

/// Takes the entry out of the tree when it is dropped.
pub(crate) struct Place {
    tree: Tree,
    path: String,
}

impl Tree {
    /// Enters an actor, or counts one more start of it.
    pub(crate) fn started(&self, path: &str, kind: ActorKind, credits: Option<(Weak<Semaphore>, usize)>) {
        let mut map = self.lock();
        let entry = map.entry(path.to_owned()).or_insert(Entry {
            kind,
            state: ActorState::Running,
            generation: 0,
            panics: 0,
            last_panic: None,
            credits: None,
        });
        entry.state = ActorState::Running;
        entry.generation = entry.generation.saturating_add(1);
        if credits.is_some() {
            entry.credits = credits;
        }
    }

    /// For an actor that leaves the tree at its end: it does when the place is dropped.
    pub(crate) fn place(&self, path: String) -> Place {
        Place { tree: self.clone(), path }
    }

    pub(crate) fn panicked(&self, path: &str, text: &str) {
        if let Some(entry) = self.lock().get_mut(path) {
            entry.panics = entry.panics.saturating_add(1);
            entry.last_panic = Some(text.to_owned());
        }
    }

    pub(crate) fn state(&self, path: &str, state: ActorState) {
        if let Some(entry) = self.lock().get_mut(path) {
            entry.state = state;
        }
    }

    pub(crate) fn snapshot(&self) -> TreeSnapshot {
        let info = |(path, entry): (&String, &Entry)| ActorInfo {
            path: path.clone(),
            kind: entry.kind,
            state: entry.state,
            generation: entry.generation,
            panics: entry.panics,
            last_panic: entry.last_panic.clone(),
            queue: entry
                .credits
                .as_ref()
                .and_then(|(credits, all)| Some(all.saturating_sub(credits.upgrade()?.available_permits())))
                .unwrap_or(0),
        };
        TreeSnapshot(self.lock().iter().map(info).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tree.lock().remove(&self.path);
    }
}

impl TreeSnapshot {
    /// The actor at `path`.
    pub fn at(&self, path: &str) -> Option<&ActorInfo> {
        self.0.iter().find(|info| info.path == path)
    }
}

impl fmt::Display for TreeSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for info in &self.0 {
            let depth = info.path.matches('/').count();
            let name = info.path.rsplit('/').next().unwrap_or(&info.path);
            let state = match info.state {
                ActorState::Running => "running",
                ActorState::Restarting => "restarting",
                ActorState::Off => "OFF",
            };
            let label = format!("{:indent$}{name}", "", indent = depth.saturating_mul(2));
            write!(f, "{label:<32} {state:<10} starts {:<3} queue {:<3}", info.generation, info.queue)?;
            if info.panics > 0 {
                write!(f, " panics {}", info.panics)?;
            }
            if let Some(text) = &info.last_panic {
                write!(f, ", the last: {text}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
