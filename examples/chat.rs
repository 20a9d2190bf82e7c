//! A chat in half a page: everybody says lines to everybody who is found.
//!
//! ```text
//! cargo run --example chat             # in as many terminals as you like: they find each other
//! cargo run --example chat -- ADDRESS  # where multicast DNS does not reach
//! ```
//!
//! `peerage chat --room` does the same with names, a list of who is there, and a screen.

use peerage::{Gossipsub, Keypair, Multiaddr, Node, mdns::Mdns};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

const ROOM: &str = "example/chat";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?;
    let (node, gossip) = node.with(Gossipsub::default());
    let (node, _mdns) = node.with(Mdns::default().dial(true)); // on loopback, unless told otherwise
    let node = node.start().await?;
    println!("you are {}, at {}", node.peer_id().short(), node.addresses()[0]);
    if let Some(address) = std::env::args().nth(1) {
        node.connect(address.parse::<Multiaddr>()?).await?;
    }

    let mut room = gossip.subscribe(ROOM)?;
    let mut lines = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => {
                    if gossip.publish(ROOM, line).await?.peers == 0 {
                        println!("nobody is here yet");
                    }
                }
                None => break,
            },
            message = room.next() => match message {
                Some(message) => {
                    // Its signature was verified; what it says is the author's, who may say what moves the cursor.
                    let text: String = String::from_utf8_lossy(&message.data).chars().filter(|c| !c.is_control()).collect();
                    println!("{}: {text}", message.author.map(|author| author.short()).unwrap_or_default());
                }
                None => break,
            },
        }
    }
    node.shutdown().await;
    Ok(())
}
