//! What is counted in instructions: the way of bytes and the way to a connection, in memory and without chance.
//!
//! `.ci/instructions.py` runs this under callgrind, once with few and once with many rounds of one scenario, and compares
//! the instructions of a round with those that are committed. A clock would tell nothing on a shared machine.
//!
//! ```text
//! cargo bench -p peerage-transport --bench instructions                     every scenario, a few rounds
//! cargo bench -p peerage-transport --bench instructions -- bulk 20          one of them
//! ```
#![allow(missing_docs, clippy::unwrap_used)]

use std::{env, net::Ipv4Addr};

use peerage_core::{
    Keypair, ProtocolId,
    budget::Budget,
    multistream::{Dialer, Listener},
};
use peerage_muxer::{
    Connection, Muxed, Outflow,
    yamux::{self, Mode},
};
use peerage_security::{
    Role,
    noise::{self, Config, Initiator, Responder},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Bytes of a round of `bulk`, and of each write.
const BULK: usize = 1 << 20;
const WRITE: usize = 64 << 10;
/// Requests of a round of `requests`: there and back, each on a new stream.
const REQUESTS: usize = 16;
const REQUEST: usize = 64;
/// Negotiations of a round of `multistream`.
const NEGOTIATIONS: usize = 64;

fn main() {
    let mut args = env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let scenario = args.next();
    let rounds = args.next().map_or(2, |rounds| rounds.parse().unwrap());
    match scenario.as_deref() {
        Some("bulk") => here(bulk(rounds)),
        Some("requests") => here(requests(rounds)),
        Some("socket") => here(socket(rounds)),
        Some("multistream") => multistream(rounds),
        Some("handshake") => handshake(rounds),
        Some(other) => panic!("{other} is none of bulk, requests, multistream, handshake and socket"),
        None => {
            here(bulk(rounds));
            here(requests(rounds));
            multistream(rounds);
            handshake(rounds);
        }
    }
}

/// One thread: what is woken when does not depend on others.
fn here(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
}

fn identities() -> [Config; 2] {
    [1, 2].map(|seed| Config::new(&Keypair::from_ed25519_seed([seed; 32])).unwrap())
}

async fn side<S>(io: S, role: Role, config: &Config) -> Connection
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mode = match role {
        Role::Initiator => Mode::Client,
        Role::Responder => Mode::Server,
    };
    let (io, _) = noise::upgrade(io, role, config).await.unwrap();
    let (config, budget) = (yamux::Config::default(), Budget::unlimited());
    let Muxed { connection, driver } = yamux::start_over(io, Outflow::default(), mode, config, budget);
    tokio::spawn(driver);
    connection
}

/// Two ends of a connection: noise and yamux, over a pipe that holds as much as a socket.
async fn pair() -> (Connection, Connection) {
    let (near, far) = tokio::io::duplex(256 << 10);
    let [one, other] = identities();
    tokio::join!(side(near, Role::Initiator, &one), side(far, Role::Responder, &other))
}

/// One stream, written and read: muxer frames, noise frames, and the same backwards.
async fn bulk(rounds: usize) {
    stream(rounds, pair().await).await;
}

/// The same through a socket, whose part depends on chance: for profilers.
async fn socket(rounds: usize) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    let [one, other] = identities();
    let near = side(near.unwrap(), Role::Initiator, &one);
    stream(rounds, tokio::join!(near, side(far.unwrap().0, Role::Responder, &other))).await;
}

async fn stream(rounds: usize, (near, far): (Connection, Connection)) {
    let reading = tokio::spawn(async move {
        let mut stream = far.accept().await.unwrap();
        let mut chunk = vec![0; WRITE];
        let mut all = 0;
        loop {
            match stream.read(&mut chunk).await.unwrap() {
                0 => return all,
                read => all += read,
            }
        }
    });
    let mut stream = near.open().await.unwrap();
    let chunk = vec![7; WRITE];
    for _ in 0..rounds * (BULK / WRITE) {
        stream.write_all(&chunk).await.unwrap();
    }
    stream.close_write().await.unwrap();
    assert_eq!(reading.await.unwrap(), rounds * BULK);
}

/// Small messages, each on a stream of its own.
async fn requests(rounds: usize) {
    let (near, far) = pair().await;
    tokio::spawn(async move {
        while let Ok(mut stream) = far.accept().await {
            tokio::spawn(async move {
                let mut request = [0; REQUEST];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(&request).await.unwrap();
                stream.close_write().await.unwrap();
            });
        }
    });
    for _ in 0..rounds * REQUESTS {
        let mut stream = near.open().await.unwrap();
        stream.write_all(&[7; REQUEST]).await.unwrap();
        stream.close_write().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), REQUEST);
    }
}

/// Both sides agree on the second of two protocols.
fn multistream(rounds: usize) {
    let (first, second) =
        (ProtocolId::from_static("/bench/a/1.0.0"), ProtocolId::from_static("/bench/b/1.0.0"));
    for _ in 0..rounds * NEGOTIATIONS {
        let mut dialer = Dialer::new(vec![first.clone(), second.clone()]).unwrap();
        let mut listener = Listener::new();
        while dialer.outcome().is_none() {
            if let Some(bytes) = dialer.poll_transmit() {
                listener.handle_input(&bytes, |name| (second == name).then(|| second.clone())).unwrap();
            }
            if let Some(bytes) = listener.poll_transmit() {
                dialer.handle_input(&bytes).unwrap();
            }
        }
        assert_eq!(listener.outcome(), Some(&second));
    }
}

/// Noise, both sides, with the signatures of the identities.
fn handshake(rounds: usize) {
    let [one, other] = identities();
    for _ in 0..rounds {
        let (initiator, message) = Initiator::start(&one).unwrap();
        let (responder, message) = Responder::start(&other).unwrap().read(&message).unwrap();
        let (_, message) = initiator.read(&message).unwrap();
        responder.read(&message).unwrap();
    }
}
