//! The tasks at the room's doors: one for each stream that is spoken or heard on.

use std::{sync::Arc, time::Duration};

use peerage::{ConnectOptions, Multiaddr, Node, OpenOptions, PeerId, Stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::mpsc,
    task,
    time::{Instant, timeout, timeout_at},
};

use super::wire::{self, Greeting, PROTOCOL};
use crate::text::clean;

/// How far behind a participant may be with what is said.
pub(super) const LAG: Duration = Duration::from_secs(5);
/// How long somebody who was introduced is looked for.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// What a task tells the room.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) from: task::Id,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// They speak to us, and who they are.
    Greeted(Box<Greeting>),
    /// They said something. It is clean.
    Said(String),
    /// We can speak to them.
    Reached,
    /// The last word of a task. In order if whoever spoke said all there was to say, and it all arrived.
    Ended(Result<(), String>),
}

/// Something to say, and when it was said.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: Arc<str>,
    pub(super) at: Instant,
}

/// The way to whom one speaks.
pub(super) enum Way {
    /// It is open.
    Open(Box<Stream>),
    /// They are connected with us.
    Connected(PeerId),
    /// They were introduced, and are there.
    Dial(PeerId, Vec<Multiaddr>),
}

/// A task's way to the room. A room that is busy lets it wait, and so whoever speaks.
#[derive(Clone)]
pub(super) struct Door(pub(super) mpsc::Sender<Word>);

impl Door {
    async fn tell(&self, what: What) {
        // The room is gone only when the command ends.
        let _ = self.0.send(Word { from: task::id(), what }).await;
    }
}

/// Listens to somebody until they have said everything.
pub(super) async fn hear(door: Door, stream: Stream) {
    let ended = heard(&door, stream).await.map_err(|error| error.to_string());
    door.tell(What::Ended(ended)).await;
}

async fn heard(door: &Door, stream: Stream) -> Result<(), wire::Error> {
    let mut stream = BufReader::new(stream);
    let greeting = Greeting::read(&mut stream).await?;
    door.tell(What::Greeted(Box::new(greeting))).await;
    while let Some(line) = wire::read_line(&mut stream).await? {
        let text = clean(&line);
        if !text.trim().is_empty() {
            door.tell(What::Said(text)).await;
        }
    }
    // It tells the speaker that all of it was read, who may be gone before this returns.
    let _ = stream.into_inner().close_write().await;
    Ok(())
}

/// Tells somebody all that comes out of `lines`, and leaves in good order when nothing more can come.
pub(super) async fn speak(door: Door, node: Node, way: Way, greeting: Greeting, lines: mpsc::Receiver<Line>) {
    let ended = match reach(&node, way).await {
        Ok(stream) => spoken(&door, stream, greeting, lines).await,
        Err(why) => Err(why),
    };
    door.tell(What::Ended(ended.map_err(|why| clean(&why)))).await;
}

async fn reach(node: &Node, way: Way) -> Result<Stream, String> {
    let peer = match way {
        Way::Open(stream) => return Ok(*stream),
        Way::Connected(peer) => peer,
        Way::Dial(peer, addresses) => {
            let mut options = ConnectOptions::default();
            options.timeout = INTRODUCTION;
            // Whoever introduced them may have made them up.
            options.hearsay = addresses;
            node.connect_with(peer, options).await.map_err(|error| error.to_string())?.peer
        }
    };
    let mut options = OpenOptions::new([PROTOCOL]);
    options.dial = false;
    options.timeout = INTRODUCTION;
    node.open_with(peer, options).await.map_err(|error| error.to_string())
}

async fn spoken(
    door: &Door,
    mut stream: Stream,
    greeting: Greeting,
    mut lines: mpsc::Receiver<Line>,
) -> Result<(), String> {
    let behind = |_| format!("more than {} s behind with what is said", LAG.as_secs());
    let broke = |error: std::io::Error| format!("the stream broke: {error}");
    let greeted = timeout(LAG, stream.write_all(greeting.encode().as_bytes())).await;
    greeted.map_err(behind)?.map_err(broke)?;
    door.tell(What::Reached).await;
    while let Some(Line { text, at }) = lines.recv().await {
        let line = format!("{text}\n");
        let written = timeout_at(at + LAG, stream.write_all(line.as_bytes())).await;
        written.map_err(behind)?.map_err(broke)?;
    }
    // They close their half once they have read everything.
    let farewell = async {
        stream.close_write().await?;
        stream.read(&mut [0]).await
    };
    timeout(LAG, farewell).await.map_err(behind)?.map_err(broke)?;
    Ok(())
}
