//! An echo server, and a client for it.
//!
//! ```text
//! cargo run --example echo             serves, and prints its address
//! cargo run --example echo -- ADDR     says hello to it
//! ```

use std::{env, error::Error};

use peerage::{Keypair, Multiaddr, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, split};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => serve().await,
        Some(address) => say_hello(address.parse()?).await,
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let node = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?.start().await?;
    node.serve("/echo/1", |stream, _peer| async move {
        let (mut reader, mut writer) = split(stream);
        copy(&mut reader, &mut writer).await?;
        writer.shutdown().await
    })?;
    println!("cargo run --example echo -- {}", node.addresses()[0]);
    tokio::signal::ctrl_c().await?;
    node.shutdown().await;
    Ok(())
}

async fn say_hello(address: Multiaddr) -> Result<(), Box<dyn Error>> {
    let node = Node::builder(Keypair::generate()).start().await?;
    let peer = node.connect(address).await?.peer;
    let mut stream = node.open(peer, "/echo/1").await?;
    stream.write_all(b"hello").await?;
    stream.close_write().await?;
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await?;
    println!("{peer} says {echo}");
    node.shutdown().await;
    Ok(())
}
