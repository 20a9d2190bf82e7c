//! DTLS 1.2 by dimpl.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dimpl::{Config, DtlsCertificate, Output};

use super::{Ended, Side};
use crate::webrtc::certificate::{Certificate, Fingerprint};

/// The longest datagram of a handshake. Later ones are as long as SCTP makes them.
const MTU: usize = 1200;

/// A lost flight of the handshake is sent again after this, then after twice as long.
const FIRST_RETRY: Duration = Duration::from_millis(500);

const RETRIES: usize = 6;

/// The whole handshake. Whoever runs the session has a deadline that ends earlier.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Room for a record of the longest packet.
const BUFFER: usize = 2048;

/// Version 1.2 is what every implementation has (RFC 8827, section 6.5). The cookie round trip shows that an address
/// is the sender's own before a server computes anything for it.
static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let config = Config::builder()
        .mtu(MTU)
        .use_server_cookie(true)
        .require_client_certificate(true)
        .flight_start_rto(FIRST_RETRY)
        .flight_retries(RETRIES)
        .handshake_timeout(TIMEOUT)
        .build();
    Arc::new(config.unwrap_or_default())
});

/// What came of an input.
pub(super) enum Incoming {
    /// To be sent.
    Datagram(Vec<u8>),
    /// The other side's certificate; that it has the key comes later.
    Certificate(Fingerprint),
    /// The handshake is done, with the owner of this certificate.
    Connected(Fingerprint),
    /// What the other side sent.
    Data(Bytes),
    /// The other side says goodbye.
    Closed,
}

pub(super) struct Dtls {
    inner: dimpl::Dtls,
    peer: Option<Fingerprint>,
    timeout: Option<Instant>,
    buffer: Vec<u8>,
}

impl Dtls {
    pub(super) fn new(side: Side, certificate: &Certificate, now: Instant) -> Self {
        let own =
            DtlsCertificate { certificate: certificate.der.clone(), private_key: certificate.key.to_vec() };
        let mut inner = dimpl::Dtls::new_12(Arc::clone(&CONFIG), own, now);
        inner.set_active(side == Side::Dialer);
        Self { inner, peer: None, timeout: None, buffer: vec![0; BUFFER] }
    }

    pub(super) fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> Result<Vec<Incoming>, Ended> {
        self.inner.handle_timeout(now).map_err(failed)?;
        self.inner.handle_packet(datagram).map_err(failed)?;
        self.poll()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<Vec<Incoming>, Ended> {
        self.inner.handle_timeout(now).map_err(failed)?;
        self.poll()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    pub(super) fn encrypt(&mut self, packet: &[u8], now: Instant) -> Result<Vec<Incoming>, Ended> {
        self.inner.handle_timeout(now).map_err(failed)?;
        self.inner.send_application_data(packet).map_err(failed)?;
        self.poll()
    }

    pub(super) fn close(&mut self, now: Instant) -> Result<Vec<Incoming>, Ended> {
        self.inner.handle_timeout(now).map_err(failed)?;
        self.inner.close().map_err(failed)?;
        self.poll()
    }

    fn poll(&mut self) -> Result<Vec<Incoming>, Ended> {
        let mut all = Vec::new();
        loop {
            match self.inner.poll_output(&mut self.buffer) {
                Output::Packet(record) => all.push(Incoming::Datagram(record.to_vec())),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::PeerCert(der) => {
                    let fingerprint = Fingerprint::of(der);
                    self.peer = Some(fingerprint);
                    all.push(Incoming::Certificate(fingerprint));
                }
                Output::Connected => {
                    // Certificates are asked for on both sides.
                    let peer = self.peer.ok_or_else(|| Ended::Dtls("no certificate".to_owned()))?;
                    all.push(Incoming::Connected(peer));
                }
                Output::ApplicationData(data) => all.push(Incoming::Data(Bytes::copy_from_slice(data))),
                Output::CloseNotify => {
                    all.push(Incoming::Closed);
                    return Ok(all);
                }
                Output::Timeout(at) => {
                    // Years away when there is nothing to wait for.
                    self.timeout = Some(at);
                    return Ok(all);
                }
                // Keys for media, which there is none of.
                _ => {}
            }
        }
    }
}

fn failed(error: impl fmt::Display) -> Ended {
    Ended::Dtls(error.to_string())
}
