//! The receiver's side of one transfer.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Config, Order,
    disk::{PIECE, Partial},
    wire::{self, Offer, Refusal, Reply},
};

/// How long a last word may take, and the other side with hanging up.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a file that was offered is not here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user does not want it.
    #[error("you declined it")]
    Declined,
    /// The user did not answer in time.
    #[error("it was not answered within {} s", .0.as_secs())]
    Expired(Duration),
    /// The user stopped it.
    #[error("you cancelled it")]
    Cancelled,
    /// The sender gave up, or is gone, before there was an answer.
    #[error("the offer was withdrawn")]
    Withdrawn,
    /// The sender did not wait for an answer; its fault.
    #[error("the sender did not wait for an answer")]
    Early,
    /// More came than was announced; the sender's fault.
    #[error("the sender sent more than the {0} bytes that it announced")]
    TooLong(u64),
    /// Less came than was announced; the sender's fault.
    #[error("the sender sent {came} of {size} bytes")]
    TooShort {
        /// Bytes that came.
        came: u64,
        /// Bytes that were announced.
        size: u64,
    },
    /// What came is not what was announced; the sender's fault.
    #[error("what the sender sent is not what it announced: its SHA-256 is another one")]
    WrongHash,
    /// Nothing came, or could be said, for so long.
    #[error("the sender was silent for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The sender stopped it, or the connection broke.
    #[error("the sender broke off: {0}")]
    Broken(io::Error),
    /// The file cannot be written; this side's fault.
    #[error("it cannot be written: {0}")]
    Disk(io::Error),
}

impl Error {
    /// What the sender is told, if it is still there.
    fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::Declined => Refusal::Declined,
            Self::Expired(_) => Refusal::Expired,
            Self::Cancelled => Refusal::Cancelled,
            Self::Early | Self::TooLong(_) => Refusal::TooLong,
            Self::TooShort { .. } => Refusal::TooShort,
            Self::WrongHash => Refusal::WrongHash,
            Self::Stalled(_) => Refusal::Stalled,
            Self::Disk(_) => Refusal::Disk,
            Self::Withdrawn | Self::Broken(_) => return None,
        })
    }
}

/// Waits until the offer is answered, and takes the file if it is accepted: to where it is then. Counts in `moved`.
pub(super) async fn receive<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    offer: &Offer,
    config: &Config,
    mut orders: watch::Receiver<Order>,
    moved: Arc<AtomicU64>,
) -> Result<PathBuf, Error> {
    let received = attempt(&mut stream, offer, config, &mut orders, &moved).await;
    let reply = match &received {
        Ok(_) => Some(Reply::Yes),
        Err(error) => error.refusal().map(Reply::No),
    };
    if let Some(reply) = reply {
        leave(stream, reply).await;
    }
    received
}

/// Says a last word, and waits until it is heard: a reset would overtake it.
pub(super) async fn leave(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply) {
    let farewell = async {
        wire::write(&mut stream, &reply.encode()).await?;
        stream.shutdown().await?;
        let mut rest = vec![0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, farewell).await;
}

async fn attempt<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    offer: &Offer,
    config: &Config,
    orders: &mut watch::Receiver<Order>,
    moved: &AtomicU64,
) -> Result<PathBuf, Error> {
    accepted(stream, config, orders).await?;
    let partial = Partial::create(config.folder.clone(), offer.name.clone()).await.map_err(Error::Disk)?;
    let said = timeout(config.idle_timeout, wire::write(stream, &Reply::Yes.encode())).await;
    said.map_err(|_| Error::Stalled(config.idle_timeout))?.map_err(Error::Broken)?;
    let partial = fill(partial, stream, offer.size, config.idle_timeout, orders, moved).await?;
    if partial.sha256() != offer.sha256 {
        return Err(Error::WrongHash);
    }
    partial.keep(config.folder.clone(), offer.name.clone()).await.map_err(Error::Disk)
}

/// Waits for the user's answer, as long as the offer stands.
async fn accepted(
    stream: &mut (impl AsyncRead + Unpin),
    config: &Config,
    orders: &mut watch::Receiver<Order>,
) -> Result<(), Error> {
    let expires = Instant::now() + config.offer_timeout;
    let mut byte = [0];
    tokio::select! {
        order = orders.wait_for(|order| *order != Order::Wait) => match order.as_deref() {
            Ok(Order::Accept) => Ok(()),
            Ok(Order::Decline) => Err(Error::Declined),
            _ => Err(Error::Cancelled),
        },
        () = sleep_until(expires) => Err(Error::Expired(config.offer_timeout)),
        read = stream.read(&mut byte) => Err(match read {
            Ok(1..) => Error::Early,
            _ => Error::Withdrawn,
        }),
    }
}

/// Takes what comes until the sender's end, which has to be after `size` bytes. The user's word is heard between two pieces,
/// so that nothing is written any more once this returns.
async fn fill(
    mut partial: Partial,
    stream: &mut (impl AsyncRead + Unpin),
    size: u64,
    idle: Duration,
    orders: &mut watch::Receiver<Order>,
    moved: &AtomicU64,
) -> Result<Partial, Error> {
    let (mut piece, mut came) = (vec![0; PIECE], 0_u64);
    loop {
        let read = tokio::select! {
            _ = orders.wait_for(|order| *order == Order::Cancel) => return Err(Error::Cancelled),
            read = timeout(idle, stream.read(&mut piece)) => read,
        };
        let read = read.map_err(|_| Error::Stalled(idle))?.map_err(Error::Broken)?;
        if read == 0 {
            return if came == size { Ok(partial) } else { Err(Error::TooShort { came, size }) };
        }
        came = came.saturating_add(read as u64);
        // Before it is written: what was not announced takes no room on the disk.
        if came > size {
            return Err(Error::TooLong(size));
        }
        (partial, piece) = partial.add(piece, read).await.map_err(Error::Disk)?;
        moved.store(came, Ordering::Relaxed);
    }
}
