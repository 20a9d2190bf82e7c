//! A QUIC client whose packets say what it is told, frame by frame. quinn does everything else: the
//! handshake, packet numbers, encryption, acknowledgements. It has what it is about to encrypt replaced.

use std::{
    any::Any,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use peerage_core::Multiaddr;
use peerage_security::tls;
use quinn::{VarInt, crypto::rustls::QuicClientConfig};
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{ClientConfig, CryptoError, ExportKeyingMaterialError, KeyPair, Keys, PacketKey, Session},
    transport_parameters::TransportParameters,
};
use tokio::sync::Notify;

use super::keypair;

/// Frames that fit into a packet of the shortest MTU, with room for its header and tag.
pub(crate) const ROOM: usize = 1100;

/// The client, after an honest handshake.
pub(crate) struct Puppet {
    pub(crate) connection: quinn::Connection,
    script: Arc<Script>,
    /// What quinn believes to be its receive window: one byte more is reason enough for a packet.
    window: u32,
    _endpoint: quinn::Endpoint,
}

#[derive(Default)]
struct Script {
    next: Mutex<Option<Vec<u8>>>,
    said: Notify,
}

impl Puppet {
    pub(crate) async fn connect(to: SocketAddr, seed: u8) -> Self {
        let script = Arc::new(Script::default());
        let honest = tls::Config::new(&keypair(seed)).expect("randomness").quic_client().expect("a client").0;
        let honest = Arc::new(QuicClientConfig::try_from(honest).expect("AES-128-GCM is among the ciphers"));
        let mut config = quinn::ClientConfig::new(Arc::new(Spoiled { honest, script: script.clone() }));
        let window = 1 << 20;
        let mut transport = quinn::TransportConfig::default();
        transport.pad_to_mtu(true).mtu_discovery_config(None).receive_window(VarInt::from_u32(window));
        config.transport_config(Arc::new(transport));
        let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback");
        let connecting = endpoint.connect_with(config, to, "0.0.0.0").expect("an address");
        let connection = connecting.await.expect("an honest handshake");
        Self { connection, script, window, _endpoint: endpoint }
    }

    /// Sends a packet with nothing in it but these frames. `false` if the connection has ended.
    pub(crate) async fn say(&mut self, frames: &[u8]) -> bool {
        assert!(frames.len() <= ROOM, "{} bytes", frames.len());
        *self.script.next.lock().expect("no panic") = Some(frames.to_vec());
        let said = self.script.said.notified();
        self.window += 1;
        self.connection.set_receive_window(VarInt::from_u32(self.window));
        tokio::select! {
            _ = self.connection.closed() => false,
            () = said => true,
        }
    }

    /// Frames that are made one by one, in as few packets as hold them.
    pub(crate) async fn say_all(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> bool {
        let mut packet = Vec::new();
        for frame in frames {
            if packet.len() + frame.len() > ROOM {
                if !self.say(&packet).await {
                    return false;
                }
                packet.clear();
            }
            packet.extend(frame);
        }
        self.say(&packet).await
    }
}

/// Where a node listens with QUIC.
pub(crate) fn socket(address: &Multiaddr) -> SocketAddr {
    address.socket_addr().expect("a socket").addr
}

struct Spoiled {
    honest: Arc<QuicClientConfig>,
    script: Arc<Script>,
}

impl ClientConfig for Spoiled {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = self.honest.clone().start_session(version, server_name, params)?;
        Ok(Box::new(SpoiledSession { inner, script: self.script.clone(), keys: 0 }))
    }
}

struct SpoiledSession {
    inner: Box<dyn Session>,
    script: Arc<Script>,
    /// How many keys the handshake has given: the second are those of the data.
    keys: u32,
}

impl SpoiledSession {
    fn spoil(&self, key: Box<dyn PacketKey>) -> Box<dyn PacketKey> {
        Box::new(SpoiledKey { inner: key, script: self.script.clone() })
    }
}

impl Session for SpoiledSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.inner.initial_keys(dst_cid, side)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn quinn_proto::crypto::HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let Keys { header, packet } = self.inner.write_handshake(buf)?;
        self.keys += 1;
        let KeyPair { local, remote } = packet;
        let local = if self.keys == 2 { self.spoil(local) } else { local };
        Some(Keys { header, packet: KeyPair { local, remote } })
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let KeyPair { local, remote } = self.inner.next_1rtt_keys()?;
        Some(KeyPair { local: self.spoil(local), remote })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}

struct SpoiledKey {
    inner: Box<dyn PacketKey>,
    script: Arc<Script>,
}

impl PacketKey for SpoiledKey {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let end = buf.len() - self.inner.tag_len();
        let payload = &mut buf[header_len..end];
        let mut next = self.script.next.lock().expect("no panic");
        if let Some(frames) = next.take_if(|frames| frames.len() <= payload.len()) {
            // What remains is padding.
            payload.fill(0);
            payload[..frames.len()].copy_from_slice(&frames);
            self.script.said.notify_one();
        }
        drop(next);
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// Frames of RFC 9000, section 19.
pub(crate) mod frame {
    fn varint(value: u64, out: &mut Vec<u8>) {
        let bytes = value.to_be_bytes();
        match value {
            0..0x40 => out.push(bytes[7]),
            0x40..0x4000 => out.extend([bytes[6] | 0x40, bytes[7]]),
            0x4000..0x4000_0000 => out.extend([bytes[4] | 0x80, bytes[5], bytes[6], bytes[7]]),
            _ => out.extend([&[bytes[0] | 0xc0], &bytes[1..]].concat()),
        }
    }

    /// A type and numbers: most frames are no more.
    pub(crate) fn numbers(numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        numbers.iter().for_each(|number| varint(*number, &mut out));
        out
    }

    pub(crate) const MAX: u64 = (1 << 62) - 1;

    pub(crate) fn stream(id: u64, offset: u64, data: &[u8]) -> Vec<u8> {
        [&numbers(&[0x0e, id, offset, data.len() as u64]), data].concat()
    }

    pub(crate) fn crypto(offset: u64, data: &[u8]) -> Vec<u8> {
        [&numbers(&[0x06, offset, data.len() as u64]), data].concat()
    }

    pub(crate) fn path_challenge(token: u64) -> Vec<u8> {
        [&[0x1a], &token.to_be_bytes()[..]].concat()
    }

    pub(crate) fn new_connection_id(sequence: u64, retire_prior_to: u64) -> Vec<u8> {
        let id = [&sequence.to_be_bytes()[..], &[8; 8]].concat();
        [&numbers(&[0x18, sequence, retire_prior_to])[..], &[16], &id, &id].concat()
    }
}
