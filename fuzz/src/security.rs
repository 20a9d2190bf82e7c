//! Handshakes: against a peer that says anything, and against an honest one whose bytes are altered on the way.

use std::{sync::LazyLock, time::Duration};

use peerage_core::Keypair;
use peerage_security::{
    Role, noise, plaintext,
    pnet::{PnetStream, PreSharedKey},
    tls,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, duplex};

use crate::{
    io::{Scripted, run},
    values::keypair,
};

static NOISE: LazyLock<noise::Config> = LazyLock::new(|| {
    let muxers = [peerage_core::ProtocolId::from_static("/yamux/1.0.0")];
    noise::Config::new(&keypair()).expect("a configuration").offering(muxers)
});
static TLS: LazyLock<tls::Config> = LazyLock::new(|| {
    let muxers = [peerage_core::ProtocolId::from_static("/yamux/1.0.0")];
    tls::Config::new(&keypair()).expect("a configuration").offering(muxers)
});
static PLAINTEXT: LazyLock<plaintext::Config> = LazyLock::new(|| plaintext::Config::new(&keypair()));
static PSK: LazyLock<PreSharedKey> = LazyLock::new(|| PreSharedKey::from_bytes([9; 32]));

fn role(how: u8) -> Role {
    if how & 1 == 0 { Role::Responder } else { Role::Initiator }
}

fn piece(how: u8) -> usize {
    if how & 2 == 0 { 1 << 20 } else { 1 }
}

/// A stranger's bytes prove no identity: no handshake may succeed on them.
pub(crate) fn noise_raw(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, piece(*how));
    assert!(run(noise::upgrade(io, role(*how), &NOISE)).is_err());
}

pub(crate) fn noise_raw_seeds() -> Vec<Vec<u8>> {
    let hello = noise::Initiator::start(&NOISE).map(|(_, hello)| hello).unwrap_or_default();
    let len = u16::try_from(hello.len()).unwrap_or_default().to_be_bytes();
    let hello = [&[0], &len[..], &hello].concat();
    vec![hello.clone(), [&hello[..], &[0, 100], &[7; 100]].concat(), [&[1, 0, 200][..], &[7; 200]].concat()]
}

pub(crate) fn tls_raw(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, piece(*how));
    assert!(run(tls::upgrade(io, role(*how), &TLS)).is_err());
}

pub(crate) fn tls_raw_seeds() -> Vec<Vec<u8>> {
    vec![
        // The beginning of a ClientHello, and an alert.
        [&[0, 22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 3], &[5; 32][..], &[0, 0, 2, 0x13, 1, 1, 0]].concat(),
        vec![1, 21, 3, 3, 0, 2, 2, 40],
    ]
}

pub(crate) fn noise_altered(data: &[u8]) {
    altered(data, |io, role| async move { noise::upgrade(io, role, &NOISE).await.map(|(io, _)| io).ok() });
}

pub(crate) fn tls_altered(data: &[u8]) {
    altered(data, |io, role| async move { tls::upgrade(io, role, &TLS).await.map(|(io, _)| io).ok() });
}

/// Two honest sides, and changes to what one of them says: at which byte, and which bits. If both come through, what
/// they say to each other arrives, or an error does, but nothing else.
fn altered<Fut, S>(data: &[u8], upgrade: impl Fn(Box<dyn Io>, Role) -> Fut)
where
    Fut: Future<Output = Option<S>>,
    S: AsyncRead + AsyncWrite + Unpin,
{
    const SAID: &[u8] = b"what is said after the handshake";
    let Some((how, changes)) = data.split_first() else { return };
    let changes: Vec<(u16, u8)> = changes
        .chunks_exact(3)
        .take(16)
        .map(|change| (u16::from_le_bytes([change[0], change[1]]), change[2]))
        .collect();
    run(async {
        let (near, far) = duplex(64 * 1024);
        let near: Box<dyn Io> = Box::new(Altering { io: near, at: 0, changes });
        let saying = async {
            let mut io = upgrade(near, role(*how)).await?;
            io.write_all(SAID).await.ok()?;
            io.shutdown().await.ok()
        };
        let hearing = async {
            let mut io = upgrade(Box::new(far), role(how ^ 1)).await?;
            let mut heard = Vec::new();
            io.read_to_end(&mut heard).await.ok()?;
            Some(heard)
        };
        // A length that was altered makes one wait for what never comes; the deadline is the upgrade's, above.
        let both = async { tokio::join!(saying, hearing) };
        let Ok((one, other)) = tokio::time::timeout(Duration::from_secs(10), both).await else { return };
        if let Some(heard) = other {
            assert!(SAID.starts_with(&heard), "{heard:?} was never said");
            assert!(one.is_none() || heard == SAID || heard.is_empty());
        }
    });
}

pub(crate) fn altered_seeds() -> Vec<Vec<u8>> {
    vec![vec![0], vec![1], vec![0, 1, 0, 1], vec![1, 40, 0, 0x80], vec![0, 200, 0, 1, 44, 1, 2]]
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Changes bits of what is written through it.
struct Altering<S> {
    io: S,
    at: u16,
    changes: Vec<(u16, u8)>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Altering<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Altering<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        let mut bytes = bytes.to_vec();
        for (at, bits) in &self.changes {
            let index = at.checked_sub(self.at).map(usize::from);
            if let Some(byte) = index.and_then(|index| bytes.get_mut(index)) {
                *byte ^= bits;
            }
        }
        let written = std::task::ready!(std::pin::Pin::new(&mut self.io).poll_write(cx, &bytes))?;
        self.at = self.at.saturating_add(u16::try_from(written).unwrap_or(u16::MAX));
        std::task::Poll::Ready(Ok(written))
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

pub(crate) fn tls_certificate(data: &[u8]) {
    tls::fuzzing::check(&TLS, data);
}

pub(crate) fn tls_certificate_seeds() -> Vec<Vec<u8>> {
    vec![tls::fuzzing::certificate(&keypair())]
}

pub(crate) fn plaintext(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, piece(*how));
    if let Ok((_, authenticated)) = run(plaintext::upgrade(io, role(*how), &PLAINTEXT)) {
        assert_eq!(authenticated.peer, authenticated.public_key.peer_id());
    }
}

/// What an honest peer says.
pub(crate) fn exchange(keypair: &Keypair) -> Vec<u8> {
    let (mut message, mut framed) = (Vec::new(), Vec::new());
    peerage_core::protobuf::put_bytes(1, keypair.peer_id().as_bytes(), &mut message);
    peerage_core::protobuf::put_bytes(2, &keypair.public().to_protobuf(), &mut message);
    peerage_core::frame::encode(&message, &mut framed);
    framed
}

pub(crate) fn plaintext_seeds() -> Vec<Vec<u8>> {
    let exchange = exchange(&Keypair::from_ed25519_seed([8; 32]));
    vec![[&[0][..], &exchange].concat(), [&[3][..], &exchange].concat()]
}

pub(crate) fn psk_file(data: &[u8]) {
    if let Ok(key) = PreSharedKey::from_file(data) {
        let again = PreSharedKey::from_file(key.to_file().as_bytes()).expect("what was written is read");
        assert_eq!(again.fingerprint(), key.fingerprint());
    }
}

pub(crate) fn psk_file_seeds() -> Vec<Vec<u8>> {
    let head = "/key/swarm/psk/1.0.0/\n";
    let base64 = format!("{head}/base64/\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=");
    let binary = [head.as_bytes(), b"/bin/\n", &[9; 32]].concat();
    vec![PSK.to_file().as_bytes().to_vec(), base64.into(), binary]
}

/// A stream under a shared key, read from a stranger.
pub(crate) fn pnet(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    run(async {
        let Ok(mut stream) = PnetStream::new(Scripted::new(bytes, piece(*how)), &PSK) else { return };
        let mut heard = Vec::new();
        let _ = stream.write_all(b"hello").await;
        let _ = stream.read_to_end(&mut heard).await;
        assert_eq!(heard.len(), bytes.len().saturating_sub(24), "a nonce, and what follows it");
    });
}

pub(crate) fn pnet_seeds() -> Vec<Vec<u8>> {
    vec![vec![0; 30], vec![2; 70]]
}
