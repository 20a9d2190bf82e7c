//! The transport.

use std::{net::SocketAddr, sync::Arc};

use futures::{FutureExt, future::BoxFuture};
use peerage_core::Multiaddr;
use peerage_muxer::Outflow;
use rustls::pki_types::CertificateDer;
use tokio::time;

use super::{
    Certificate, Error, OPENING_TIMEOUT, WebSocketStream,
    address::{self, Address},
    tls::{self, Believed},
};
use crate::{
    DialOpts, Io, Link, ListenError, ListenOpts, Listener, Opening, Raw, Transport, TransportError,
    tcp::{Accepted, Connected, Kind, Serve, Tcp},
};

/// What a WebSocket transport shows and believes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What listeners over TLS show. Default: none, and nothing can be listened on over TLS.
    pub certificate: Option<Certificate>,
    /// Authorities that are believed beside the system's. Default: none.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Whether the authorities are believed that this machine believes (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    /// Default: `true`.
    pub system_roots: bool,
    /// Whether every certificate is believed, whoever has signed it and for whatever name. That gives up nothing of who
    /// the peer is, which noise or TLS proves inside of it; but a stranger on the way may then see how long the inner
    /// messages are and when they are sent, and answer in the server's place until that proof. For tests that make a
    /// certificate on the spot, as the official suites do. Default: `false`.
    pub any_certificate: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { certificate: None, authorities: Vec::new(), system_roots: true, any_certificate: false }
    }
}

/// The WebSocket transport. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebSocket {
    tcp: Tcp,
    certificate: Option<Certificate>,
    believed: Arc<Believed>,
}

impl WebSocket {
    /// A transport that has its ports for itself.
    pub fn new(config: Config) -> Self {
        Self::sharing(&Tcp::new(), config)
    }

    /// A transport that shares ports with `tcp`, and dials as that does, through its proxy if there is one. Not in a private network, where nothing tells plain TCP apart: it begins
    /// with a number by chance.
    pub fn sharing(tcp: &Tcp, config: Config) -> Self {
        let Config { certificate, authorities, system_roots, any_certificate } = config;
        let believed = match any_certificate {
            true => Believed::everybody(),
            false => Believed::new(authorities, system_roots),
        };
        Self { tcp: tcp.clone(), certificate, believed: Arc::new(believed) }
    }

    /// The client's side of the opening.
    async fn open(
        self,
        connected: Connected,
        to: Address,
        remote: Multiaddr,
        outflow: Outflow,
    ) -> Result<Raw, Error> {
        let local = address::bare(connected.local, to.secure);
        let (host, path) = (to.host(), to.request_path());
        let io = outflow.watch(connected.stream);
        let io: Box<dyn Io> = match to.secure {
            true => {
                let name = to.server_name().ok_or(Error::Internal("not a name".to_owned()))?;
                Box::new(WebSocketStream::dial(self.believed.dial(io, name).await?, &host, &path).await?)
            }
            false => Box::new(WebSocketStream::dial(io, &host, &path).await?),
        };
        Ok(Raw { io, local, remote, limited: false })
    }

    /// What a listener at `at` does with who comes.
    fn server(&self, at: &Address) -> Serve {
        let certificate = self.certificate.clone().filter(|_| at.secure);
        let at = at.clone();
        Arc::new(move |accepted| accept(accepted, at.clone(), certificate.clone()).boxed())
    }
}

/// The server's side of the opening.
async fn accept(accepted: Accepted, at: Address, certificate: Option<Certificate>) -> Result<Raw, Error> {
    let Accepted { io, local, remote } = accepted;
    let io: Box<dyn Io> = match certificate {
        Some(certificate) => {
            let io = tls::accept(io, certificate.current().await).await?;
            Box::new(WebSocketStream::accept(io, at.path.as_deref()).await?)
        }
        None => Box::new(WebSocketStream::accept(io, at.path.as_deref()).await?),
    };
    Ok(Raw { io, local: at.at(local), remote: address::bare(remote, at.secure), limited: false })
}

impl Transport for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn dials(&self, address: &Multiaddr) -> bool {
        Address::dialable(address).is_some()
    }

    fn listens(&self, address: &Multiaddr) -> bool {
        Address::of(address).is_some()
    }

    fn dial(&self, address: Multiaddr, opts: DialOpts) -> BoxFuture<'static, Result<Link, TransportError>> {
        let this = self.clone();
        async move {
            let Some(to) = Address::dialable(&address) else {
                return Err(TransportError::Unsupported(address));
            };
            let connected = this.tcp.connect(to.socket, &opts).await?;
            let (local, remote) = (address::bare(connected.local, to.secure), address.clone());
            let open = move |outflow| {
                let opening = this.open(connected, to, address, outflow);
                async { time::timeout(OPENING_TIMEOUT, opening).await.unwrap_or(Err(Error::Timeout)) }.boxed()
            };
            Ok(Link::Opening(Opening::new(local, remote, open)))
        }
        .boxed()
    }

    fn listen(
        &self,
        address: Multiaddr,
        opts: ListenOpts,
    ) -> BoxFuture<'static, Result<Box<dyn Listener>, ListenError>> {
        let this = self.clone();
        async move {
            let Some(at) = Address::of(&address) else {
                return Err(ListenError::Unsupported(address));
            };
            if at.secure && this.certificate.is_none() {
                return Err(ListenError::NoCertificate(address));
            }
            let kind = if at.secure { Kind::Tls } else { Kind::Http };
            let bound =
                this.tcp.serve(at.socket, &opts, kind, this.server(&at), |local: SocketAddr| at.at(local));
            bound.map_err(|source| ListenError::Bind { address, source })
        }
        .boxed()
    }
}
