//! `peerage chat`
//!
//! Everybody has a stream to everybody else to speak on, and hears on the streams that the others opened: whoever
//! speaks opens. So there is nothing to agree on when two dial each other at the same time, and no line gets lost when
//! a second stream turns up.

mod channel;
mod invocation;
mod links;
mod room;
mod roster;
mod screen;
mod show;
mod stdin;
mod transfers;
mod wire;

pub(crate) use invocation::command;

use peerage::{Multiaddr, Node, OpenOptions, PeerId, ServeOptions, Stream, StreamLimits};
use tokio::sync::mpsc;

use self::{
    room::Room,
    screen::{Model, Running, Screen},
    show::Show,
    transfers::Transfers,
};
use crate::{
    Context,
    args::Chat,
    dial,
    failure::Failure,
    node::{self, Unless},
};

/// Streams on which one peer may speak at once: one, and one more that replaces it.
const STREAMS_PER_PEER: usize = 2;
/// Streams that were opened and are not looked at yet.
const ARRIVALS: usize = 16;

/// The participant who was named on the command line.
struct First {
    peer: PeerId,
    stream: Stream,
    address: Multiaddr,
}

pub(crate) async fn run(context: &Context, args: &Chat) -> Result<(), Failure> {
    if let Some(room) = &args.room {
        return channel::run(context, args, room).await;
    }
    let node = node::start(context, node::builder(&context.common, Unless::Loopback)?).await?;
    let chatted = chat(context, args, &node).await;
    node::stop(&node).await;
    chatted
}

async fn chat(context: &Context, args: &Chat, node: &Node) -> Result<(), Failure> {
    let me = node.peer_id();
    let name = named(args, me)?;
    let (arrived, arrivals) = mpsc::channel(ARRIVALS);
    let limits = StreamLimits::new(STREAMS_PER_PEER, STREAMS_PER_PEER * wire::MAX_PARTICIPANTS);
    let options = ServeOptions::default().limits(limits);
    node.serve_with(wire::PROTOCOL, options, move |stream: Stream, _| {
        let arrived = arrived.clone();
        async move {
            // The room takes it from here; it is only gone when the command ends.
            let _ = arrived.send(stream).await;
        }
    })
    .map_err(|error| Failure::new(error.to_string()))?;
    let transfers = Transfers::start(context, node, args)?;
    let first = match &args.address {
        Some(address) => Some(join(context, node, address).await?),
        None => None,
    };
    let addresses = node.addresses();
    // The terminal is given back when this returns, before anything is said about how it ended.
    let Interface { screen, lines, _running } = interface(context, args, me, &name)?;
    let show = Show::new(context.out, me, name.clone(), screen);
    show.welcome(&addresses, first.as_ref().map(|first| first.peer))?;
    Room::new(node.clone(), show, transfers, name, addresses).run(context, first, arrivals, lines).await
}

/// What the others see as this one's name.
fn named(args: &Chat, me: PeerId) -> Result<String, Failure> {
    match args.name.as_deref().map(wire::name) {
        None => Ok(me.short()),
        Some(name) if name.is_empty() => {
            Err(Failure::new("--name has no letter or digit in it").hint("try --name ada"))
        }
        Some(name) => Ok(name),
    }
}

/// Whether somebody means this one by a name, or by the end of an id.
fn means(meant: &str, peer: PeerId, name: &str) -> bool {
    name.to_lowercase() == meant.to_lowercase() || peer.short() == meant || peer.to_string() == meant
}

/// A screen, if there can be one and it was not declined; and what is typed.
struct Interface {
    screen: Option<Screen>,
    lines: mpsc::Receiver<String>,
    _running: Option<Running>,
}

fn interface(context: &Context, args: &Chat, me: PeerId, name: &str) -> Result<Interface, Failure> {
    if args.plain || context.out.is_json() || !Screen::is_possible() {
        return Ok(Interface { screen: None, lines: stdin::lines()?, _running: None });
    }
    let (screen, running, lines) = Screen::start(Model::new(me, name.to_owned()), &context.interrupt)?;
    Ok(Interface { screen: Some(screen), lines, _running: Some(running) })
}

/// Connects with the one who was named on the command line. What fails here is the user's business.
async fn join(context: &Context, node: &Node, address: &Multiaddr) -> Result<First, Failure> {
    let peer: PeerId = dial::connect(context, node, address).await?.peer;
    let opening = node.open_with(peer, OpenOptions::new([wire::PROTOCOL]));
    let opened = dial::said_if_long(context, "Connected; knocking ...", opening).await?;
    let stream = opened.map_err(|error| dial::not_opened(wire::PROTOCOL.as_str(), &error))?;
    Ok(First { peer, stream, address: address.split_peer().0 })
}
