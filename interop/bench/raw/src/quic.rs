//! quinn as it is: its own defaults, one endpoint for each node.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use bench_peer::{Error, Result, failed};
use quinn::{
    ClientConfig, Connection, Endpoint, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};

use crate::{stream::Stream, tls};

fn at(host: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((host, 0))
}

pub(crate) struct Listener(Endpoint);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.close(0_u32.into(), b"");
    }
}

pub(crate) fn listen(host: Ipv4Addr) -> Result<(Listener, String)> {
    let mut listening = None;
    let address = tls::server(|config| {
        let config = QuicServerConfig::try_from(config).map_err(failed("QUIC"))?;
        let config = ServerConfig::with_crypto(Arc::new(config));
        let endpoint = Endpoint::server(config, at(host)).map_err(failed("listening"))?;
        let at = endpoint.local_addr().map_err(failed("listening"))?;
        listening = Some(endpoint);
        Ok(at)
    })?;
    let endpoint = listening.ok_or_else(|| Error::Failed("it listens nowhere".to_owned()))?;
    let accepting = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, receive)) = connection.accept_bi().await {
                    tokio::spawn(Stream::Quic(send, receive).serve());
                }
            });
        }
    });
    Ok((Listener(endpoint), address))
}

pub(crate) struct Node {
    endpoint: Endpoint,
    connection: Mutex<Option<Connection>>,
}

impl Node {
    pub(crate) fn new(host: Ipv4Addr) -> Result<Self> {
        let endpoint = Endpoint::client(at(host)).map_err(failed("a socket"))?;
        Ok(Self { endpoint, connection: Mutex::default() })
    }

    pub(crate) async fn dial(&self, address: &str) -> Result<()> {
        let (address, config) = tls::client(address)?;
        let config = QuicClientConfig::try_from(config).map_err(failed("QUIC"))?;
        let config = ClientConfig::new(Arc::new(config));
        let connecting = self.endpoint.connect_with(config, address, tls::NAME).map_err(failed("dialing"))?;
        let connection = connecting.await.map_err(failed("dialing"))?;
        *self.connection.lock().map_err(failed("the connection"))? = Some(connection);
        Ok(())
    }

    pub(crate) async fn open(&self, protocol: &'static str) -> Result<Stream> {
        let connection = self.connection.lock().map_err(failed("the connection"))?.clone();
        let connection = connection.ok_or_else(|| Error::Failed("there is no connection".to_owned()))?;
        let (send, receive) = connection.open_bi().await.map_err(failed("opening"))?;
        let mut stream = Stream::Quic(send, receive);
        stream.name(protocol).await.map_err(failed("writing"))?;
        Ok(stream)
    }

    pub(crate) fn hang_up(&self) -> Result<()> {
        if let Some(connection) = self.connection.lock().map_err(failed("the connection"))?.take() {
            connection.close(0_u32.into(), b"");
        }
        Ok(())
    }
}
