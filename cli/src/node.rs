//! The node that a command runs.

use std::time::Duration;

use peerage::{
    Builder, Keypair, Multiaddr, Node, StartError,
    multiaddr::Protocol,
    store::OpenError,
    transport::{pnet, websocket},
};
use tokio::time::timeout;

use crate::{Context, args::Common, failure::Failure, identity, metrics, psk};

/// Where a command listens that was not told where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unless {
    /// On loopback.
    Loopback,
    /// Nowhere: it only dials.
    Nowhere,
}

fn websocket(common: &Common) -> Result<websocket::Config, Failure> {
    let failed = |error: websocket::PemError| Failure::new(error.to_string());
    let mut config = websocket::Config::default();
    if let (Some(chain), Some(key)) = (&common.wss_cert, &common.wss_key) {
        config.certificate = Some(websocket::Certificate::from_files(chain, key).map_err(failed)?);
    }
    for file in &common.wss_ca {
        config.authorities.extend(websocket::authorities(file).map_err(failed)?);
    }
    Ok(config)
}

/// What `--identity`, `--store`, `--announce`, `--listen`, `--lan`, `--security`, `--muxer`, `--psk`, `--wss-...` and
/// `--proxy` make of a node.
pub(crate) fn builder(common: &Common, default: Unless) -> Result<Builder, Failure> {
    let keypair: Keypair = identity::keypair(common.identity.as_deref())?;
    let mut builder = Node::builder(keypair);
    if let Some(file) = &common.store {
        builder = builder.store(file);
    }
    for address in &common.announce {
        let Ok(announcing) = builder.announce(address.clone());
        builder = announcing;
    }
    for filter in &common.no_announce {
        let Ok(hiding) = builder.no_announce(filter.clone());
        builder = hiding;
    }
    if !common.security.is_empty() {
        builder = builder.security(common.security.clone());
    }
    if !common.muxer.is_empty() {
        builder = builder.muxers(common.muxer.clone());
    }
    if let Some(file) = &common.psk {
        builder = builder.private_network(psk::load(file)?);
    }
    builder = builder.websocket(websocket(common)?);
    if let Some(proxy) = &common.proxy {
        builder = builder.proxy(proxy.clone());
    }
    let given = common.listen.iter().cloned().map(Ok);
    let chosen = match default {
        _ if !common.listen.is_empty() => None,
        _ if common.lan => Some("/ip4/0.0.0.0/tcp/0"),
        Unless::Loopback => Some("/ip4/127.0.0.1/tcp/0"),
        Unless::Nowhere => None,
    };
    for address in given.chain(chosen.map(str::parse::<Multiaddr>)) {
        let address = address.map_err(|error| Failure::new(error.to_string()))?;
        let Ok(listening) = builder.listen(address);
        builder = listening;
    }
    Ok(builder)
}

/// Starts it.
pub(crate) async fn start(context: &Context, builder: Builder) -> Result<Node, Failure> {
    let started = context.interrupt.or(builder.start()).await?;
    let node = started.map_err(|error| {
        let hint = hint(&error);
        Failure::new(error.to_string()).hint(hint)
    })?;
    let inside = |address: &Multiaddr| {
        address.is_loopback() || address.iter().any(|part| matches!(part, Protocol::Unix(_)))
    };
    if !node.listen_addresses().iter().all(inside) {
        context.out.note("This node accepts connections from other machines.");
    }
    if let Some(address) = context.common.metrics
        && let Err(failure) = metrics::serve(context, &node, address).await
    {
        stop(&node).await;
        return Err(failure);
    }
    Ok(node)
}

/// Stops it, so that its peers are told and see no broken connections.
pub(crate) async fn stop(node: &Node) {
    if timeout(STOP, node.shutdown()).await.is_err() {
        tracing::warn!("the node took more than {} s to stop", STOP.as_secs());
    }
}

/// How long a node may take to stop.
const STOP: Duration = Duration::from_secs(5);

fn hint(error: &StartError) -> String {
    match error {
        StartError::Listen { address, .. } => {
            let port = address.iter().find_map(|part| match part {
                Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
                _ => None,
            });
            match port {
                None if address.iter().any(|part| matches!(part, Protocol::Unix(_))) => {
                    "choose a path that is free, in a directory that is there and can be written".to_owned()
                }
                None => "this build listens on /tcp/PORT and /udp/PORT/quic-v1 after /ip4/IP or /ip6/IP"
                    .to_owned(),
                Some(0) => "choose an address of this machine".to_owned(),
                Some(port) => format!("if port {port} is in use, choose another one, or 0 for any"),
            }
        }
        StartError::NoPrivateNetwork => {
            format!("join one with --psk FILE, or start without {} in the environment", pnet::FORCE)
        }
        StartError::Plaintext => {
            "give --security plaintext alone, on both sides, and only for tests".to_owned()
        }
        StartError::Store { why: OpenError::InUse, .. } => {
            "name another file, or end the node that uses this one".to_owned()
        }
        StartError::Store { why: OpenError::Newer { .. }, .. } => {
            "name another file, or use the version that wrote this one".to_owned()
        }
        StartError::Store { .. } => "name a file in a directory that is there and can be written".to_owned(),
        _ => "this is not about what you asked for; please report it".to_owned(),
    }
}
