//! A peer whose handshake is honest, and that then says what it likes, byte by byte.

use std::error::Error;

use peerage_core::{ProtocolId, frame, varint};
use peerage_host::Node;
use peerage_security::{noise, plaintext, tls};
use peerage_transport::{
    DialOpts, Io, Link, ListenOpts, ListenerEvent, Role, Transport as _,
    memory::Network,
    select,
    upgrade::{MuxerKind, Security, TIMEOUT},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::keypair;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stack(pub(crate) Security, pub(crate) MuxerKind);

pub(crate) const NOISE_YAMUX: Stack = Stack(Security::Noise, MuxerKind::Yamux);
pub(crate) const TLS_YAMUX: Stack = Stack(Security::Tls, MuxerKind::Yamux);
pub(crate) const NOISE_MPLEX: Stack = Stack(Security::Noise, MuxerKind::Mplex);

/// A raw link to a node, before the first word.
pub(crate) async fn link(network: &Network, to: &Node) -> Box<dyn Io> {
    let address = to.listen_addresses().into_iter().next().expect("it listens");
    match network.transport().dial(address, DialOpts::new(Instant::now() + TIMEOUT)).await {
        Ok(Link::Raw(raw)) => raw.io,
        other => panic!("{other:?}"),
    }
}

/// Up to the first frame of the muxer, as the dialer or as the listener.
pub(crate) async fn upgrade(
    mut io: Box<dyn Io>,
    role: Role,
    stack: Stack,
    seed: u8,
) -> Result<Box<dyn Io>, Box<dyn Error>> {
    let Stack(security, muxer) = stack;
    agree(&mut io, role, security.protocol()).await?;
    let keypair = keypair(seed);
    let mut io: Box<dyn Io> = match security {
        Security::Noise => Box::new(noise::upgrade(io, role, &noise::Config::new(&keypair)?).await?.0),
        Security::Tls => Box::new(tls::upgrade(io, role, &tls::Config::new(&keypair)?).await?.0),
        Security::Plaintext => plaintext::upgrade(io, role, &plaintext::Config::new(&keypair)).await?.0,
        other => panic!("{other}"),
    };
    agree(&mut io, role, muxer.protocol()).await?;
    Ok(io)
}

async fn agree(io: &mut Box<dyn Io>, role: Role, protocol: ProtocolId) -> Result<(), select::Error> {
    match role {
        Role::Initiator => select::dial(io, vec![protocol]).await.map(drop),
        Role::Responder => {
            let known = |name: &str| (protocol == *name).then(|| protocol.clone());
            select::listen(io, known).await.map(drop)
        }
    }
}

/// The peer after its handshake. It reads what comes and throws it away, or it never reads.
pub(crate) struct Hostile {
    writer: WriteHalf<Box<dyn Io>>,
    _unread: Option<ReadHalf<Box<dyn Io>>>,
    reading: Option<JoinHandle<Vec<u8>>>,
}

impl Hostile {
    pub(crate) async fn connect(network: &Network, to: &Node, stack: Stack, seed: u8, reads: bool) -> Self {
        let io = link(network, to).await;
        Self::over(upgrade(io, Role::Initiator, stack, seed).await.expect("an honest handshake"), reads)
    }

    /// The same, as one that is dialed.
    pub(crate) async fn listen(network: &Network, from: &Node, stack: Stack, seed: u8, reads: bool) -> Self {
        let any = "/memory/0".parse().expect("an address");
        let bound = network.transport().listen(any, ListenOpts::default()).await;
        let mut listener = bound.expect("it listens");
        let here = listener.addresses().remove(0);
        let upgrading = async {
            match listener.next().await {
                ListenerEvent::Incoming(Link::Raw(raw)) => {
                    upgrade(raw.io, Role::Responder, stack, seed).await
                }
                other => panic!("{other:?}"),
            }
        };
        let (io, dialed) = tokio::join!(upgrading, from.connect(here));
        dialed.expect("an honest handshake");
        Self::over(io.expect("an honest handshake"), reads)
    }

    fn over(io: Box<dyn Io>, reads: bool) -> Self {
        let (mut reader, writer) = tokio::io::split(io);
        if !reads {
            return Self { writer, _unread: Some(reader), reading: None };
        }
        let reading = tokio::task::spawn_local(async move {
            let mut all = Vec::new();
            let _ = reader.read_to_end(&mut all).await;
            all
        });
        Self { writer, _unread: None, reading: Some(reading) }
    }

    /// Whether it got rid of it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        matches!(timeout(4 * TIMEOUT, sent).await, Ok(Ok(())))
    }

    /// Hangs up, and says what it had read.
    pub(crate) async fn leave(mut self) -> Vec<u8> {
        let _ = timeout(TIMEOUT, self.writer.shutdown()).await;
        let Some(reading) = self.reading.take() else { return Vec::new() };
        drop(self);
        timeout(4 * TIMEOUT, reading).await.expect("the node hangs up as well").expect("no panic")
    }
}

/// The lines of multistream-select.
pub(crate) fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        frame::encode(format!("{line}\n").as_bytes(), &mut out);
    }
    out
}

/// What opens a stream for a protocol, all in one go.
pub(crate) fn ask_for(protocol: &str) -> Vec<u8> {
    lines(&["/multistream/1.0.0", protocol])
}

/// What is said where a stream's protocol is to be agreed on.
pub(crate) fn line_attacks() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let length = |length| {
        let mut out = lines(&["/multistream/1.0.0"]);
        varint::encode(length, &mut out);
        out
    };
    let ls = [lines(&["/multistream/1.0.0"]), lines(&["ls"; 1000])].concat();
    let unknown = [lines(&["/multistream/1.0.0"]), lines(&["/nobody/knows/it"; 1000])].concat();
    [
        ("S8: a line of 2^31 bytes, withheld", length(1 << 31)),
        ("S8: a line of 2^32-1 bytes, withheld", length(u32::MAX.into())),
        (
            "S8: a line's length of ten bytes",
            [&lines(&["/multistream/1.0.0"])[..], &[0xff; 9], &[1]].concat(),
        ),
        ("S8: a line's length of eleven bytes", [0xff; 11].to_vec()),
        ("S8: half a line", length(100)),
        ("S26: a thousand times ls", ls),
        ("S26: a thousand unknown protocols", unknown),
    ]
    .into_iter()
}

/// Frames of yamux.
pub(crate) mod yamux {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const WINDOW_UPDATE: u8 = 1;
    pub(crate) const PING: u8 = 2;
    pub(crate) const GO_AWAY: u8 = 3;
    pub(crate) const SYN: u16 = 1;
    pub(crate) const FIN: u16 = 4;
    pub(crate) const RST: u16 = 8;

    pub(crate) fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
        let mut out = vec![0, kind];
        out.extend(flags.to_be_bytes());
        out.extend(stream.to_be_bytes());
        out.extend(length.to_be_bytes());
        out
    }

    pub(crate) fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
        let mut out = frame(DATA, flags, stream, u32::try_from(body.len()).expect("a short body"));
        out.extend_from_slice(body);
        out
    }
}

/// Frames of mplex, as the one who opened the stream sends them.
pub(crate) mod mplex {
    use peerage_core::varint;

    pub(crate) const NEW: u64 = 0;
    pub(crate) const MESSAGE: u64 = 2;
    pub(crate) const CLOSE: u64 = 4;
    pub(crate) const RESET: u64 = 6;

    pub(crate) fn head(flag: u64, stream: u64, length: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint::encode((stream << 3) | flag, &mut out);
        varint::encode(length, &mut out);
        out
    }

    pub(crate) fn frame(flag: u64, stream: u64, body: &[u8]) -> Vec<u8> {
        let mut out = head(flag, stream, body.len() as u64);
        out.extend_from_slice(body);
        out
    }
}
