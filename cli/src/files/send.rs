//! The sender's side of one transfer.

use std::{
    io,
    path::PathBuf,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use peerage::{Node, OpenOptions, PeerId};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{timeout, timeout_at},
};

use super::{
    Config,
    disk::Source,
    name::Name,
    pace::Pace,
    wire::{self, Offer, PROTOCOL, Refusal, Reply},
};

/// How long opening a stream may take, a dial included.
const OPENING: Duration = Duration::from_secs(20);
/// How much longer than an offer stands its answer is waited for: it expires there, and that is on its way.
const GRACE: Duration = Duration::from_secs(10);

/// Why a file was not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read; this side's fault.
    #[error("the file cannot be read: {0}")]
    File(io::Error),
    /// No stream could be opened.
    #[error("{0}")]
    Open(String),
    /// The receiver does not take it.
    #[error("{0}")]
    Refused(Refusal),
    /// All of it was sent. It may be there, and it may not.
    #[error(
        "all of it was sent, and the receiver did not say whether it arrived: ask before sending it again"
    )]
    Unconfirmed,
    /// The file has become shorter since it was offered.
    #[error("the file has changed since it was offered")]
    Changed,
    /// The receiver took nothing, or said nothing, for so long.
    #[error("the receiver was silent for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The stream broke, or what was said on it is no reply.
    #[error(transparent)]
    Wire(#[from] wire::Error),
    /// The user stopped it.
    #[error("you cancelled it")]
    Cancelled,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Step {
    /// The file was read, and is offered.
    Offered(Offer),
    /// The offer was accepted.
    Accepted,
}

/// Offers a file to a peer, and sends it. Dropped, it resets the stream.
pub(super) async fn send(
    node: &Node,
    peer: PeerId,
    path: PathBuf,
    config: &Config,
    moved: &AtomicU64,
    told: impl AsyncFn(Step),
) -> Result<(), Error> {
    let name = Name::tame(&path.file_name().unwrap_or_default().to_string_lossy());
    let source = Source::open(path).await.map_err(Error::File)?;
    let (source, sha256) = source.sha256().await.map_err(Error::File)?;
    let offer = Offer { name, size: source.size, sha256 };
    let mut options = OpenOptions::new([PROTOCOL]);
    options.timeout = OPENING;
    let stream = node.open_with(peer, options).await.map_err(|error| Error::Open(error.to_string()))?;
    exchange(stream, source, offer, config, moved, told).await
}

/// What goes over the stream.
pub(super) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    source: Source,
    offer: Offer,
    config: &Config,
    moved: &AtomicU64,
    told: impl AsyncFn(Step),
) -> Result<(), Error> {
    let (idle, size) = (config.idle_timeout, offer.size);
    in_time(idle, wire::write(&mut stream, &offer.encode())).await?.map_err(wire::Error::Io)?;
    told(Step::Offered(offer)).await;
    yes(in_time(config.offer_timeout.saturating_add(GRACE), wire::read_reply(&mut stream)).await??)?;
    told(Step::Accepted).await;

    let (mut reading, mut writing) = tokio::io::split(stream);
    let mut reply = pin!(wire::read_reply(&mut reading));
    let sent = tokio::select! {
        biased;
        sent = body(&mut writing, source, size, config.patience, moved) => sent,
        // A receiver that has had enough says so before the end. It is no yes unless everything was written.
        early = &mut reply => {
            let all = moved.load(Ordering::Relaxed) == size;
            return match early {
                Ok(Reply::Yes) if !all => Err(wire::Error::Ended.into()),
                Ok(reply) => yes(reply),
                Err(error) if all => Err(unconfirmed(error)),
                Err(error) => Err(error.into()),
            };
        }
    };
    sent?;
    // What was written last is still on its way for a while, and then it is checked and flushed.
    match timeout(config.patience, reply).await {
        Ok(Ok(reply)) => yes(reply),
        Ok(Err(error)) => Err(unconfirmed(error)),
        Err(elapsed) => Err(unconfirmed(elapsed)),
    }
}

async fn body(
    to: &mut (impl AsyncWrite + Unpin),
    mut source: Source,
    size: u64,
    patience: Duration,
    moved: &AtomicU64,
) -> Result<(), Error> {
    let (mut piece, mut left) = (Vec::new(), size);
    let mut pace = Pace::new(patience);
    while left > 0 {
        (source, piece) = source.next(piece).await.map_err(Error::File)?;
        if piece.is_empty() {
            return Err(Error::Changed);
        }
        // What was appended since is not part of what was offered.
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        // What the disk took is not held against the receiver.
        pace.renew();
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let written = timeout_at(pace.due(), to.write(rest)).await;
            let written = written.map_err(|_| Error::Stalled(patience))?.map_err(wire::Error::Io)?;
            if written == 0 {
                return Err(wire::Error::Ended.into());
            }
            rest = rest.get(written..).unwrap_or_default();
            left = left.saturating_sub(written as u64);
            let gone = size.saturating_sub(left);
            pace.moved(gone, size);
            moved.store(gone, Ordering::Relaxed);
        }
    }
    match timeout(patience, to.shutdown()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(unconfirmed(error)),
        Err(elapsed) => Err(unconfirmed(elapsed)),
    }
}

/// Everything was written: what broke then says nothing about the file.
fn unconfirmed(why: impl std::fmt::Display) -> Error {
    tracing::debug!(%why, "a file was sent, and its receiver did not say that it arrived");
    Error::Unconfirmed
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, Error> {
    timeout(limit, work).await.map_err(|_| Error::Stalled(limit))
}

fn yes(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Yes => Ok(()),
        Reply::No(refusal) => Err(Error::Refused(refusal)),
    }
}
