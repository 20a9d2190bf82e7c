//! Sending files to participants of a chat, one stream for each.
//!
//! The receiver is asked. A name cannot leave the folder, nothing is overwritten, and a file has another name until it is here
//! whole and its SHA-256 is the one that was announced. What is not complete is removed.
//!
//! [`Files`] keeps the books: who offers what, how far it is, what the user says to it. Each transfer is a task that copies
//! between its stream and its file, and holds one piece of it; `wire` says how.

mod disk;
pub mod name;
pub mod receive;
pub mod send;
#[cfg(test)]
mod tests;
pub mod wire;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peerage::{Node, PeerId, ServeError, ServeOptions, Stream, StreamLimits};
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinError, JoinSet},
    time::{Instant, timeout},
};

use self::{
    send::Step,
    wire::{Offer, PROTOCOL, Refusal, Reply},
};
use crate::text::clean;

/// Offers of one peer that are open here, and files that it sends.
pub const MAX_PER_PEER: usize = 4;
/// The same, of all peers together.
pub const MAX_INCOMING: usize = 16;
/// Files that are offered to others, and sent.
pub const MAX_OUTGOING: usize = 8;
/// Offers of peers that are not known yet.
pub const MAX_STRANGERS: usize = 8;
/// How long an offer waits for its sender to be known: it may be here before what its sender said in the chat.
pub const ACQUAINTANCE: Duration = Duration::from_secs(5);
/// Bytes of a file that are taken, unless told otherwise: 1 GiB.
pub const MAX_SIZE: u64 = 1 << 30;
/// How long the user has to answer, unless told otherwise.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a transfer may stand still, unless told otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer that opened a stream may take to say what it offers.
const OFFERING: Duration = Duration::from_secs(10);
/// Streams beyond the offers that are taken, so that a peer is told that there are too many.
const SPARE_PER_PEER: usize = 2;
const SPARE: usize = 2 * MAX_STRANGERS;
/// Words of transfers that are not looked at yet.
const NEWS: usize = 16;

/// Where files go, and how much of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The folder for what is received; made when the first file is accepted.
    pub folder: PathBuf,
    /// Bytes of a file that are taken. Default: [`MAX_SIZE`].
    pub max_size: u64,
    /// How long the user has to answer. Default: [`OFFER_TIMEOUT`].
    pub offer_timeout: Duration,
    /// How long a transfer may stand still, and how long the receiver may take to check the file. Default: [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
}

impl Config {
    /// The defaults, and this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, max_size: MAX_SIZE, offer_timeout: OFFER_TIMEOUT, idle_timeout: IDLE_TIMEOUT }
    }
}

/// The user's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Wait,
    Accept,
    Decline,
    Cancel,
}

/// Which way a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this node.
    In,
    /// From this node.
    Out,
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The file is read, for its hash.
    Preparing,
    /// It is offered, and the receiver's user has to answer.
    Offered,
    /// Bytes flow.
    Moving,
}

/// A file on its way.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// What the user calls it by.
    pub id: u32,
    /// From or to whom.
    pub peer: PeerId,
    /// From or to.
    pub direction: Direction,
    /// What it is called: the name that was offered; before, the user's.
    pub name: String,
    /// Its bytes; 0 while it is prepared.
    pub size: u64,
    /// How far it is.
    pub state: State,
    moved: Arc<AtomicU64>,
    orders: watch::Sender<Order>,
}

impl Transfer {
    /// Bytes that have gone or come.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Whether it is offered to this node, and not answered yet.
    pub fn is_open_offer(&self) -> bool {
        self.direction == Direction::In
            && self.state == State::Offered
            && *self.orders.borrow() == Order::Wait
    }
}

/// Something to tell the user.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happened {
    /// A peer offers a file: [`Files::accept`] or [`Files::decline`].
    Asked(Transfer),
    /// A peer offered something that the user is not asked about.
    TurnedAway {
        /// Who.
        peer: PeerId,
        /// What was wrong with it.
        why: String,
    },
    /// A file of ours is offered.
    Offered(Transfer),
    /// It was accepted.
    Accepted(Transfer),
    /// It arrived, and is at `path` if it came to us.
    Done {
        /// Which.
        transfer: Transfer,
        /// Where it is.
        path: Option<PathBuf>,
    },
    /// It did not arrive.
    Failed {
        /// Which.
        transfer: Transfer,
        /// Why not.
        why: String,
    },
}

/// What [`Files::handle`] is for.
#[derive(Debug)]
pub struct Event(Inner);

#[derive(Debug)]
enum Inner {
    Arrived(Box<Arrival>),
    Step(u32, Step),
    Ended(task::Id, Result<Option<PathBuf>, String>),
}

#[derive(Debug)]
struct Arrival {
    stream: Stream,
    offer: Result<Offer, wire::Error>,
}

/// Why a command of the user's does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no transfer of that number, or none that this can be said to.
    #[error("there is no such file")]
    Unknown,
    /// [`MAX_OUTGOING`] files are under way.
    #[error("{MAX_OUTGOING} files are on their way already")]
    TooMany,
}

/// All transfers of a node.
pub struct Files {
    node: Node,
    config: Arc<Config>,
    arrivals: mpsc::Receiver<Box<Arrival>>,
    strangers: VecDeque<(Instant, Box<Arrival>)>,
    transfers: BTreeMap<u32, Transfer>,
    tasks: HashMap<task::Id, u32>,
    running: JoinSet<Result<Option<PathBuf>, String>>,
    told: mpsc::Sender<(u32, Step)>,
    steps: mpsc::Receiver<(u32, Step)>,
    last: u32,
    closed: bool,
}

impl Files {
    /// Serves [`PROTOCOL`] on `node`.
    ///
    /// # Errors
    /// If the node serves it already, or is not running.
    pub fn start(node: &Node, config: Config) -> Result<Self, ServeError> {
        let (arrived, arrivals) = mpsc::channel(MAX_INCOMING);
        let (told, steps) = mpsc::channel(NEWS);
        let limits = StreamLimits::new(MAX_PER_PEER + SPARE_PER_PEER, MAX_INCOMING + SPARE);
        node.serve_with(PROTOCOL, ServeOptions::default().limits(limits), move |mut stream: Stream, _| {
            let arrived = arrived.clone();
            async move {
                if let Ok(offer) = timeout(OFFERING, wire::read_offer(&mut stream)).await {
                    // The books are gone only when the chat ends.
                    let _ = arrived.send(Box::new(Arrival { stream, offer })).await;
                }
            }
        })?;
        Ok(Self {
            node: node.clone(),
            config: Arc::new(config),
            arrivals,
            strangers: VecDeque::new(),
            transfers: BTreeMap::new(),
            tasks: HashMap::new(),
            running: JoinSet::new(),
            told,
            steps,
            last: 0,
            closed: false,
        })
    }

    /// Where files go.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// All that are under way, in the order in which they began.
    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.transfers.values()
    }

    /// Offers the file at `path` to a peer. The number of the transfer.
    ///
    /// # Errors
    /// [`CommandError::TooMany`]. What is wrong with the file comes as [`Happened::Failed`].
    pub fn send(&mut self, peer: PeerId, path: PathBuf) -> Result<u32, CommandError> {
        if self.transfers().filter(|one| one.direction == Direction::Out).count() >= MAX_OUTGOING {
            return Err(CommandError::TooMany);
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let (transfer, mut orders) = self.begin(peer, Direction::Out, clean(&name), 0);
        let (id, moved) = (transfer.id, transfer.moved.clone());
        let (node, config, steps) = (self.node.clone(), self.config.clone(), self.told.clone());
        let told = async move |step| {
            let _ = steps.send((id, step)).await;
        };
        let task = self.running.spawn(async move {
            let sent = tokio::select! {
                sent = send::send(&node, peer, path, &config, &moved, told) => sent,
                _ = orders.wait_for(|order| *order == Order::Cancel) => Err(send::Error::Cancelled),
            };
            sent.map(|()| None).map_err(|error| clean(&error.to_string()))
        });
        self.tasks.insert(task.id(), id);
        Ok(id)
    }

    /// Takes a file that is offered.
    ///
    /// # Errors
    /// If there is no such offer.
    pub fn accept(&mut self, id: u32) -> Result<(), CommandError> {
        let transfer = self.offer(id)?;
        transfer.state = State::Moving;
        transfer.orders.send_replace(Order::Accept);
        Ok(())
    }

    /// Does not take a file that is offered.
    ///
    /// # Errors
    /// If there is no such offer.
    pub fn decline(&mut self, id: u32) -> Result<(), CommandError> {
        self.offer(id)?.orders.send_replace(Order::Decline);
        Ok(())
    }

    /// Declines what is offered, now and from now on.
    pub fn close(&mut self) {
        self.closed = true;
        for transfer in self.transfers.values().filter(|one| one.is_open_offer()) {
            transfer.orders.send_replace(Order::Decline);
        }
    }

    /// Stops a transfer, either way; an offer to us is declined.
    ///
    /// # Errors
    /// If there is none of that number.
    pub fn cancel(&mut self, id: u32) -> Result<(), CommandError> {
        if self.decline(id).is_ok() {
            return Ok(());
        }
        let transfer = self.transfers.get(&id).ok_or(CommandError::Unknown)?;
        transfer.orders.send_replace(Order::Cancel);
        Ok(())
    }

    fn offer(&mut self, id: u32) -> Result<&mut Transfer, CommandError> {
        self.transfers.get_mut(&id).filter(|one| one.is_open_offer()).ok_or(CommandError::Unknown)
    }

    /// The next thing for [`Files::handle`]. It may be dropped without losing any.
    pub async fn next(&mut self) -> Event {
        Event(tokio::select! {
            // What a transfer said before its end is heard before its end.
            biased;
            Some((id, step)) = self.steps.recv() => Inner::Step(id, step),
            Some(ended) = self.running.join_next_with_id() => match ended {
                Ok((task, result)) => Inner::Ended(task, result),
                Err(error) => Inner::Ended(error.id(), Err(broken(&error))),
            },
            Some(arrival) = self.arrivals.recv() => Inner::Arrived(arrival),
        })
    }

    /// Takes note of an event. Only those who are `here` may offer anything.
    pub fn handle(&mut self, event: Event, here: impl Fn(PeerId) -> bool) -> Option<Happened> {
        match event.0 {
            Inner::Arrived(arrival) if here(arrival.stream.peer()) => Some(self.arrived(*arrival)),
            Inner::Arrived(arrival) if self.strangers.len() < MAX_STRANGERS => {
                self.strangers.push_back((Instant::now() + ACQUAINTANCE, arrival));
                None
            }
            Inner::Arrived(arrival) => {
                self.refuse(arrival.stream, Refusal::NotHere);
                None
            }
            Inner::Step(id, step) => self.step(id, step),
            Inner::Ended(task, result) => {
                let transfer = self.transfers.remove(&self.tasks.remove(&task)?)?;
                Some(match result {
                    Ok(path) => Happened::Done { transfer, path },
                    Err(why) => Happened::Failed { transfer, why },
                })
            }
        }
    }

    /// Looks again at offers of peers that were not known, which may be by now. Once a second or so.
    pub fn sweep(&mut self, here: impl Fn(PeerId) -> bool) -> Vec<Happened> {
        let now = Instant::now();
        let mut happened = Vec::new();
        for (until, arrival) in std::mem::take(&mut self.strangers) {
            if here(arrival.stream.peer()) {
                happened.push(self.arrived(*arrival));
            } else if until <= now {
                self.refuse(arrival.stream, Refusal::NotHere);
            } else {
                self.strangers.push_back((until, arrival));
            }
        }
        happened
    }

    /// Ends all transfers, and removes what is not complete.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
        self.transfers.clear();
        self.strangers.clear();
    }

    fn arrived(&mut self, Arrival { stream, offer }: Arrival) -> Happened {
        let peer = stream.peer();
        let incoming = || self.transfers().filter(|one| one.direction == Direction::In);
        let full = incoming().count() >= MAX_INCOMING
            || incoming().filter(|one| one.peer == peer).count() >= MAX_PER_PEER;
        let max = self.config.max_size;
        let (refusal, why) = match offer {
            Err(error) => (Refusal::BadOffer, error.to_string()),
            Ok(_) if self.closed => (Refusal::Declined, "nobody is here to answer".to_owned()),
            Ok(_) if full => (Refusal::TooMany, "too many files are offered already".to_owned()),
            Ok(offer) if offer.size > max => {
                let Offer { name, size, .. } = offer;
                (Refusal::TooLarge { max }, format!("{name} has {size} bytes, {max} are taken"))
            }
            Ok(offer) => return self.ask(stream, offer),
        };
        self.refuse(stream, refusal);
        Happened::TurnedAway { peer, why }
    }

    fn ask(&mut self, stream: Stream, offer: Offer) -> Happened {
        let (mut transfer, orders) =
            self.begin(stream.peer(), Direction::In, offer.name.to_string(), offer.size);
        transfer.state = State::Offered;
        self.transfers.insert(transfer.id, transfer.clone());
        let (config, moved) = (self.config.clone(), transfer.moved.clone());
        let task = self.running.spawn(async move {
            let received = receive::receive(stream, &offer, &config, orders, moved).await;
            received.map(Some).map_err(|error| clean(&error.to_string()))
        });
        self.tasks.insert(task.id(), transfer.id);
        Happened::Asked(transfer)
    }

    fn refuse(&mut self, stream: Stream, refusal: Refusal) {
        tracing::debug!(peer = %stream.peer(), %refusal, "an offer is turned away");
        self.running.spawn(async move {
            receive::leave(stream, Reply::No(refusal)).await;
            Ok(None)
        });
    }

    fn begin(
        &mut self,
        peer: PeerId,
        direction: Direction,
        name: String,
        size: u64,
    ) -> (Transfer, watch::Receiver<Order>) {
        self.last = self.last.wrapping_add(1);
        let (orders, heard) = watch::channel(Order::Wait);
        let (id, state, moved) = (self.last, State::Preparing, Arc::default());
        let transfer = Transfer { id, peer, direction, name, size, state, moved, orders };
        self.transfers.insert(id, transfer.clone());
        (transfer, heard)
    }

    fn step(&mut self, id: u32, step: Step) -> Option<Happened> {
        let transfer = self.transfers.get_mut(&id)?;
        Some(match step {
            Step::Offered(offer) => {
                (transfer.name, transfer.size) = (offer.name.to_string(), offer.size);
                transfer.state = State::Offered;
                Happened::Offered(transfer.clone())
            }
            Step::Accepted => {
                transfer.state = State::Moving;
                Happened::Accepted(transfer.clone())
            }
        })
    }
}

fn broken(error: &JoinError) -> String {
    tracing::error!(%error, "a transfer ended without a word");
    "an error in this program".to_owned()
}
