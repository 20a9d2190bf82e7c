//! `examples/echo.rs` of Peerage on rust-libp2p: an echo server, and a client for it.

use std::{env, error::Error};

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, io::copy};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, identify, multiaddr::Protocol, noise, ping, swarm::NetworkBehaviour,
    swarm::SwarmEvent, tcp, tls, yamux,
};

const ECHO: StreamProtocol = StreamProtocol::new("/echo/1");

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    stream: libp2p_stream::Behaviour,
}

fn new_swarm() -> Result<Swarm<Behaviour>, Box<dyn Error>> {
    let swarm = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), (noise::Config::new, tls::Config::new), yamux::Config::default)?
        .with_dns()?
        .with_behaviour(|key| Behaviour {
            identify: identify::Behaviour::new(identify::Config::new("ipfs/0.1.0".to_owned(), key.public())),
            ping: ping::Behaviour::default(),
            stream: libp2p_stream::Behaviour::new(),
        })?
        .build();
    Ok(swarm)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => serve().await,
        Some(address) => say_hello(address.parse()?).await,
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let mut swarm = new_swarm()?;
    let mut incoming = swarm.behaviour().stream.new_control().accept(ECHO)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(async move {
                let (reader, mut writer) = stream.split();
                copy(reader, &mut writer).await?;
                writer.close().await
            });
        }
    });
    swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
    loop {
        tokio::select! {
            event = swarm.select_next_some() => if let SwarmEvent::NewListenAddr { address, .. } = event {
                println!("echo {}", address.with(Protocol::P2p(*swarm.local_peer_id())));
            },
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
    }
}

async fn say_hello(address: Multiaddr) -> Result<(), Box<dyn Error>> {
    let Some(Protocol::P2p(peer)) = address.iter().last() else {
        return Err("an address without a peer".into());
    };
    let mut swarm = new_swarm()?;
    let mut control = swarm.behaviour().stream.new_control();
    swarm.dial(address)?;
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    // It opens no stream before there is a connection.
    let mut stream = loop {
        match control.open_stream(peer, ECHO).await {
            Ok(stream) => break stream,
            Err(libp2p_stream::OpenStreamError::Io(_)) => tokio::task::yield_now().await,
            Err(error) => return Err(error.into()),
        }
    };
    stream.write_all(b"hello").await?;
    stream.close().await?;
    let mut echo = String::new();
    stream.read_to_string(&mut echo).await?;
    println!("{peer} says {echo}");
    Ok(())
}
