//! From a raw link to a secured, multiplexed connection whose peer has proven who it is.
//!
//! The order is that of the specification (connections/README.md, "Upgrading connections"): multistream-select of a
//! security protocol, its handshake, then a muxer, which comes with the handshake where both sides know how
//! (connections/inlined-muxer-negotiation.md) and by a second multistream-select, inside the encryption, where not.
//! Nothing is ever spoken in plaintext but the choice of the security protocol, unless plaintext was configured, which
//! then is the only choice; and in a private network not even that.
//!
//! One deadline bounds all of it. Whoever sends a byte now and then does not move it.

mod config;
mod error;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use peerage_core::{Keypair, PeerId, ProtocolId, budget::Budget, multistream};
#[cfg(feature = "mplex")]
use peerage_muxer::mplex;
#[cfg(feature = "yamux-crate")]
use peerage_muxer::yamux_crate;
use peerage_muxer::{Buffered, Muxed, Outflow, yamux};
use peerage_security::{
    Authenticated, noise, plaintext,
    pnet::{Fingerprint, PnetStream, PreSharedKey},
    tls,
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite},
    time::{self, Instant},
};

pub use peerage_security::tls::KeyExchange;

pub(crate) use self::error::Failure;
pub use self::{
    config::{Config, MuxerKind, Security, TIMEOUT, UnknownName},
    error::{UpgradeError, UpgradeErrorKind},
};
use crate::{
    DialOpts, Established, Fault, Io, Link, Opening, Progress, Raw, Resumption, Role, Stage, Unfinished,
    Unproven,
    read_ahead::ReadAhead,
    select::{self, Optimistic},
};

/// Makes connections out of raw links. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Upgrader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    /// Holds the static key, one for all connections of this upgrader.
    noise: noise::Config,
    /// Holds the certificate, likewise.
    tls: tls::Config,
    plaintext: plaintext::Config,
}

/// How to upgrade one link.
#[derive(Clone, Debug)]
pub struct UpgradeOpts {
    /// Which side this node plays: the one that dialed is the initiator, except where a hole punch says otherwise.
    pub role: Role,
    /// The peer that has to be on the other side; another one is an error.
    pub expected: Option<PeerId>,
    /// When it has to be done; [`Config::timeout`] may end it earlier.
    pub deadline: Instant,
    /// Told at the start of each stage.
    pub progress: Option<Arc<Progress>>,
    /// Where the connection's buffers take their memory.
    pub budget: Budget,
    /// What the initiator believes of the peer.
    pub belief: Belief,
    /// Whether a listener wants a connection that resumes a session before the handshake is done, to answer what comes
    /// early; it is then [`Unproven`]. Else early data wait for the end of the handshake.
    pub early: bool,
}

/// What is believed of the security protocols that a peer takes. To be right about it saves a round trip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Belief {
    /// Nothing: it is asked.
    #[default]
    None,
    /// It takes this one, which is proposed alone, in one flight with the beginning of its handshake. A peer that does not
    /// take it ends the upgrade ([`UpgradeError::is_refusal`]), which has to be done again, over another link.
    Takes(ProtocolId),
    /// It does not take this one.
    Refuses(ProtocolId),
}

impl UpgradeOpts {
    /// For a link that somebody else opened, without a limit on memory.
    pub fn incoming(deadline: Instant) -> Self {
        Self {
            role: Role::Responder,
            expected: None,
            deadline,
            progress: None,
            budget: Budget::unlimited(),
            belief: Belief::None,
            early: false,
        }
    }
}

impl From<&DialOpts> for UpgradeOpts {
    fn from(opts: &DialOpts) -> Self {
        Self {
            role: opts.role_override,
            expected: opts.expected,
            deadline: opts.deadline,
            progress: None,
            budget: Budget::unlimited(),
            belief: opts.belief.clone(),
            early: false,
        }
    }
}

impl Upgrader {
    /// An upgrader that proves to be `keypair`'s peer.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, as [`Keypair::generate`] does.
    #[allow(clippy::expect_used, reason = "a machine without randomness can do nothing that follows")]
    pub fn new(keypair: &Keypair, mut config: Config) -> Self {
        never_beside_another(&mut config.security);
        let muxers = || config.muxers.iter().map(|kind| kind.protocol());
        let noise =
            noise::Config::new(keypair).expect("the operating system gives randomness").offering(muxers());
        let tls =
            tls::Config::new(keypair).expect("the operating system gives randomness").offering(muxers());
        let tls = tls.exchanging(config.key_exchange);
        let plaintext = plaintext::Config::new(keypair);
        Self { shared: Arc::new(Shared { config, noise, tls, plaintext }) }
    }

    /// The security protocols, the preferred first.
    pub fn security(&self) -> &[Security] {
        &self.shared.config.security
    }

    /// The fingerprint of the private network's key, if all connections belong to one.
    pub fn private_network(&self) -> Option<Fingerprint> {
        self.shared.config.private_network.as_ref().map(PreSharedKey::fingerprint)
    }

    /// Whether all connections belong to a private network.
    pub fn is_private(&self) -> bool {
        self.shared.config.private_network.is_some()
    }

    /// Makes a connection out of what a transport yields: [`Upgrader::upgrade`] for raw links, once they are open, and the
    /// transport's own handshake for unfinished ones, by the same deadlines. A private network lets only raw links through.
    ///
    /// # Errors
    /// As [`Upgrader::upgrade`]; and [`UpgradeErrorKind::NotPrivate`].
    pub async fn finish(&self, link: Link, opts: UpgradeOpts) -> Result<Established, UpgradeError> {
        match link {
            Link::Raw(raw) => self.upgrade(raw, opts).await,
            Link::Opening(opening) => self.by_stages(Socket::Opening(opening), opts).await,
            Link::Unfinished(_) | Link::Established(_) if self.is_private() => {
                Err(Failure::new(Fault::Local, UpgradeErrorKind::NotPrivate).at(Stage::Security))
            }
            Link::Unfinished(unfinished) => self.complete(unfinished, opts).await,
            Link::Established(established) => Ok(*established),
        }
    }

    /// The transport's own handshake.
    async fn complete(&self, unfinished: Unfinished, opts: UpgradeOpts) -> Result<Established, UpgradeError> {
        let progress = opts.progress.clone().unwrap_or_default();
        progress.enter(Stage::Security);
        let (deadline, late) = self.deadline(opts.deadline);
        let handshake = unfinished.finish(UpgradeOpts { progress: Some(progress.clone()), ..opts });
        let over = move |stage| Failure::new(late, UpgradeErrorKind::Timeout).at(stage);
        let finished = time::timeout_at(deadline, handshake).await;
        let mut established = finished.unwrap_or_else(|_| Err(over(progress.stage())))?;
        let proof = &mut established.resumption.unproven;
        *proof = proof.take().map(|proof| {
            let in_time = time::timeout_at(deadline, proof);
            Unproven::new(async move { in_time.await.unwrap_or_else(|_| Err(over(Stage::Security))) })
        });
        Ok(established)
    }

    /// Secures and multiplexes `raw`. The link is closed when this fails or is dropped.
    ///
    /// # Errors
    /// [`UpgradeError`], by the deadline at the latest.
    pub async fn upgrade(&self, raw: Raw, opts: UpgradeOpts) -> Result<Established, UpgradeError> {
        self.by_stages(Socket::Raw(raw), opts).await
    }

    async fn by_stages(&self, socket: Socket, opts: UpgradeOpts) -> Result<Established, UpgradeError> {
        let progress = opts.progress.unwrap_or_default();
        let (deadline, late) = self.deadline(opts.deadline);
        let understood = AtomicBool::new(false);
        let who = (opts.role, opts.expected, opts.belief);
        // Boxed: it is several kilobytes, which whoever waits for it would move about with everything around it.
        let stages = Box::pin(self.shared.stages(socket, who, &progress, &understood, opts.budget));
        let result = match time::timeout_at(deadline, stages).await {
            Ok(result) => result,
            Err(_) => Err(Failure::new(late, UpgradeErrorKind::Timeout)),
        };
        let secured = progress.stage() >= Stage::Security;
        let unproven = self.is_private() && secured && !understood.load(Ordering::Relaxed);
        let result = result.map_err(|failure| if unproven { failure.under_key() } else { failure });
        result.map_err(|failure| failure.at(progress.stage()))
    }

    /// When an upgrade that begins now has to be done, and whose fault it is if it is not.
    fn deadline(&self, asked: Instant) -> (Instant, Fault) {
        // With a timeout too large to add, the options' own deadline remains.
        match Instant::now().checked_add(self.shared.config.timeout) {
            Some(latest) if latest <= asked => (latest, Fault::Remote),
            // The caller may have used most of its time before there was a link.
            _ => (asked, Fault::Local),
        }
    }
}

impl Shared {
    async fn stages(
        &self,
        socket: Socket,
        (role, expected, belief): (Role, Option<PeerId>, Belief),
        progress: &Progress,
        understood: &AtomicBool,
        budget: Budget,
    ) -> Result<Established, Failure> {
        let Config { security: known, private_network, .. } = &self.config;
        // Every layer from here on buffers; whether the peer still reads is seen under them.
        let outflow = Outflow::default();
        let Raw { io, local, remote, limited } = match socket {
            Socket::Raw(raw) => Raw { io: Box::new(outflow.watch(raw.io)), ..raw },
            Socket::Opening(opening) => {
                progress.enter(Stage::WebSocket);
                opening.open(outflow.clone()).await?
            }
        };
        progress.enter(Stage::Security);
        let io: Box<dyn Io> = match private_network {
            Some(key) => Box::new(PnetStream::new(io, key)?),
            None => io,
        };
        let mut io = match role {
            Role::Initiator => ReadAhead::new(io),
            Role::Responder => ReadAhead::answering(io),
        };
        let (known, believed) = guess(known, role, &belief);
        let (security, io) = match believed {
            // Sound without more: no peer takes the first message of a handshake for a proposal, and one that refused
            // would end the link over it (`multistream::breaks`).
            Some(security) => {
                let hoping = Optimistic::hoping(io, security.protocol(), false);
                (security, hoping.map_err(select::Error::from)?)
            }
            None => {
                let agreed = agree(&mut io, role, &known, Security::protocol).await;
                if !matches!(agreed, Ok(Some(_))) {
                    // Who was sure of itself sent more than its proposal, and hears that it was refused.
                    let _ = io.let_out().await;
                }
                let agreed = agreed?;
                understood.store(true, Ordering::Relaxed);
                let none = || Failure::new(missing(&known), UpgradeErrorKind::NoCommonSecurity);
                (agreed.ok_or_else(none)?, Optimistic::agreed(io.settle()))
            }
        };
        let secured = match security {
            Security::Noise => {
                let config = expecting(&self.noise, expected, noise::Config::expecting);
                let (io, authenticated) = noise::upgrade(io, role, &config).await?;
                self.multiplex(io, authenticated, role, progress, (outflow, budget)).await?
            }
            Security::Tls => {
                let config = expecting(&self.tls, expected, tls::Config::expecting);
                let (io, authenticated) = tls::upgrade(io, role, &config).await?;
                self.multiplex(io, authenticated, role, progress, (outflow, budget)).await?
            }
            Security::Plaintext => {
                let config = expecting(&self.plaintext, expected, plaintext::Config::expecting);
                let (io, authenticated) = plaintext::upgrade(io, role, &config).await?;
                self.multiplex(Buffered::new(io), authenticated, role, progress, (outflow, budget)).await?
            }
        };
        understood.store(true, Ordering::Relaxed);
        let Secured { peer, muxer, early_muxer, muxed } = secured;
        let security = security.protocol();
        let resumption = Resumption::default();
        Ok(Established { peer, local, remote, limited, security, muxer, early_muxer, resumption, muxed })
    }

    /// Settles on a muxer, if the handshake has not, and starts it.
    async fn multiplex(
        &self,
        mut io: impl Io + AsyncBufRead,
        authenticated: Authenticated,
        role: Role,
        progress: &Progress,
        (outflow, budget): (Outflow, Budget),
    ) -> Result<Secured, Failure> {
        progress.enter(Stage::Muxer);
        let Config { muxers, yamux, .. } = &self.config;
        let Authenticated { peer, muxer: early, .. } = authenticated;
        let muxer = match &early {
            Some(early) => muxers.iter().copied().find(|kind| kind.protocol() == *early),
            None => agree(&mut io, role, muxers, MuxerKind::protocol).await?,
        };
        let muxer = muxer.ok_or_else(|| Failure::new(missing(muxers), UpgradeErrorKind::NoCommonMuxer))?;
        let muxed = match muxer {
            MuxerKind::Yamux => yamux::start_over(io, outflow, mode(role), yamux.clone(), budget),
            #[cfg(feature = "mplex")]
            MuxerKind::Mplex => mplex::start_over(io, outflow, self.config.mplex.clone(), budget),
            #[cfg(feature = "yamux-crate")]
            MuxerKind::YamuxCrate => yamux_crate::start(io, mode(role), yamux.clone()),
        };
        Ok(Secured { peer, muxer: muxer.protocol(), early_muxer: early.is_some(), muxed })
    }
}

/// What the stages begin with.
enum Socket {
    Raw(Raw),
    Opening(Opening),
}

/// What there is to agree on, and the one that needs no agreement.
fn guess(known: &[Security], role: Role, belief: &Belief) -> (Vec<Security>, Option<Security>) {
    let named = |name: &ProtocolId| known.iter().copied().find(|one| one.protocol() == *name);
    match belief {
        _ if role != Role::Initiator => (known.to_vec(), None),
        Belief::None => (known.to_vec(), None),
        Belief::Takes(name) => (known.to_vec(), named(name)),
        Belief::Refuses(name) => {
            let others: Vec<_> = known.iter().copied().filter(|one| one.protocol() != *name).collect();
            let last = if let [last] = others[..] { Some(last) } else { None };
            (others, last)
        }
    }
}

/// What comes of a link beside its addresses.
struct Secured {
    peer: PeerId,
    muxer: ProtocolId,
    early_muxer: bool,
    muxed: Muxed,
}

/// plaintext, "Overview": beside others it nullifies what they promise, as an attacker can negotiate it at any time.
fn never_beside_another(security: &mut Vec<Security>) {
    if security.iter().any(|one| *one != Security::Plaintext) && security.contains(&Security::Plaintext) {
        tracing::warn!("plaintext is left out, because other security protocols are configured");
        security.retain(|one| *one != Security::Plaintext);
    }
}

fn expecting<C: Clone>(config: &C, expected: Option<PeerId>, expecting: impl FnOnce(C, PeerId) -> C) -> C {
    match expected {
        Some(peer) => expecting(config.clone(), peer),
        None => config.clone(),
    }
}

/// Whose fault it is that nothing of `known` is in common.
fn missing<T>(known: &[T]) -> Fault {
    if known.is_empty() { Fault::Local } else { Fault::Remote }
}

/// multistream-select among what is `known` here, the preferred first. `None` if there is nothing in common.
async fn agree<S, T>(
    io: &mut S,
    role: Role,
    known: &[T],
    protocol: impl Fn(T) -> ProtocolId,
) -> Result<Option<T>, select::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: Copy,
{
    let find = |name: &str| known.iter().copied().find(|one| protocol(*one) == *name);
    let mut refused = false;
    let agreed = match role {
        Role::Initiator if known.is_empty() => return Ok(None),
        Role::Initiator => select::dial(io, known.iter().copied().map(&protocol).collect()).await,
        Role::Responder => {
            let choose = |name: &str| {
                let found = find(name).map(&protocol);
                refused |= found.is_none();
                found
            };
            select::listen(io, choose).await
        }
    };
    match agreed {
        Ok(agreed) => Ok(find(agreed.as_str())),
        Err(select::Error::Negotiation(multistream::Error::NoneSupported)) => Ok(None),
        // Whoever asked and was refused hangs up when it has nothing more to ask for.
        Err(select::Error::Negotiation(multistream::Error::Ended)) if refused => Ok(None),
        // In TLS it hangs up without a farewell, which is an error there.
        Err(select::Error::Io(error)) if refused && error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// yamux, "StreamID Field": the side that initiated the connection is the client. Where roles were given, they decide.
fn mode(role: Role) -> yamux::Mode {
    match role {
        Role::Initiator => yamux::Mode::Client,
        Role::Responder => yamux::Mode::Server,
    }
}
