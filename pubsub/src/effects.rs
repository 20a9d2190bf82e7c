use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use peerage_core::{PeerId, envelope::Envelope, peer_record::PeerRecord};
use peerage_host::{ConnectOptions, Effects, NodeRef, Port, actor::Tasks};
use tokio::{
    task::{AbortHandle, spawn_blocking, yield_now},
    time::timeout,
};

use crate::{
    codec::{Control, Exchanged, Prune, WireMessage},
    engine::{Action, Engine, Input},
    message::Message,
    queue::{Lane, Pushed, Queue},
    session,
    shared::Shared,
    signing,
    topic::Topic,
    validator::Verdict,
};

/// Peers of which others told that are connected with at once; of more than that is not heard.
pub const MAX_CONNECTING: usize = 16;
/// How long such a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How much a peer in a mesh is worth to the connection manager.
const MESH_VALUE: i32 = 20;
/// The manager's tag for it.
const TAG: &str = "gossipsub";
/// Signatures that are verified on the actor's thread before another gets its turn, and that are reported together.
const VERIFY_BUDGET: usize = 4;
/// When more than so many wait, threads that may block help.
const BACKLOG: usize = 8;
/// Signatures that one of them verifies at a time.
const BATCH: usize = 16;
/// How many of them help at once.
const HELPERS: usize = 4;

/// Performs what the engine asks for: owns the streams to peers.
pub(crate) struct Performer {
    shared: Arc<Shared>,
    node: NodeRef,
    port: Port<Engine>,
    tasks: Tasks,
    streams: BTreeMap<PeerId, Outbound>,
    verifier: Rc<RefCell<Verifier>>,
    connecting: Rc<RefCell<usize>>,
}

struct Outbound {
    task: AbortHandle,
    queue: Queue,
}

#[derive(Default)]
struct Verifier {
    waiting: VecDeque<Job>,
    running: bool,
    helpers: usize,
}

/// A signature to verify: by which ticket, from whom, of what.
type Job = (u64, PeerId, Arc<WireMessage>);

impl Performer {
    pub(crate) fn new(shared: Arc<Shared>, node: NodeRef, port: Port<Engine>) -> Self {
        let (verifier, connecting) = (Rc::default(), Rc::default());
        Self { shared, node, port, tasks: Tasks::default(), streams: BTreeMap::new(), verifier, connecting }
    }

    fn open(&mut self, peer: PeerId, session: u64, queue: Queue) {
        self.close(peer);
        let versions = self.shared.config.versions.clone();
        let talking =
            session::talk(self.node.clone(), self.port.clone(), peer, session, versions, queue.clone());
        let port = self.port.clone();
        let task = async move {
            let Err(ended) = talking.await else { return };
            tracing::debug!(%peer, why = ended.why, "no stream to a peer");
            let unsupported = ended.unsupported;
            let _ = port.input(Some(peer), Input::LinkFailed { peer, session, unsupported }).await;
        };
        let port = self.port.clone();
        let task = self.tasks.spawn(task, move |_| {
            port.post_input(Some(peer), Input::LinkFailed { peer, session, unsupported: false });
        });
        self.streams.insert(peer, Outbound { task, queue });
    }

    fn close(&mut self, peer: PeerId) {
        if let Some(stream) = self.streams.remove(&peer) {
            stream.task.abort();
        }
    }

    /// Verifies a few signatures at a time beside the mail; when many wait, other threads help.
    fn verify(&mut self, job: Job) {
        let mut verifier = self.verifier.borrow_mut();
        verifier.waiting.push_back(job);
        if verifier.waiting.len() > BACKLOG && verifier.helpers < HELPERS {
            verifier.helpers = verifier.helpers.saturating_add(1);
            let (shared, port) = (self.verifier.clone(), self.port.clone());
            let panicked = self.verifier.clone();
            self.tasks.spawn(help(shared, port), move |_| panicked.borrow_mut().helpers = 0);
        }
        if !verifier.running {
            verifier.running = true;
            let (shared, port) = (self.verifier.clone(), self.port.clone());
            let panicked = self.verifier.clone();
            self.tasks.spawn(verify_here(shared, port), move |_| panicked.borrow_mut().running = false);
        }
    }

    fn validate(&mut self, ticket: u64, message: Message) {
        let port = self.port.clone();
        let Some(validator) = self.shared.validator(&message.topic) else {
            // Taken away meanwhile.
            port.post_input(
                Some(message.received_from),
                Input::Validated { ticket, verdict: Verdict::Accept },
            );
            return;
        };
        let peer = message.received_from;
        let panicked = port.clone();
        let task = async move {
            let judging = (validator.judge)(message);
            let verdict = timeout(validator.options.timeout, judging).await.unwrap_or(Verdict::Ignore);
            let _ = port.input(Some(peer), Input::Validated { ticket, verdict }).await;
        };
        self.tasks.spawn(task, move |panic| {
            tracing::warn!(%peer, panic, "a validator panicked");
            panicked.post_input(Some(peer), Input::Validated { ticket, verdict: Verdict::Ignore });
        });
    }

    /// Connects with a peer that another one has named, if what it signed says where it is.
    fn connect(&mut self, peer: PeerId, record: Option<Bytes>) {
        let Some(place) = Place::take(&self.connecting) else { return };
        let node = self.node.clone();
        let task = async move {
            let _place = place;
            let Some(node) = node.get() else { return };
            let mut options = ConnectOptions::default();
            options.timeout = CONNECT_TIMEOUT;
            if let Some(record) = record {
                let Some(record) = open_record(&record, peer) else { return };
                options.hearsay = record.addresses().to_vec();
            }
            let _ = node.connect_with(peer, options).await;
        };
        self.tasks.spawn(task, |_| {});
    }

    fn exchange(
        &mut self,
        (peer, session): (PeerId, u64),
        queue: Queue,
        topic: Topic,
        backoff: Duration,
        others: Vec<PeerId>,
    ) {
        let (node, port) = (self.node.clone(), self.port.clone());
        let task = async move {
            let Some(node) = node.get() else { return };
            let mut peers = Vec::new();
            for peer in others {
                let record = node.peer(peer).await.and_then(|known| known.record);
                peers.push(Exchanged { peer, record });
            }
            let mut control = Control::default();
            control.prune(&Prune { topic, peers, backoff: Some(backoff.as_secs()) });
            for frame in control.finish() {
                if matches!(queue.control(Lane::Control, frame), Pushed::Full | Pushed::NoMemory) {
                    // Not told, the peer would stay: its stream begins anew.
                    port.post_input(Some(peer), Input::LinkFailed { peer, session, unsupported: false });
                }
            }
            queue.wake();
        };
        self.tasks.spawn(task, |_| {});
    }
}

/// A place among those that are being connected with.
struct Place(Rc<RefCell<usize>>);

impl Place {
    fn take(of: &Rc<RefCell<usize>>) -> Option<Self> {
        let mut count = of.borrow_mut();
        let taken = count.saturating_add(1);
        (taken <= MAX_CONNECTING).then(|| {
            *count = taken;
            Self(of.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut count = self.0.borrow_mut();
        *count = count.saturating_sub(1);
    }
}

fn open_record(bytes: &[u8], peer: PeerId) -> Option<PeerRecord> {
    let record = PeerRecord::open(&Envelope::decode(bytes).ok()?).ok()?;
    (record.peer_id() == peer).then_some(record)
}

async fn verify_here(verifier: Rc<RefCell<Verifier>>, port: Port<Engine>) {
    loop {
        for _ in 0..VERIFY_BUDGET {
            let next = verifier.borrow_mut().waiting.pop_front();
            let Some((ticket, peer, message)) = next else {
                verifier.borrow_mut().running = false;
                return;
            };
            // What follows is charged to who sent the message.
            port.post_input(Some(peer), Input::Verified { ticket, result: signing::verify(&message) });
        }
        yield_now().await;
    }
}

async fn help(verifier: Rc<RefCell<Verifier>>, port: Port<Engine>) {
    loop {
        let batch: Vec<_> = {
            let mut verifier = verifier.borrow_mut();
            if verifier.waiting.len() <= BACKLOG / 2 {
                verifier.helpers = verifier.helpers.saturating_sub(1);
                return;
            }
            let count = verifier.waiting.len().min(BATCH);
            verifier.waiting.drain(..count).collect()
        };
        let port = port.clone();
        // A panic in it would be the cryptography's; those messages are never accepted then.
        let _ = spawn_blocking(move || {
            let mut batch = batch.into_iter();
            loop {
                let some = batch.by_ref().take(VERIFY_BUDGET);
                let some: Vec<_> =
                    some.map(|(ticket, peer, message)| (ticket, peer, signing::verify(&message))).collect();
                if some.is_empty() {
                    break;
                }
                // Told together: each that comes alone wakes the actor's thread, and that wakes a subscriber's.
                for (ticket, peer, result) in some {
                    port.post_input(Some(peer), Input::Verified { ticket, result });
                }
            }
        })
        .await;
    }
}

impl Effects<Action> for Performer {
    fn born(&mut self, generation: u64) {
        self.shared.life.send_replace(generation);
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Open { peer, session, queue } => self.open(peer, session, queue),
            Action::Close { peer } => self.close(peer),
            Action::Flush { peer } => {
                if let Some(stream) = self.streams.get(&peer) {
                    stream.queue.wake();
                }
            }
            Action::Verify { ticket, peer, message } => self.verify((ticket, peer, message)),
            Action::Validate { ticket, message } => self.validate(ticket, message),
            Action::Deliver(message) => self.shared.deliver(&message),
            Action::DeliverPartial(received) => self.shared.deliver_partial(&received),
            Action::Connect { peer, record } => self.connect(peer, record),
            Action::ConnectDirect { peer, addresses } => {
                let node = self.node.clone();
                let task = async move {
                    let Some(node) = node.get() else { return };
                    let mut options = ConnectOptions::default();
                    options.addresses = addresses;
                    let _ = node.connect_with(peer, options).await;
                };
                self.tasks.spawn(task, |_| {});
            }
            Action::Exchange { peer, session, queue, topic, backoff, others } => {
                self.exchange((peer, session), queue, topic, backoff, others);
            }
            Action::InMesh { peer, any } => {
                let Some(node) = self.node.get() else { return };
                if any {
                    let _ = node.tag(peer, TAG, MESH_VALUE);
                } else {
                    node.untag(peer, TAG);
                }
            }
            Action::Event(event) => {
                // Nobody may be watching.
                let _ = self.shared.events.send(event);
            }
            Action::Stats(stats) => self.shared.counted(*stats),
            Action::Published { reply, result } => reply.send(result),
            Action::PublishedPartial { reply, result } => reply.send(result),
            Action::AnswerPeers { reply, peers } => reply.send(peers),
            Action::AnswerScored { reply, result } => reply.send(result),
            Action::AnswerScore { reply, score } => reply.send(score),
        }
    }
}

impl Drop for Performer {
    fn drop(&mut self) {
        let lost = self.streams.values().map(|stream| stream.queue.len()).sum();
        self.shared.life_ended(lost);
    }
}
