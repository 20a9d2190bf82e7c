//! TCP, with TLS or without anything: a stream is a connection.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bench_peer::{Error, REQUEST, Result, failed};
use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{stream::Stream, tls};

pub(crate) struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn listen(host: Ipv4Addr, with_tls: bool) -> Result<(Listener, String)> {
    let listener = TcpListener::bind((host, 0)).await.map_err(failed("listening"))?;
    let at: SocketAddr = listener.local_addr().map_err(failed("listening"))?;
    let mut acceptor = None;
    let address = if with_tls {
        tls::server(|config| {
            acceptor = Some(TlsAcceptor::from(Arc::new(config)));
            Ok(at)
        })?
    } else {
        at.to_string()
    };
    let accepting = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                socket.set_nodelay(true)?;
                let stream = match acceptor {
                    Some(acceptor) => {
                        Stream::Tls(Box::new(TlsStream::Server(acceptor.accept(socket).await?)))
                    }
                    None => Stream::Tcp(socket),
                };
                stream.serve().await
            });
        }
    });
    Ok((Listener(accepting.abort_handle()), address))
}

pub(crate) struct Node {
    with_tls: bool,
    at: Mutex<Option<Peer>>,
}

/// Whom to connect with, and the connection that no stream has taken yet.
struct Peer {
    address: SocketAddr,
    connector: Option<TlsConnector>,
    fresh: Option<Stream>,
}

impl Peer {
    async fn connect(&self) -> Result<Stream> {
        let socket = TcpStream::connect(self.address).await.map_err(failed("connecting"))?;
        socket.set_nodelay(true).map_err(failed("TCP_NODELAY"))?;
        let Some(connector) = &self.connector else { return Ok(Stream::Tcp(socket)) };
        let name = ServerName::try_from(tls::NAME).map_err(failed("the name"))?;
        let stream = connector.connect(name, socket).await.map_err(failed("TLS"))?;
        Ok(Stream::Tls(Box::new(TlsStream::Client(stream))))
    }
}

impl Node {
    pub(crate) fn new(with_tls: bool) -> Self {
        Self { with_tls, at: Mutex::default() }
    }

    pub(crate) async fn dial(&self, address: &str) -> Result<()> {
        let mut peer = if self.with_tls {
            let (address, config) = tls::client(address)?;
            Peer { address, connector: Some(TlsConnector::from(Arc::new(config))), fresh: None }
        } else {
            Peer { address: address.parse().map_err(failed("the address"))?, connector: None, fresh: None }
        };
        peer.fresh = Some(peer.connect().await?);
        *self.at.lock().await = Some(peer);
        Ok(())
    }

    pub(crate) async fn open(&self, protocol: &'static str) -> Result<Stream> {
        if protocol == REQUEST {
            return Err(Error::Unsupported("many streams on one raw connection".to_owned()));
        }
        let mut at = self.at.lock().await;
        let peer = at.as_mut().ok_or_else(|| Error::Failed("there is no connection".to_owned()))?;
        let mut stream = match peer.fresh.take() {
            Some(stream) => stream,
            None => peer.connect().await?,
        };
        stream.name(protocol).await.map_err(failed("writing"))?;
        Ok(stream)
    }

    pub(crate) fn hang_up(&self) -> Result<()> {
        *self.at.try_lock().map_err(failed("hanging up"))? = None;
        Ok(())
    }
}
