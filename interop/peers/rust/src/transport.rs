//! One transport, with one security and one muxer where it does not bring its own, so that a test tests what it names.

use std::path::Path;

use libp2p::{
    PeerId, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::Boxed,
        upgrade::Version,
    },
    futures::{AsyncRead, AsyncWrite},
    identity::Keypair,
    noise, quic, tcp, tls, websocket, yamux,
};
use libp2p_mplex as mplex;
use libp2p_webrtc::tokio as webrtc;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{Options, Result};

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// The names of the transports, and where one listens unless told otherwise.
const LISTEN: [(&str, &str); 5] = [
    ("tcp", "/ip4/127.0.0.1/tcp/0"),
    ("ws", "/ip4/127.0.0.1/tcp/0/ws"),
    ("wss", "/ip4/127.0.0.1/tcp/0/tls/ws"),
    ("quic-v1", "/ip4/127.0.0.1/udp/0/quic-v1"),
    (WEBRTC_DIRECT, "/ip4/127.0.0.1/udp/0/webrtc-direct"),
];
pub const WEBRTC_DIRECT: &str = "webrtc-direct";

/// Where a transport listens unless told otherwise.
pub fn listen_address(name: &str) -> Result<&'static str> {
    let known = LISTEN.iter().find(|(known, _)| *known == name);
    known.map(|(_, address)| *address).ok_or_else(|| format!("no such transport: {name}").into())
}

/// The transport that the options name.
pub fn new(options: &Options) -> Result<Connections> {
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default());
    match options.transport.as_str() {
        "ws" => upgraded(websocket::Config::new(tcp()), options),
        "wss" => {
            let mut wss = websocket::Config::new(tcp());
            wss.set_tls_config(certificates(options)?);
            upgraded(wss, options)
        }
        "quic-v1" => Ok(quic::tokio::Transport::new(quic::Config::new(&options.key))
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed()),
        WEBRTC_DIRECT => webrtc_direct(&options.key),
        _ => upgraded(tcp(), options),
    }
}

fn upgraded<T>(transport: T, options: &Options) -> Result<Connections>
where
    T: Transport<Output: AsyncRead + AsyncWrite + Send + Unpin, Error: Send + Sync, Dial: Send, ListenerUpgrade: Send>,
    T: Send + Unpin + 'static,
{
    let key = &options.key;
    let upgrade = transport.upgrade(Version::V1Lazy);
    Ok(match (options.tls, options.mplex) {
        (false, false) => {
            upgrade.authenticate(noise::Config::new(key)?).multiplex(yamux::Config::default()).boxed()
        }
        (false, true) => {
            upgrade.authenticate(noise::Config::new(key)?).multiplex(mplex::Config::new()).boxed()
        }
        (true, false) => {
            upgrade.authenticate(tls::Config::new(key)?).multiplex(yamux::Config::default()).boxed()
        }
        (true, true) => {
            upgrade.authenticate(tls::Config::new(key)?).multiplex(mplex::Config::new()).boxed()
        }
    })
}

/// The certificate that a listener shows, and the authority that a dialer trusts.
fn certificates(options: &Options) -> Result<websocket::tls::Config> {
    let read = |path: &Path| -> Result<_> {
        Ok(websocket::tls::Certificate::new(CertificateDer::from_pem_file(path)?.to_vec()))
    };
    let mut config = websocket::tls::Config::builder();
    if let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) {
        let key = PrivateKeyDer::from_pem_file(key)?;
        let key = websocket::tls::PrivateKey::new(key.secret_der().to_vec());
        config.server(key, [read(certificate)?])?;
    }
    if let Some(authority) = &options.tls_ca {
        config.add_trust(&read(authority)?)?;
    }
    Ok(config.finish())
}

fn webrtc_direct(key: &Keypair) -> Result<Connections> {
    // It asks rustls for the one provider that is compiled in, but its dependencies and libp2p-tls bring two.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certificate = webrtc::Certificate::generate(&mut rand::rng())?;
    Ok(webrtc::Transport::new(key.clone(), certificate)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed())
}
