//! Sending files to participants of a chat, one stream for each.
//!
//! The receiver is asked. A name cannot leave the folder, nothing is overwritten, and a file has another name until it is here
//! whole and its SHA-256 is the one that was announced. What is not complete is removed.
//!
//! [`Files`] keeps the books: who offers what, how far it is, what the user says to it. Each transfer is a task that copies
//! between its stream and its file, and holds one piece of it; `wire` says how.

mod disk;
pub mod name;
mod pace;
pub mod receive;
mod recent;
pub mod send;
#[cfg(test)]
mod tests;
mod transfer;
pub mod wire;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use peerage::{Node, PeerId, ServeError, ServeOptions, Stream, StreamLimits};
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinError, JoinSet},
    time::{Instant, timeout},
};

use self::{
    disk::Folder,
    recent::{Recent, Verdict},
    send::Step,
    transfer::Order,
    wire::{Offer, PROTOCOL, Refusal, Reply},
};
pub use self::{
    recent::{MAX_OFFERS, MAX_OFFERS_OF_ALL, PERIOD},
    transfer::{CommandError, Direction, Happened, State, Transfer},
};
use crate::text::{clean, in_units};

/// Offers of one peer that are open here, and files that it sends; and files that are offered to one peer, and sent.
pub const MAX_PER_PEER: usize = 4;
/// The same, of all peers together.
pub const MAX_INCOMING: usize = 16;
/// Files that are offered to others, and sent.
pub const MAX_OUTGOING: usize = 8;
/// Offers of peers that are not known yet.
pub const MAX_STRANGERS: usize = 8;
/// And those of one such peer: what somebody may offer who has just come, and is not heard of yet.
pub const MAX_OF_STRANGER: usize = MAX_PER_PEER;
/// How long an offer waits for its sender to be known: it may be here before what its sender said in the chat.
pub const ACQUAINTANCE: Duration = Duration::from_secs(5);
/// Bytes of a file that are taken, unless told otherwise: 1 GiB.
pub const MAX_SIZE: u64 = 1 << 30;
/// How long the user has to answer, unless told otherwise.
pub const OFFER_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a file that comes may stand still, unless told otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a sender waits for a receiver that takes nothing more, or has everything and does not say so, unless told otherwise.
/// Longer than a receiver waits: it sees each byte, and a sender only that there is room again, half a window at a time.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// How long a peer that opened a stream may take to say what it offers.
const OFFERING: Duration = Duration::from_secs(10);
/// Streams beyond the offers that are taken, so that a peer is told that there are too many.
const SPARE_PER_PEER: usize = 2;
const SPARE: usize = 2 * MAX_STRANGERS;
/// How long the disk may take to be done with files that are given up, at the end.
const SETTLING: Duration = Duration::from_secs(5);
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
    /// How long a file that comes may stand still: fewer than 4 KiB in that time are nothing. Default: [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// How long a file that goes may, and how long the receiver may take to say that it has it. Default: [`PATIENCE`].
    pub patience: Duration,
}

impl Config {
    /// The defaults, and this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            max_size: MAX_SIZE,
            offer_timeout: OFFER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            patience: PATIENCE,
        }
    }
}

/// What [`Files::handle`] is for.
#[derive(Debug)]
pub struct Event(Inner);

#[derive(Debug)]
enum Inner {
    Arrived(Box<Arrival>),
    Step(u32, Step),
    Ended(task::Id, Result<Option<PathBuf>, Failure>),
}

/// How a transfer failed.
#[derive(Debug)]
struct Failure {
    why: String,
    unconfirmed: bool,
}

impl Failure {
    fn new(why: &impl ToString) -> Self {
        Self { why: clean(&why.to_string()), unconfirmed: false }
    }
}

#[derive(Debug)]
struct Arrival {
    stream: Stream,
    offer: Result<Offer, wire::Error>,
}

/// All transfers of a node.
pub struct Files {
    node: Node,
    config: Arc<Config>,
    arrivals: mpsc::Receiver<Box<Arrival>>,
    strangers: VecDeque<(Instant, Box<Arrival>)>,
    transfers: BTreeMap<u32, Transfer>,
    tasks: HashMap<task::Id, u32>,
    running: JoinSet<Result<Option<PathBuf>, Failure>>,
    folder: Folder,
    recent: Recent,
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
                let Ok(offer) = timeout(OFFERING, wire::read_offer(&mut stream)).await else { return };
                // Who hangs up before that has offered nothing that the user could hear of.
                if matches!(offer, Err(wire::Error::Io(_) | wire::Error::Ended)) {
                    return;
                }
                // The books are gone only when the chat ends.
                let _ = arrived.send(Box::new(Arrival { stream, offer })).await;
            }
        })?;
        Ok(Self {
            node: node.clone(),
            folder: Folder::new(config.folder.clone()),
            recent: Recent::default(),
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
    /// [`CommandError::TooMany`], [`CommandError::TooManyToOne`]. What is wrong with the file comes as [`Happened::Failed`].
    pub fn send(&mut self, peer: PeerId, path: PathBuf) -> Result<u32, CommandError> {
        let outgoing = || self.transfers().filter(|one| one.direction == Direction::Out);
        if outgoing().count() >= MAX_OUTGOING {
            return Err(CommandError::TooMany);
        }
        if outgoing().filter(|one| one.peer == peer).count() >= MAX_PER_PEER {
            return Err(CommandError::TooManyToOne);
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
            sent.map(|()| None).map_err(|error| {
                let unconfirmed = matches!(error, send::Error::Unconfirmed);
                Failure { unconfirmed, ..Failure::new(&error) }
            })
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
    /// If there is no such offer, or it was accepted.
    pub fn decline(&mut self, id: u32) -> Result<(), CommandError> {
        let comes = |one: &Transfer| one.direction == Direction::In && one.state == State::Moving;
        if self.transfers.get(&id).is_some_and(comes) {
            return Err(CommandError::UnderWay);
        }
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
            Inner::Arrived(arrival) if here(arrival.stream.peer()) => self.arrived(*arrival),
            Inner::Arrived(arrival) if self.may_wait(arrival.stream.peer()) => {
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
                    Err(Failure { why, unconfirmed }) => Happened::Failed { transfer, why, unconfirmed },
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
                happened.extend(self.arrived(*arrival));
            } else if until <= now {
                self.refuse(arrival.stream, Refusal::NotHere);
            } else {
                self.strangers.push_back((until, arrival));
            }
        }
        happened
    }

    /// Ends all transfers, and removes what is not complete: in 5 s, or the disk is stuck.
    pub async fn stop(&mut self) {
        self.running.shutdown().await;
        // A piece that is being written is written to its end, without a task that waits for it; its file goes after that.
        if timeout(SETTLING, self.folder.settled()).await.is_err() {
            tracing::warn!("the disk does not answer: incomplete files may be left behind");
        }
        self.transfers.clear();
        self.strangers.clear();
    }

    fn may_wait(&self, stranger: PeerId) -> bool {
        let of_one = self.strangers.iter().filter(|(_, arrival)| arrival.stream.peer() == stranger).count();
        self.strangers.len() < MAX_STRANGERS && of_one < MAX_OF_STRANGER
    }

    fn arrived(&mut self, Arrival { stream, offer }: Arrival) -> Option<Happened> {
        let peer = stream.peer();
        let verdict = self.recent.another(peer, Instant::now());
        let incoming = || self.transfers().filter(|one| one.direction == Direction::In);
        let full = incoming().count() >= MAX_INCOMING
            || incoming().filter(|one| one.peer == peer).count() >= MAX_PER_PEER;
        let max = self.config.max_size;
        let (refusal, why) = match offer {
            _ if verdict != Verdict::Heard => (
                Refusal::TooMany,
                "too many offers of late, of which no more are shown for a minute".to_owned(),
            ),
            Err(error) => (Refusal::BadOffer, error.to_string()),
            Ok(_) if self.closed => (Refusal::Declined, "nobody is here to answer".to_owned()),
            Ok(_) if full => (Refusal::TooMany, "too many files are offered already".to_owned()),
            Ok(offer) if offer.size > max => {
                let (name, taken) = (offer.name, in_units(max));
                let why = format!("\"{name}\" is larger than {taken}; --max-file-size takes more");
                (Refusal::TooLarge { max }, why)
            }
            Ok(offer) => return Some(self.ask(stream, offer)),
        };
        self.refuse(stream, refusal);
        (verdict != Verdict::Unheard).then_some(Happened::TurnedAway { peer, why })
    }

    fn ask(&mut self, stream: Stream, offer: Offer) -> Happened {
        let (mut transfer, orders) =
            self.begin(stream.peer(), Direction::In, offer.name.to_string(), offer.size);
        transfer.state = State::Offered;
        self.transfers.insert(transfer.id, transfer.clone());
        let (config, folder, moved) = (self.config.clone(), self.folder.clone(), transfer.moved.clone());
        let task = self.running.spawn(async move {
            let received = receive::receive(stream, &offer, &config, &folder, orders, moved).await;
            received.map(Some).map_err(|error| Failure::new(&error))
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

fn broken(error: &JoinError) -> Failure {
    tracing::error!(%error, "a transfer ended without a word");
    Failure::new(&"an error in this program")
}
