use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use peerage_core::{Multiaddr, PeerId};
use tokio::task::spawn_blocking;

use super::{
    Action, Command, Engine, Input, MAX_PEERS,
    row::{self, Kept, TABLE},
};
use crate::{
    Event,
    actor::{Effects, Port, Spawn, Tasks},
    node::{AddressSource, Inner, NodeRef, Subscribed},
    store::{Batch, MAX_BATCH, Shared, Store, StoreError},
};

/// How to make the peer book's actor.
pub(crate) fn spawn(node: &Arc<Inner>) -> Spawn {
    let (own, subscriber) = (NodeRef::of(node), Some(node.book_subscription));
    Spawn::new(node.ports.book.clone(), move |birth| {
        let store = own.inner().and_then(|node| node.store.clone());
        let engine = if store.is_some() { Engine::kept() } else { Engine::new() };
        let effects =
            Performer { node: own.clone(), port: birth.port.clone(), store, tasks: Tasks::default() };
        (engine, Subscribed { effects, node: own.clone(), subscriber })
    })
}

pub(crate) struct Performer {
    node: NodeRef,
    port: Port<Engine>,
    store: Option<Shared>,
    tasks: Tasks,
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::AnswerLookup { reply, addresses } => reply.send(addresses),
            Action::AnswerKnown { reply, info } => reply.send(info),
            Action::AnswerFlush { reply } => reply.send(()),
            Action::Load => self.load(),
            Action::Write { rows } => self.write(rows),
            Action::StoreFailed { why } => {
                tracing::warn!(why, "the peer book is not kept; this node goes on from memory");
                self.emit(Event::StoreFailed { why });
            }
            Action::StoreResumed => self.emit(Event::StoreResumed),
        }
    }
}

impl Performer {
    fn load(&mut self) {
        let (Some(store), Some(unix)) = (self.store.clone(), self.unix()) else { return };
        let (node, port) = (self.node.clone(), self.port.clone());
        self.job(
            async move {
                let mut after = None;
                for _ in 0..MAX_PEERS {
                    let (store, from) = (store.clone(), after.take());
                    let page = blocking(&node, store, move |store| page(store, from, unix)).await?;
                    for (peer, kept) in &page.rows {
                        let Some(node) = node.inner() else { break };
                        node.known.remember(*peer, kept.security.as_ref(), &kept.protocols);
                    }
                    port.input(None, Input::Read { rows: page.rows })
                        .await
                        .map_err(|gone| gone.to_string())?;
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
                Ok(())
            },
            |failed| Input::Loaded { failed },
        );
    }

    fn write(&mut self, rows: Vec<(PeerId, Option<Kept>)>) {
        let (Some(store), Some(unix)) = (self.store.clone(), self.unix()) else { return };
        let node = self.node.clone();
        let job = async move { blocking(&node, store, move |store| write(store, &rows, unix)).await };
        self.job(job, |failed| Input::Written { failed });
    }

    /// Runs a job beside the actor, which is told of its end.
    fn job(
        &mut self,
        job: impl Future<Output = Result<(), String>> + 'static,
        ended: fn(Option<String>) -> Input,
    ) {
        let (port, panicked) = (self.port.clone(), self.port.clone());
        let task = async move { port.post_input(None, ended(job.await.err())) };
        self.tasks.spawn(task, move |panic| panicked.post_input(None, ended(Some(panic))));
    }

    fn unix(&self) -> Option<Duration> {
        Some(self.node.inner()?.kernel.clock.now().unix)
    }

    fn emit(&self, event: Event) {
        if let Some(node) = self.node.inner() {
            node.emit(event);
        }
    }
}

/// Uses the store on a thread that may wait for the disk, and tells the user if it was damaged.
async fn blocking<T: Send + 'static>(
    node: &NodeRef,
    store: Shared,
    job: impl FnOnce(&mut dyn Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, String> {
    let used = spawn_blocking(move || {
        let mut store = store.lock();
        let store = store.as_mut()?;
        let result = job(store.as_mut());
        Some((result, store.take_damage()))
    });
    let used = used.await.map_err(|error| error.to_string())?;
    let (result, damage) = used.ok_or("the node has ended")?;
    if let (Some(damage), Some(node)) = (damage, node.inner()) {
        tracing::warn!(moved_to = %damage.moved_to.display(), why = damage.why, "the store was damaged");
        node.emit(Event::StoreDamaged { moved_to: damage.moved_to, why: damage.why });
    }
    result.map_err(|error| error.to_string())
}

/// Some rows, and the key to go on after.
struct Page {
    rows: Vec<(PeerId, Kept)>,
    next: Option<Vec<u8>>,
}

/// Reads some rows, and deletes those of them that have expired or are none.
fn page(store: &mut dyn Store, after: Option<Vec<u8>>, unix: Duration) -> Result<Page, StoreError> {
    let found = store.scan(TABLE, after.as_deref(), PAGE)?;
    let next = if found.len() < PAGE { None } else { found.last().map(|(key, _)| key.clone()) };
    let (mut rows, mut over) = (Vec::new(), Batch::default());
    for (key, value) in found {
        let peer = PeerId::from_bytes(&key).ok();
        match peer.and_then(|peer| Some((peer, row::decode(peer, &value, unix)?))) {
            Some(row) => rows.push(row),
            None => over.delete(TABLE, &key)?,
        }
    }
    if !over.is_empty() {
        // They are no harm where they are, if it fails.
        let _ = store.write(&over);
    }
    Ok(Page { rows, next })
}

fn write(store: &mut dyn Store, rows: &[(PeerId, Option<Kept>)], unix: Duration) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for (peer, kept) in rows {
        match kept {
            Some(kept) => batch.put(TABLE, peer.as_bytes(), &row::encode(kept, unix))?,
            None => batch.delete(TABLE, peer.as_bytes())?,
        }
    }
    store.write(&batch)
}

/// Rows that are read at once.
const PAGE: usize = 64;
const _: () = assert!(PAGE <= MAX_BATCH && super::keep::WRITE_BATCH <= MAX_BATCH);

/// The book as two sources of addresses, the first that every dial asks: what this node knows for itself, and what
/// others said.
pub(crate) struct BookSource {
    pub(crate) port: Port<Engine>,
    pub(crate) hearsay: bool,
}

impl AddressSource for BookSource {
    fn name(&self) -> &'static str {
        if self.hearsay { "peer book, by hearsay" } else { "peer book" }
    }

    fn is_hearsay(&self) -> bool {
        self.hearsay
    }

    fn addresses(&self, peer: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
        let (port, hearsay) = (self.port.clone(), self.hearsay);
        Box::pin(async move {
            let asked = port.ask(|reply| Command::Lookup { peer, hearsay, reply }).await;
            asked.map_err(|gone| gone.to_string())
        })
    }
}
