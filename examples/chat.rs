//! A chat in a page: everybody says lines to everybody with whom they are connected.
//!
//! ```text
//! cargo run --example chat             # prints its address
//! cargo run --example chat -- ADDRESS  # joins whoever is there
//! ```
//!
//! A line is one stream: it is written, and its end says that it is whole. `peerage chat` does the same with names,
//! introductions, and a screen.

use peerage::{Event, Keypair, Multiaddr, Node, PeerId, Stream};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, stdin};

const CHAT: &str = "/example/chat/1";
/// The longest line that is listened to, in bytes.
const MAX_LINE: u64 = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?.start().await?;
    node.serve(CHAT, |stream: Stream, peer| async move {
        let mut line = String::new();
        stream.take(MAX_LINE).read_to_string(&mut line).await?;
        // Strangers may send what moves the cursor.
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        println!("{}: {line}", peer.short());
        std::io::Result::Ok(())
    })?;
    println!("join with: cargo run --example chat -- {}", node.addresses()[0]);
    if let Some(address) = std::env::args().nth(1) {
        node.connect(address.parse::<Multiaddr>()?).await?;
    }

    let mut lines = BufReader::new(stdin()).lines();
    let mut events = node.events();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => say_to_all(&node, &line).await,
                None => break,
            },
            event = events.next() => match event {
                Some(Event::Connected { connection, first: true }) => {
                    println!("{} is here", connection.peer.short());
                },
                Some(Event::Disconnected { connection, last: true, .. }) => {
                    println!("{} has left", connection.peer.short());
                },
                Some(_) => {}
                None => break,
            },
        }
    }
    node.shutdown().await;
    Ok(())
}

async fn say_to_all(node: &Node, line: &str) {
    for peer in node.peers() {
        if let Err(error) = say(node, peer, line).await {
            println!("{} did not hear that: {error}", peer.short());
        }
    }
}

async fn say(node: &Node, peer: PeerId, line: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut stream = node.open(peer, CHAT).await?;
    stream.write_all(line.as_bytes()).await?;
    Ok(stream.close_write().await?)
}
