//! What the machine can do, measured with the same program as the libraries: TCP, TLS over TCP, QUIC, and the ciphers alone.
//! See ../README.md for the command line and what is printed.

#![allow(clippy::disallowed_methods, reason = "what is measured is real time")]

mod aead;
mod quic;
mod stream;
mod tcp;
mod tls;

use std::process::ExitCode;

use bench_peer::{Dialer, Error, Options, Result, Stack, Transport, gossip::Silent};

use stream::Stream;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("aead") {
        return aead::main();
    }
    bench_peer::main(Raw)
}

struct Raw;

/// Something that stops listening when it is dropped.
enum Listener {
    Tcp(#[expect(dead_code, reason = "dropped with this")] tcp::Listener),
    Quic(#[expect(dead_code, reason = "dropped with this")] quic::Listener),
}

enum Node {
    Tcp(tcp::Node),
    Quic(quic::Node),
}

/// Only what libraries are compared with.
fn transport(options: &Options) -> Result<Transport> {
    match options.transport {
        Transport::TcpNoise | Transport::TcpTls | Transport::Quic => Ok(options.transport),
        other => Err(Error::Unsupported(format!("raw {}", other.word()))),
    }
}

impl Stack for Raw {
    type Dialer = Node;
    type Listener = Listener;
    type Gossiper = Silent;

    fn about(&self) -> String {
        "tokio 1.54, rustls 0.23 and quinn 0.11 on aws-lc, AES-128-GCM, X25519".to_owned()
    }

    async fn listen(&self, options: &Options) -> Result<(Listener, String)> {
        match transport(options)? {
            Transport::Quic => {
                let (listener, address) = quic::listen(options.host)?;
                Ok((Listener::Quic(listener), address))
            }
            transport => {
                let (listener, address) = tcp::listen(options.host, transport == Transport::TcpTls).await?;
                Ok((Listener::Tcp(listener), address))
            }
        }
    }

    async fn dialer(&self, options: &Options, _crowd: bool) -> Result<Node> {
        Ok(match transport(options)? {
            Transport::Quic => Node::Quic(quic::Node::new(options.host)?),
            transport => Node::Tcp(tcp::Node::new(transport == Transport::TcpTls)),
        })
    }
}

impl Dialer for Node {
    type Stream = Stream;

    async fn dial(&self, address: &str) -> Result<()> {
        match self {
            Self::Tcp(node) => node.dial(address).await,
            Self::Quic(node) => node.dial(address).await,
        }
    }

    async fn open(&self, protocol: &'static str) -> Result<Stream> {
        match self {
            Self::Tcp(node) => node.open(protocol).await,
            Self::Quic(node) => node.open(protocol).await,
        }
    }

    async fn hang_up(&self) -> Result<()> {
        match self {
            Self::Tcp(node) => node.hang_up(),
            Self::Quic(node) => node.hang_up(),
        }
    }
}
