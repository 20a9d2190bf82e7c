//! Shows what happens on a node.

use std::{collections::VecDeque, time::Duration};

use peerage::{Event, Events, Multiaddr, Node, OwnAddress, PeerId, mdns};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Context,
    events::{Identified, Listening, say_listening},
    failure::Failure,
    found::Finds,
    output::{Output, Paint},
    text::clean,
};

/// How often the tree is looked at.
const REDRAW: Duration = Duration::from_secs(1);
/// What happened last, shown under the tree.
const RECENT: usize = 10;

/// An echo's stream that has ended.
pub(crate) struct Echoed {
    pub(crate) peer: PeerId,
    pub(crate) result: Result<u64, String>,
}

/// Says what happens, until the command is to end.
pub(crate) async fn watch(
    context: &Context,
    node: &Node,
    mut events: Events,
    mut echoes: mpsc::Receiver<Echoed>,
    mut found: Finds,
    tree: bool,
) -> Result<(), Failure> {
    let mut screen = Screen {
        out: &context.out,
        node,
        tree,
        listening: node.addresses(),
        shown: String::new(),
        recent: VecDeque::new(),
    };
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = context.interrupt.wait() => return Ok(()),
            event = events.next() => match event {
                Some(event) => screen.happened(&event)?,
                None => return Err(Failure::new(format!("the node has ended: {}", node.closed().await))),
            },
            Some(echoed) = echoes.recv() => screen.echoed(&echoed)?,
            Some(found) = found.next() => screen.found(&found)?,
            _ = redraw.tick(), if tree => screen.draw()?,
        }
    }
}

struct Screen<'a> {
    out: &'a Output,
    node: &'a Node,
    tree: bool,
    listening: Vec<Multiaddr>,
    /// The tree as it was drawn last.
    shown: String,
    recent: VecDeque<String>,
}

impl Screen<'_> {
    fn happened(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Listening { .. } => {
                // Also told of what was said when the command began.
                let addresses = self.node.addresses();
                if addresses == self.listening {
                    return Ok(());
                }
                self.listening = addresses;
                say_listening(self.out, self.node)
            }
            Event::Identified { peer, info } => {
                let told = Identified::of(*peer, info);
                let protocols = told.protocols.len();
                let text = format!(
                    "{} is {}, speaks {protocols} protocols",
                    name(self.out.paint(), peer),
                    told.agent
                );
                self.line(&told, text)
            }
            other => match Line::of(other) {
                Some(line) => {
                    let text = line.text(self.out.paint());
                    self.line(&line, text)
                }
                None => Ok(()),
            },
        }
    }

    fn echoed(&mut self, echoed: &Echoed) -> Result<(), Failure> {
        let line = match &echoed.result {
            Ok(bytes) => Line::Echoed { peer: echoed.peer.to_string(), bytes: *bytes },
            Err(why) => Line::EchoFailed { peer: echoed.peer.to_string(), why: clean(why) },
        };
        let text = line.text(self.out.paint());
        self.line(&line, text)
    }

    fn found(&mut self, found: &mdns::Event) -> Result<(), Failure> {
        match Line::of_found(found) {
            Some(line) => {
                let text = line.text(self.out.paint());
                self.line(&line, text)
            }
            None => Ok(()),
        }
    }

    fn line(&mut self, event: &impl Serialize, text: String) -> Result<(), Failure> {
        if self.tree && self.out.is_terminal() {
            // It would be wiped with the next drawing.
            self.recent.truncate(RECENT.saturating_sub(1));
            self.recent.push_front(text);
            self.shown.clear();
            return Ok(());
        }
        self.out.say(event, text)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let tree = self.node.tree();
        // A panic's text may come from a stranger's input.
        let drawn: Vec<String> = tree.to_string().lines().map(clean).collect();
        let drawn = drawn.join("\n");
        if drawn == self.shown {
            return Ok(());
        }
        self.shown.clone_from(&drawn);
        let actors = tree.0.iter().map(|actor| Actor {
            path: clean(&actor.path),
            state: format!("{:?}", actor.state).to_lowercase(),
            starts: actor.generation,
            panics: actor.panics,
            last_panic: actor.last_panic.as_deref().map(clean),
            queue: actor.queue,
        });
        let event = Line::Tree { actors: actors.collect() };
        if !self.out.is_terminal() {
            return self.out.say(&event, format_args!("{drawn}\n"));
        }
        let addrs = Listening::of(self.node).addrs().join("\n  ");
        let recent: Vec<&str> = self.recent.iter().map(String::as_str).collect();
        let clear = "\x1b[2J\x1b[H";
        self.out.text(format_args!("{clear}  {addrs}\n\n{drawn}\n\n{}", recent.join("\n")))
    }
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Connected { peer: String, address: String, direction: String, first: bool },
    Disconnected { peer: String, address: String, last: bool, why: String },
    IncomingFailed { address: String, why: String, left_out: u64 },
    NotListening { address: String, why: String },
    ActorPanicked { actor: String, panic: String, peer: Option<String> },
    ActorSwitchedOff { actor: String, why: String },
    PeerBanned { peer: String, seconds: u64, why: String },
    OwnAddresses { addresses: Vec<Own> },
    StoreFailed { why: String },
    StoreResumed,
    StoreDamaged { moved_to: String, why: String },
    Missed { events: u64 },
    Found { peer: String, addrs: Vec<String> },
    Expired { peer: String },
    Echoed { peer: String, bytes: u64 },
    EchoFailed { peer: String, why: String },
    Tree { actors: Vec<Actor> },
}

/// An address of this node.
#[derive(Serialize)]
struct Own {
    address: String,
    sources: Vec<String>,
    reachability: String,
    observers: usize,
    announced: bool,
}

#[derive(Serialize)]
struct Actor {
    path: String,
    state: String,
    starts: u64,
    panics: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_panic: Option<String>,
    queue: usize,
}

impl Line {
    /// `None` for events of a later version, which nobody has words for here.
    fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Connected { connection, first } => Self::Connected {
                peer: connection.peer.to_string(),
                address: clean(&connection.remote.to_string()),
                direction: connection.direction.to_string(),
                first: *first,
            },
            Event::Disconnected { connection, last, why } => Self::Disconnected {
                peer: connection.peer.to_string(),
                address: clean(&connection.remote.to_string()),
                last: *last,
                why: clean(why),
            },
            Event::IncomingFailed { remote, why, left_out } => Self::IncomingFailed {
                address: clean(&remote.to_string()),
                why: clean(why),
                left_out: *left_out,
            },
            Event::NotListening { address, why } => {
                Self::NotListening { address: address.to_string(), why: clean(why) }
            }
            Event::ActorPanicked { actor, panic, peer } => Self::ActorPanicked {
                actor: clean(actor),
                panic: clean(panic),
                peer: peer.map(|peer| peer.to_string()),
            },
            Event::ActorSwitchedOff { actor, why } => {
                Self::ActorSwitchedOff { actor: clean(actor), why: clean(why) }
            }
            Event::PeerBanned { peer, duration, why } => {
                Self::PeerBanned { peer: peer.to_string(), seconds: duration.as_secs(), why: clean(why) }
            }
            Event::OwnAddresses { addresses } => {
                let own = |own: &OwnAddress| Own {
                    address: clean(&own.address.to_string()),
                    sources: own.sources.iter().map(ToString::to_string).collect(),
                    reachability: own.reachability.to_string(),
                    observers: own.observers,
                    announced: own.announced,
                };
                Self::OwnAddresses { addresses: addresses.iter().map(own).collect() }
            }
            Event::StoreFailed { why } => Self::StoreFailed { why: clean(why) },
            Event::StoreResumed => Self::StoreResumed,
            Event::StoreDamaged { moved_to, why } => {
                Self::StoreDamaged { moved_to: clean(&moved_to.display().to_string()), why: clean(why) }
            }
            Event::Missed(events) => Self::Missed { events: *events },
            _ => return None,
        })
    }

    /// As [`Line::of`].
    fn of_found(event: &mdns::Event) -> Option<Self> {
        Some(match event {
            mdns::Event::Found { peer, addresses } => Self::Found {
                peer: peer.to_string(),
                addrs: addresses.iter().map(|address| clean(&address.to_string())).collect(),
            },
            mdns::Event::Expired { peer } => Self::Expired { peer: peer.to_string() },
            mdns::Event::Missed(events) => Self::Missed { events: *events },
            _ => return None,
        })
    }

    fn text(&self, paint: Paint) -> String {
        let who = |peer: &str| paint.bold(peer).to_string();
        match self {
            Self::Connected { peer, address, direction, .. } => {
                format!("{} {} at {address} ({direction})", who(peer), paint.green("connected"))
            }
            Self::Disconnected { peer, address, why, .. } => {
                format!("{} disconnected at {address}: {why}", who(peer))
            }
            Self::IncomingFailed { address, why, left_out } => {
                let others =
                    if *left_out > 0 { format!(" (and {left_out} more before)") } else { String::new() };
                format!("{address} did not come in: {why}{others}")
            }
            Self::NotListening { address, why } => {
                format!("{} {address} is not listened on any more: {why}", paint.red("!"))
            }
            Self::ActorPanicked { actor, panic, peer } => {
                let by = peer.as_ref().map(|peer| format!(", provoked by {}", who(peer))).unwrap_or_default();
                format!("{} {actor} panicked and starts again{by}: {panic}", paint.red("!"))
            }
            Self::ActorSwitchedOff { actor, why } => {
                format!("{} {actor} panicked too often and stays off: {why}", paint.red("!"))
            }
            Self::PeerBanned { peer, seconds, why } => {
                format!("{} is banned for {seconds} s: {why}", who(peer))
            }
            Self::OwnAddresses { addresses } => {
                let line = |own: &Own| {
                    let told = if own.announced { "" } else { ", not told to others" };
                    format!("\n  {} ({}, {}{told})", own.address, own.sources.join(" and "), own.reachability)
                };
                let lines: String = addresses.iter().map(line).collect();
                format!("this node's addresses:{lines}")
            }
            Self::StoreFailed { why } => {
                format!("{} what is known of peers is not kept for now: {why}", paint.red("!"))
            }
            Self::StoreResumed => "what is known of peers is kept again".to_owned(),
            Self::StoreDamaged { moved_to, why } => {
                format!("{} the store was damaged and is now {moved_to}: {why}", paint.red("!"))
            }
            Self::Missed { events } => format!("{events} events were too many to show"),
            Self::Found { peer, addrs } => format!("{} is at\n  {}", who(peer), addrs.join("\n  ")),
            Self::Expired { peer } => format!("{} is not there any more", who(peer)),
            Self::Echoed { peer, bytes } => format!("{} had {bytes} bytes echoed", who(peer)),
            Self::EchoFailed { peer, why } => format!("{} had an echo that failed: {why}", who(peer)),
            Self::Tree { .. } => String::new(),
        }
    }
}

fn name(paint: Paint, peer: &PeerId) -> String {
    paint.bold(peer).to_string()
}
