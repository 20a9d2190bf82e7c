use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use peerage_core::{Multiaddr, PeerId, ProtocolId, engine};
use peerage_muxer::ErrorCode;
use peerage_transport::{
    DialOpts, Early, Fault, Progress, Stage, TransportError, dns,
    upgrade::{Belief, UpgradeError, UpgradeErrorKind},
};
use tokio::{task::AbortHandle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{Instrument as _, Span, debug_span, field};

use super::{Action, AttemptId, DialId, EarlySent, Engine, Failed, Input, Trust, Won, screen::NodeScreen};
use crate::{
    Gone,
    actor::{Effects, Port, Spawn, Tasks, panic_text},
    book,
    conn::Candidate,
    hub::{self, Refused},
    limits::{Direction, NotAdmitted},
    listen,
    node::{Inner, early::Carried},
    reply::Reply,
    upgrade::{self, Outbound, Upgraded},
};

/// How to make the dialer's actor.
pub(crate) fn spawn(node: &Arc<Inner>) -> Spawn {
    let node = node.clone();
    Spawn::new(node.ports.dialer.clone(), move |birth| {
        let performer = Performer {
            node: node.clone(),
            port: birth.port.clone(),
            tasks: Tasks::default(),
            attempts: BTreeMap::new(),
        };
        let screen = Box::new(NodeScreen::new(&node));
        (Engine::new(node.local, birth.first_id(), screen, engine::rng(rand::random())), performer)
    })
}

pub(crate) struct Performer {
    node: Arc<Inner>,
    port: Port<Engine<Candidate>>,
    tasks: Tasks,
    attempts: BTreeMap<AttemptId, AbortHandle>,
}

impl Effects<Action<Candidate>> for Performer {
    fn perform(&mut self, action: Action<Candidate>) {
        match action {
            Action::AskSources { dial, peer, deadline } => self.ask_sources(dial, peer, deadline.into()),
            Action::Attempt { attempt, address, expected, how, deadline } => {
                let mut opts = DialOpts::new(deadline.into());
                opts.expected = expected;
                opts.role_override = how.role;
                opts.reuse_listen_port = how.reuse_listen_port;
                self.attempt(attempt, address, opts);
            }
            Action::Resolve { attempt, address, deadline } => self.resolve(attempt, address, deadline.into()),
            Action::Abort { attempt } => {
                if let Some(task) = self.attempts.remove(&attempt) {
                    task.abort();
                }
            }
            Action::Adopt { dial, connection, .. } => self.adopt(dial, connection),
            Action::Discard { connection } => {
                let Candidate { established, lease, .. } = connection;
                self.node.refuse(established.muxed, ErrorCode::SUPPLANTED, lease.into_place());
            }
            Action::Answer { reply, result } => reply.send(result),
        }
    }
}

impl Performer {
    fn ask_sources(&mut self, dial: DialId, peer: PeerId, deadline: Instant) {
        let port = self.port.clone();
        let (node, sources) = (self.node.clone(), self.node.address_sources());
        let asking = async move {
            let asked = sources.into_iter().map(|source| {
                let (node, port) = (node.clone(), port.clone());
                async move {
                    let (name, trust) = (source.name(), trust(source.is_hearsay()));
                    // A source that panics is one that says nothing; the others are asked all the same.
                    let asked = AssertUnwindSafe(async move { source.addresses(peer).await }).catch_unwind();
                    let said = match tokio::time::timeout_at(deadline, asked).await {
                        Ok(Ok(said)) => said,
                        Ok(Err(panic)) => {
                            let panic = panic_text(panic.as_ref());
                            node.panicked(format!("address source {name}"), panic.clone(), None);
                            Err(format!("it panicked: {panic}"))
                        }
                        Err(_) => Err("it took longer than the dial".to_owned()),
                    };
                    let hearsay = trust == Trust::Hearsay;
                    if let Ok(addresses) = &said
                        && hearsay
                    {
                        node.interfaces.refresh_for(addresses).await;
                    }
                    // A panic over what others say of a peer is most likely that peer's doing, and not this node's.
                    let from = hearsay.then_some(peer);
                    port.post_input(from, Input::SourceSaid { dial, source: name, trust, said });
                }
            });
            futures::future::join_all(asked).await;
            port.post_input(None, Input::SourcesDone { dial });
        };
        let (node, port) = (self.node.clone(), self.port.clone());
        self.tasks.spawn(asking, move |panic| {
            node.panicked("core/dialer/sources".to_owned(), panic, None);
            port.post_input(None, Input::SourcesDone { dial });
        });
    }

    fn resolve(&mut self, attempt: AttemptId, address: Multiaddr, deadline: Instant) {
        let (resolver, port) = (self.node.resolver.clone(), self.port.clone());
        // Whoever answers for a name, answers for its peer.
        let peer = address.peer_id();
        let task = {
            let port = port.clone();
            async move {
                let found = |addresses| port.post_input(peer, Input::Resolved { attempt, addresses });
                let resolved = dns::resolve(resolver.as_ref(), &address, deadline, found).await;
                let result = resolved.map_err(|error| unresolved(error.to_string(), error.fault()));
                port.post_input(peer, Input::ResolveEnded { attempt, result });
            }
        };
        let node = self.node.clone();
        let handle = self.tasks.spawn(task, move |panic| {
            node.panicked("core/dialer/resolver".to_owned(), panic.clone(), None);
            let result = Err(unresolved(format!("it panicked: {panic}"), Fault::Local));
            port.post_input(None, Input::ResolveEnded { attempt, result });
        });
        self.keep(attempt, handle);
    }

    fn attempt(&mut self, attempt: AttemptId, address: Multiaddr, opts: DialOpts) {
        let expected = opts.expected;
        let (node, port) = (self.node.clone(), self.port.clone());
        // The report reads the stage when the attempt is cut off, so the engine is told of each.
        let progress = Arc::new(Progress::telling({
            let port = port.clone();
            move |stage| port.post_input(None, Input::AttemptStage { attempt, stage })
        }));
        let span = debug_span!("attempt", %address, peer = expected.map(field::display));
        let task = {
            let (port, progress, tried) = (port.clone(), progress.clone(), address.clone());
            let attempting = async move {
                let early = |early| {
                    node.counters.early(&early);
                    port.post_input(expected, Input::AttemptEarly { attempt, early });
                };
                let result = connect(&node, address, opts, &progress, &early).await;
                let stage = result.as_ref().map_or_else(|failed| failed.stage, |_| Stage::Muxer);
                node.counters.dialed(result.is_ok(), stage);
                let (peer, result) = match result {
                    Ok(won) => (Some(won.peer), Ok(won)),
                    Err(failed) => {
                        if let Some(peer) = expected
                            && failed.fault != Fault::Local
                        {
                            node.ports.book.post(book::Command::Failed { peer, address: tried });
                        }
                        (None, Err(failed))
                    }
                };
                port.post_input(peer, Input::AttemptEnded { attempt, result });
            };
            attempting.instrument(span)
        };
        let node = self.node.clone();
        let handle = self.tasks.spawn(task, move |panic| {
            // Charged to nobody: who answered there has not proven who it is.
            node.panicked("core/dialer/attempt".to_owned(), panic.clone(), None);
            let stage = progress.stage();
            let error = format!("it panicked: {panic}");
            let failed = Failed { stage, error, fault: Fault::Local, found: None };
            port.post_input(None, Input::AttemptEnded { attempt, result: Err(failed) });
        });
        self.keep(attempt, handle);
    }

    fn keep(&mut self, attempt: AttemptId, task: AbortHandle) {
        self.attempts.retain(|_, task| !task.is_finished());
        self.attempts.insert(attempt, task);
    }

    fn adopt(&self, dial: DialId, connection: Candidate) {
        let info = connection.info.clone();
        let port = self.port.clone();
        let reply = OwedAdoption { port: Some(port), dial };
        let reply = Reply::new(move |result| reply.keep(result));
        self.node.ports.hub.post_for(info.peer, hub::Command::Admit { info, connection, reply: Some(reply) });
    }
}

fn trust(hearsay: bool) -> Trust {
    if hearsay { Trust::Hearsay } else { Trust::Own }
}

fn unresolved(error: String, fault: Fault) -> Failed {
    Failed { stage: Stage::Dns, error, fault, found: None }
}

/// The host's answer is owed to the dialer even if the host panics over the question: then the dial fails.
struct OwedAdoption {
    port: Option<Port<Engine<Candidate>>>,
    dial: DialId,
}

impl OwedAdoption {
    fn keep(mut self, result: Result<crate::ConnectionId, Refused>) {
        if let Some(port) = self.port.take() {
            port.post_input(None, Input::Adopted { dial: self.dial, result });
        }
    }
}

impl Drop for OwedAdoption {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            port.post_input(None, Input::Adopted { dial: self.dial, result: Err(Refused::Interrupted) });
        }
    }
}

async fn connect(
    node: &Arc<Inner>,
    address: Multiaddr,
    opts: DialOpts,
    progress: &Arc<Progress>,
    told: &dyn Fn(EarlySent),
) -> Result<Won<Candidate>, Failed> {
    let failed =
        |stage, error: &dyn ToString, fault| Failed { stage, error: error.to_string(), fault, found: None };
    let local = |error: &dyn ToString| failed(progress.stage(), error, Fault::Local);

    let transport = node.transport(|transport| transport.dials(&address));
    let transport = transport.ok_or_else(|| local(&"no transport of this node dials such an address"))?;
    if node.upgrader.is_private() && transport.object.brings_security() {
        return Err(local(&TransportError::NotPrivate(address)));
    }
    // Attempts over the limit wait for their turn; the dialer ends them by their deadline.
    let _turn = node.outbound_turns.acquire().await.map_err(|closed| local(&closed))?;
    // Most peers take what they took the last time; of others, what this node likes best. Guessing right saves a round trip.
    let known = opts.expected.and_then(|peer| node.known.security(peer));
    let (first, others) = node.guess(known);
    let guess = DialOpts { belief: first.clone().map_or(Belief::None, Belief::Takes), ..opts.clone() };
    let offer = opts.expected.filter(|peer| transport.object.may_be_early(*peer));
    let offer = offer.and_then(|peer| node.offers.take(peer));
    let early = offer.as_ref().map(|offer| offer.data.clone());
    let lazy = DialOpts { early, ..guess.clone() };
    let secured = match secure(node, &transport.port, &address, lazy, progress).await {
        // Once, and without: with the session gone, there is nothing to send them with.
        Err(Unsecured::Failed(failed)) if offer.is_some() && may_be_over_early_data(&failed) => {
            told(EarlySent::Failed { error: failed.error });
            secure(node, &transport.port, &address, guess, progress).await
        }
        secured => secured,
    };
    let unclaimed = match (secured, first) {
        (Err(Unsecured::Refused(error)), Some(refused)) if others => {
            tracing::debug!(error, %refused, "the peer is asked for another security protocol");
            opts.expected.inspect(|peer| node.known.misled(*peer));
            let opts = DialOpts { belief: Belief::Refuses(refused), ..opts };
            secure(node, &transport.port, &address, opts, progress).await
        }
        (result, _) => result,
    };
    let unclaimed = unclaimed.map_err(|unsecured| match unsecured {
        Unsecured::Failed(failed) => failed,
        Unsecured::Refused(_) => failed(Stage::Security, &NOTHING_IN_COMMON, Fault::Remote),
    })?;
    let Some(Upgraded { mut established, lease, berth }) = unclaimed.claim() else {
        return Err(local(&"the connection is gone"));
    };
    let early = established.resumption.early.take();
    match &early {
        Some(Early::Taken(_)) => told(EarlySent::Taken),
        Some(_) => told(EarlySent::Refused),
        None => {}
    }

    let info = node.info(&established, Direction::Outbound);
    tracing::debug!(connection = %info.id, peer = %info.peer, "secured and multiplexed");
    let peer = info.peer;
    if let Err(gated) = node.gate(|gater| gater.secured(&info)) {
        node.refuse(established.muxed, ErrorCode::GATED, lease.into_place());
        return Err(failed(Stage::Muxer, &gated, Fault::Local));
    }
    match lease.admit(peer, info.id) {
        Ok(lease) => {
            if let (Some(Early::Taken(stream)), Some(offer)) = (early, offer) {
                // Who offered it may not wait any more.
                let _ = offer.reply.send(Carried { connection: info.id, stream });
            }
            Ok(Won { peer, connection: Candidate { info, established, lease, berth, begun: None } })
        }
        Err(NotAdmitted { error, place }) => {
            node.refuse(established.muxed, ErrorCode::RESOURCE_LIMIT_EXCEEDED, place);
            Err(failed(Stage::Muxer, &error, Fault::Local))
        }
    }
}

impl Inner {
    /// The security protocol to begin with, and whether there are others.
    fn guess(&self, known: Option<ProtocolId>) -> (Option<ProtocolId>, bool) {
        let ours = self.upgrader.security();
        let known = known.filter(|known| ours.iter().any(|one| one.protocol() == *known));
        (known.or_else(|| ours.first().map(|one| one.protocol())), ours.len() > 1)
    }
}

/// Whether an attempt that carried early data may have failed because of that: a peer that is there did not want it.
fn may_be_over_early_data(failed: &Failed) -> bool {
    failed.fault == Fault::Remote && failed.found.is_none()
}

/// A link to `address`, secured and multiplexed.
async fn secure(
    node: &Arc<Inner>,
    transport: &Port<listen::Engine<listen::Dial>>,
    address: &Multiaddr,
    opts: DialOpts,
    progress: &Arc<Progress>,
) -> Result<Unclaimed, Unsecured> {
    let failed =
        |stage, error: &dyn ToString, fault| Failed { stage, error: error.to_string(), fault, found: None };
    let local = |error: &dyn ToString| failed(progress.stage(), error, Fault::Local);

    let now = node.kernel.clock.now();
    let lease = node.ledger.handshake(Direction::Outbound, address, now).map_err(|limit| local(&limit))?;

    progress.enter(Stage::Connect);
    // Whatever happens to this task, neither the transport nor the upgrade goes on for nobody.
    let (cancelled, _guard) = cancelled_with_this();
    let dial = |reply| {
        let (address, opts, cancelled) = (address.clone(), opts.clone(), cancelled.clone());
        listen::Command::Dial(listen::Dial { address, opts, cancelled, reply })
    };
    let link = transport.ask(dial).await.map_err(|Gone| local(&"the transport is being restarted"))?;
    let link = link.map_err(|error| failed(Stage::Connect, &error, error.fault()))?;

    let berth = node.kernel.workers.berth();
    let upgrades = node.upgrades(&berth);
    let upgrade = |reply| {
        let (opts, progress, cancelled) = (opts.clone(), progress.clone(), cancelled.clone());
        let reply: Reply<Result<Unclaimed, UpgradeError>> = reply;
        let to = node.clone();
        let reply = Reply::new(move |result: Result<_, _>| {
            reply.send(result.map(|upgraded| Unclaimed { node: to, upgraded: Some(upgraded) }));
        });
        let span = Span::current();
        upgrade::Command::Outbound(Outbound { link, lease, berth, opts, progress, cancelled, span, reply })
    };
    let upgraded = match upgrades {
        Some(upgrades) => upgrades.ask(upgrade).await,
        None => Err(Gone),
    };
    let upgraded = upgraded.map_err(|Gone| local(&"the upgrade is being restarted"))?;
    upgraded.map_err(|error| match error.kind {
        _ if error.is_refusal() => Unsecured::Refused(error.to_string()),
        UpgradeErrorKind::WrongPeer { found, .. } => {
            Unsecured::Failed(Failed { found: Some(found), ..failed(error.stage, &error, error.fault) })
        }
        _ => Unsecured::Failed(failed(error.stage, &error, error.fault)),
    })
}

/// What a peer's refusal of all security protocols is called.
const NOTHING_IN_COMMON: UpgradeErrorKind = UpgradeErrorKind::NoCommonSecurity;

/// Why a link was not secured.
enum Unsecured {
    /// The peer does not take what it was believed to take.
    Refused(String),
    Failed(Failed),
}

impl From<Failed> for Unsecured {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// A connection on its way to the attempt that made it. Should that have been dropped meanwhile, because another one
/// won, the peer is told so instead of being hung up on.
struct Unclaimed {
    node: Arc<Inner>,
    upgraded: Option<Upgraded>,
}

impl Unclaimed {
    fn claim(mut self) -> Option<Upgraded> {
        self.upgraded.take()
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(Upgraded { established, lease, .. }) = self.upgraded.take() {
            self.node.refuse(established.muxed, ErrorCode::SUPPLANTED, lease.into_place());
        }
    }
}

fn cancelled_with_this() -> (CancellationToken, DropGuard) {
    let token = CancellationToken::new();
    (token.clone(), token.drop_guard())
}
