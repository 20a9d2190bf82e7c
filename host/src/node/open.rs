use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use peerage_core::{Multiaddr, PeerId, ProtocolId, engine::NEVER, multistream};
use peerage_muxer::{ConnectionError, ErrorCode};
use peerage_transport::{
    Role,
    select::{self, Optimistic},
};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, timeout, timeout_at},
};
use tracing::{Instrument as _, debug_span, field};

use super::{Inner, Node, early::Early, known::Known};
use crate::{
    ConnectionId, Stream,
    actor::{Gone, Port},
    conn::{self, Announced, NEGOTIATION_TIMEOUT, Sure},
    dial::{self, Connected, DialError, DialErrorKind, Given, How, Report, RequestId, Trust},
    limits::{Direction, LimitError},
};

/// How long a dial may take, unless told otherwise: all addresses, security and muxer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long opening a stream may take, unless told otherwise, the dial included.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(20);

/// Whom to connect with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A peer, wherever it is: the node's address sources are asked.
    Peer(PeerId),
    /// An address, with or without the peer id at its end. Without, whoever answers there is fine.
    Address(Multiaddr),
}

impl From<PeerId> for Target {
    fn from(peer: PeerId) -> Self {
        Self::Peer(peer)
    }
}

impl From<Multiaddr> for Target {
    fn from(address: Multiaddr) -> Self {
        Self::Address(address)
    }
}

impl From<&Multiaddr> for Target {
    fn from(address: &Multiaddr) -> Self {
        Self::Address(address.clone())
    }
}

/// How to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// When it has to be done. Default: 15 s from now.
    pub timeout: Duration,
    /// Addresses to try beside those that the sources know. They are tried whatever they are, and however often they
    /// failed.
    pub addresses: Vec<Multiaddr>,
    /// The same, but some other peer named them. They are tried as those of an [`AddressSource`](crate::AddressSource) that
    /// is hearsay: not if they lead into this machine or into a private network where this node is not itself, nor to the
    /// ports of other services; nor, for a while, after an attempt there failed. So are those that names among them
    /// stand for. Default: none.
    pub hearsay: Vec<Multiaddr>,
    /// Dial even if there is a connection. Default: no.
    pub always_dial: bool,
    /// Which side this node plays in security and muxer; a hole punch makes both sides dial, and gives one of them the
    /// listener's. Default: [`Role::Initiator`].
    pub role: Role,
    /// Dial from a port that a listener was bound to with
    /// [`ListenOpts::reuse_port`](peerage_transport::ListenOpts::reuse_port), so that a NAT keeps one mapping. If that port
    /// already has a connection with the peer's, from another one. Default: yes.
    pub reuse_listen_port: bool,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: CONNECT_TIMEOUT,
            addresses: Vec::new(),
            hearsay: Vec::new(),
            always_dial: false,
            role: Role::Initiator,
            reuse_listen_port: true,
        }
    }
}

/// How to open a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The protocols to propose, the preferred first.
    pub protocols: Vec<ProtocolId>,
    /// Dial if there is no connection. Default: yes.
    pub dial: bool,
    /// Addresses for the dial, beside those that the sources know.
    pub addresses: Vec<Multiaddr>,
    /// Whether a connection through a relay, which bounds time and bytes, is good enough. Default: no.
    pub allow_limited: bool,
    /// How long all of it may take. Default: 20 s.
    pub timeout: Duration,
    /// Whether the stream is handed out before the peer has agreed on the protocol. Default: [`Optimism::Known`].
    pub optimism: Optimism,
    /// What is written on the stream before it is handed out. Default: nothing.
    pub first: Option<First>,
}

/// What is written on a stream first, as far as it is known before the stream is there.
///
/// If it may be [done again](First::replay_safe), and a connection has to be made to a known peer, it can leave with the first
/// message of the handshake, so that the peer's answer is there after one round trip (0-RTT). That is tried if
/// the peer gave this node a ticket, as listeners of this implementation do over QUIC, and by [`OpenOptions::optimism`]; it
/// may have 16 KiB. If that fails, because the peer was started anew or does not speak the protocol any more, it is sent as it would have
/// been otherwise, and not tried with that peer again until a connection came about without. The
/// [report](crate::Report) of the dial tells of it.
///
/// ```no_run
/// # async fn example(node: peerage_host::Node, peer: peerage_core::PeerId) -> Result<(), Box<dyn std::error::Error>> {
/// use peerage_core::ProtocolId;
/// use peerage_host::{First, OpenOptions};
/// use tokio::io::AsyncReadExt;
///
/// let mut options = OpenOptions::new([ProtocolId::new("/height/1")?]);
/// options.first = Some(First::new("Mount Everest").end().replay_safe());
/// let mut stream = node.open_with(peer, options).await?;
/// let mut height = String::new();
/// stream.read_to_string(&mut height).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct First {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: bool,
    pub(crate) replay_safe: bool,
}

impl First {
    /// These bytes. They are sent once, after the handshake.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), end: false, replay_safe: false }
    }

    /// And closes the writing half after them.
    #[must_use]
    pub fn end(mut self) -> Self {
        self.end = true;
        self
    }

    /// Says that it does no harm to do again what the bytes ask for, or to do it later: somebody on the way can have the peer read
    /// them twice (nobody else can read them), and so may this node, if it has to send them again.
    #[must_use]
    pub fn replay_safe(mut self) -> Self {
        self.replay_safe = true;
        self
    }
}

/// When a stream is handed out before the peer has agreed on its protocol: what is written first then leaves with the
/// proposal, which saves a round trip (connections/README.md, "Optimistic multistream negotiation"). That a peer refuses
/// is then noticed when the stream is used, and one that never answers by whoever waits for it: the time of
/// [`OpenOptions::timeout`] is over once the stream is handed out. Until something is written, read or flushed, the peer
/// hears nothing of the stream, and its handler does not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimism {
    /// Never.
    Never,
    /// If the peer said that it speaks the protocol, on this connection or the one before.
    #[default]
    Known,
    /// Always: for who knows what the peer speaks, and cannot wait.
    Always,
}

impl Optimism {
    /// The one of `protocols` that the peer is taken to speak without being asked, and how sure that is.
    pub(crate) fn hopes_for(
        self,
        announced: &Announced,
        protocols: &[ProtocolId],
        known: &Known,
    ) -> Option<(ProtocolId, Sure)> {
        let announced = || announced.first_of(protocols, known);
        match self {
            Self::Never => None,
            Self::Known => announced(),
            Self::Always => announced().or_else(|| Some((protocols.first()?.clone(), Sure::Perhaps))),
        }
    }
}

impl OpenOptions {
    /// The defaults, for these protocols.
    pub fn new(protocols: impl IntoIterator<Item = ProtocolId>) -> Self {
        Self {
            protocols: protocols.into_iter().collect(),
            dial: true,
            addresses: Vec::new(),
            allow_limited: false,
            timeout: OPEN_TIMEOUT,
            optimism: Optimism::default(),
            first: None,
        }
    }
}

/// Why a stream was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The protocol's name is not one.
    #[error("not a protocol id: {0}")]
    InvalidProtocol(#[from] peerage_core::protocol_id::Error),
    /// No protocol was proposed.
    #[error("no protocol was given")]
    NoProtocol,
    /// The only connection goes through a relay, which bounds time and bytes.
    #[error("{0} is only reachable through a relay; allow limited connections if they are good enough")]
    OnlyLimited(PeerId),
    /// There is no connection, and none was to be dialed.
    #[error("not connected with {0}; connect first, or allow dialing")]
    NotConnected(PeerId),
    /// There was no connection, and dialing gave none.
    #[error("cannot connect: {0}")]
    Dial(#[from] Box<DialError>),
    /// A limit of this node.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Connection(#[from] ConnectionError),
    /// The peer speaks none of the proposed protocols, or broke the negotiation.
    #[error("no protocol was agreed on: {0}")]
    Negotiation(select::Error),
    /// What was to be written first ([`OpenOptions::first`]) was not taken.
    #[error("the stream broke over its first bytes: {0}")]
    First(std::io::Error),
    /// It took too long.
    #[error("the peer did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The node has ended.
    #[error("the node is not running")]
    Closed(#[from] Gone),
}

impl OpenError {
    /// Whether the peer said that it speaks none of the proposed protocols; asking again is of no use.
    pub fn is_unsupported(&self) -> bool {
        let none = multistream::Error::NoneSupported;
        matches!(self, Self::Negotiation(select::Error::Negotiation(error)) if *error == none)
    }
}

impl Node {
    /// Connects with a peer or an address; if there is a connection with that peer already, that is the answer.
    ///
    /// # Errors
    /// [`DialError`], which carries the same report: every address that was tried, how far it came, and whose fault
    /// it was.
    pub async fn connect(&self, target: impl Into<Target>) -> Result<Connected, DialError> {
        self.connect_with(target, ConnectOptions::default()).await
    }

    /// As [`Node::connect`], with all that can be said about it.
    ///
    /// # Errors
    /// As [`Node::connect`].
    pub async fn connect_with(
        &self,
        target: impl Into<Target>,
        options: ConnectOptions,
    ) -> Result<Connected, DialError> {
        let (peer, mut addresses) = match target.into() {
            Target::Peer(peer) => (Some(peer), Vec::new()),
            Target::Address(address) => (address.peer_id(), vec![address]),
        };
        addresses.extend(options.addresses);
        if let Some(peer) = peer
            && !options.always_dial
            && let Some(handle) = self.inner.directory.best(&peer, true)
        {
            return Ok(Connected { peer, connection: handle.info.id, report: Report::of(Some(peer)) });
        }
        let deadline = after(options.timeout);
        let how = How { role: options.role, reuse_listen_port: options.reuse_listen_port };
        let _ = timeout_at(deadline, self.inner.interfaces.refresh_for(&options.hearsay)).await;
        let hearsay = options.hearsay.into_iter().map(|address| Given {
            address,
            source: "hearsay",
            trust: Trust::Hearsay,
        });
        let given = asked(addresses).into_iter().chain(hearsay).collect();
        self.inner.dial(peer, given, how, deadline).await
    }

    /// Opens a stream for a protocol; connects first if there is no connection.
    ///
    /// # Errors
    /// [`OpenError`], by 20 s at the latest.
    pub async fn open(&self, peer: PeerId, protocol: &str) -> Result<Stream, OpenError> {
        self.open_with(peer, OpenOptions::new([ProtocolId::new(protocol)?])).await
    }

    /// As [`Node::open`], with all that can be said about it.
    ///
    /// # Errors
    /// [`OpenError`], in `options.timeout` at the latest.
    pub async fn open_with(&self, peer: PeerId, options: OpenOptions) -> Result<Stream, OpenError> {
        let (limit, deadline) = (options.timeout, after(options.timeout));
        let first = options.first.clone();
        let (mut stream, sent) = self.open_first(peer, options).await?;
        if let Some(First { bytes, end, .. }) = first.filter(|_| !sent) {
            let writing = async {
                stream.write_all(&bytes).await?;
                if end { stream.close_write().await } else { Ok(()) }
            };
            let wrote = timeout_at(deadline, writing).await.map_err(|_| OpenError::Timeout(limit))?;
            wrote.map_err(OpenError::First)?;
        }
        Ok(stream)
    }

    /// As [`Node::open_with`], but what comes first may still have to be sent: says whether it was.
    pub(crate) async fn open_first(
        &self,
        peer: PeerId,
        options: OpenOptions,
    ) -> Result<(Stream, bool), OpenError> {
        let (limit, deadline) = (options.timeout, after(options.timeout));
        let opening = self.inner.open(peer, options, deadline);
        // A little later than the dial inside, whose error says more.
        let latest = after(limit.saturating_add(DIALER_GRACE));
        timeout_at(latest, opening).await.unwrap_or(Err(OpenError::Timeout(limit)))
    }

    /// Opens a stream on a certain connection.
    ///
    /// # Errors
    /// [`OpenError`], by 10 s at the latest.
    pub async fn open_on(&self, connection: ConnectionId, protocol: ProtocolId) -> Result<Stream, OpenError> {
        let handle = self.inner.directory.connection(connection).ok_or(ConnectionError::Closed)?;
        self.inner.open_on(&handle, vec![protocol], Optimism::Known, after(NEGOTIATION_TIMEOUT)).await
    }
}

impl Inner {
    pub(crate) async fn dial(
        &self,
        peer: Option<PeerId>,
        addresses: Vec<Given>,
        how: How,
        deadline: Instant,
    ) -> Result<Connected, DialError> {
        let request = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let span = debug_span!("dial", peer = peer.map(field::display));
        self.dial_as(request, peer, addresses, how, deadline).instrument(span).await
    }

    async fn dial_as(
        &self,
        request: RequestId,
        peer: Option<PeerId>,
        addresses: Vec<Given>,
        how: How,
        deadline: Instant,
    ) -> Result<Connected, DialError> {
        let _cancel = CancelDial { dialer: &self.ports.dialer, request };
        let failed = |kind| Err(DialError::new(kind, Arc::new(Report::of(peer))));
        // Asked a second time if the dialer was restarted over the first, as its supervisor does when a neighbour
        // failed; no more, since this dial may be what it panics over.
        for _ in 0..2 {
            let asked = self.ports.dialer.ask(|reply| dial::Command::Dial {
                request: Some(request),
                peer,
                addresses: addresses.clone(),
                how,
                deadline: deadline.into_std(),
                reply,
            });
            // The dialer answers by the deadline; should it be in trouble itself, the caller is not.
            match timeout_at(later(deadline, DIALER_GRACE), asked).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(Gone)) if self.has_ended() => return failed(DialErrorKind::Closed),
                Ok(Err(Gone)) => {}
                Err(_) => return failed(DialErrorKind::Timeout),
            }
        }
        failed(DialErrorKind::Interrupted)
    }

    /// A stream, and whether its [`OpenOptions::first`] was sent.
    async fn open(
        &self,
        peer: PeerId,
        mut options: OpenOptions,
        deadline: Instant,
    ) -> Result<(Stream, bool), OpenError> {
        // A connection may turn out to be dead only when it is used; then one more is tried.
        let mut retried = false;
        loop {
            let handle = match self.directory.best(&peer, options.allow_limited) {
                Some(handle) => handle,
                None if options.dial => {
                    let given = asked(options.addresses.clone());
                    let offered = self.offer(peer, &options);
                    let dialed = self.dial(Some(peer), given, How::default(), deadline).await;
                    let dialed = dialed.map_err(Box::new)?;
                    if let Some(offered) = offered {
                        match self.carried(offered, deadline).await {
                            Early::Opened(stream) => return Ok((*stream, true)),
                            Early::NotCarried => {}
                            // What was believed of the peer is not true any more.
                            Early::NotTaken => options.optimism = Optimism::Never,
                        }
                    }
                    match self.directory.best(&dialed.peer, options.allow_limited) {
                        Some(handle) => handle,
                        // There is one through a relay, and the caller did not opt in.
                        None if self.directory.best(&dialed.peer, true).is_some() => {
                            return Err(OpenError::OnlyLimited(dialed.peer));
                        }
                        None => return Err(ConnectionError::Closed.into()),
                    }
                }
                None => return Err(OpenError::NotConnected(peer)),
            };
            match self.open_on(&handle, options.protocols.clone(), options.optimism, deadline).await {
                Err(OpenError::Connection(_)) if !retried => {
                    self.directory.end(handle.info.id, "it was found dead");
                    retried = true;
                }
                result => return result.map(|stream| (stream, false)),
            }
        }
    }

    pub(crate) async fn open_on(
        &self,
        handle: &conn::Handle,
        protocols: Vec<ProtocolId>,
        optimism: Optimism,
        deadline: Instant,
    ) -> Result<Stream, OpenError> {
        let info = &handle.info;
        let announced = optimism.hopes_for(&handle.announced, &protocols, &self.known);
        // Charged to what is hoped for; which of the proposals it becomes is the peer's choice.
        let hoped = announced.as_ref().map(|(protocol, _)| protocol).or(protocols.first());
        let hoped = hoped.cloned().ok_or(OpenError::NoProtocol)?;
        let lease = self.ledger.outbound_stream(info.peer, &hoped)?;
        let in_use = handle.activity.stream(Direction::Outbound);
        let opening = async {
            let mut stream = handle.muxer.open().await?;
            if let Some((protocol, sure)) = announced {
                let stream = Optimistic::hoping(stream, protocol.clone(), sure == Sure::Yes);
                let stream = stream.map_err(|error| OpenError::Negotiation(error.into()))?;
                return Ok((stream, protocol));
            }
            match select::dial(&mut stream, protocols).await {
                Ok(protocol) => Ok((Optimistic::agreed(stream), protocol)),
                Err(error) => {
                    stream.reset(ErrorCode::PROTOCOL_NEGOTIATION_FAILED);
                    Err(OpenError::Negotiation(error))
                }
            }
        };
        // The peer's part takes a round trip or two; a longer wait of the caller is for dialing.
        let limit = deadline.saturating_duration_since(Instant::now()).min(NEGOTIATION_TIMEOUT);
        let span = debug_span!("open", connection = %info.id, peer = %info.peer, protocol = %hoped);
        let opened = timeout(limit, opening.instrument(span)).await;
        let (stream, protocol) = opened.unwrap_or(Err(OpenError::Timeout(limit)))?;
        Ok(Stream::new(stream, protocol, handle, in_use, lease))
    }
}

/// Tells the dialer that nobody waits any more; one that has answered does not mind.
struct CancelDial<'a> {
    dialer: &'a Port<dial::Engine<conn::Candidate>>,
    request: RequestId,
}

impl Drop for CancelDial<'_> {
    fn drop(&mut self) {
        self.dialer.post(dial::Command::Cancel { request: self.request });
    }
}

/// Addresses that whoever uses the node wants dialed.
fn asked(addresses: Vec<Multiaddr>) -> Vec<Given> {
    let given = |address| Given { address, source: "caller", trust: Trust::Asked };
    addresses.into_iter().map(given).collect()
}

/// A long time ahead is as good as never, and cannot overflow.
fn after(wait: Duration) -> Instant {
    later(Instant::now(), wait)
}

fn later(than: Instant, wait: Duration) -> Instant {
    than.checked_add(wait.min(NEVER)).unwrap_or(than)
}

/// What the dialer may be late.
const DIALER_GRACE: Duration = Duration::from_secs(1);
