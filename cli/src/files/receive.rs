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
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Config, Order,
    disk::{Folder, PIECE, Partial},
    pace::Pace,
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
    /// Next to nothing came, or nothing could be said, for so long.
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
    folder: &Folder,
    mut orders: watch::Receiver<Order>,
    moved: Arc<AtomicU64>,
) -> Result<PathBuf, Error> {
    let received = attempt(&mut stream, offer, config, folder, &mut orders, &moved).await;
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
    folder: &Folder,
    orders: &mut watch::Receiver<Order>,
    moved: &AtomicU64,
) -> Result<PathBuf, Error> {
    accepted(stream, config, orders).await?;
    let (idle, size) = (config.idle_timeout, offer.size);
    let partial = Partial::create(folder, offer.name.clone()).await.map_err(Error::Disk)?;
    let said = timeout(idle, wire::write(stream, &Reply::Yes.encode())).await;
    let said = said.map_err(|_| Error::Stalled(idle)).and_then(|said| said.map_err(Error::Broken));
    let (partial, ()) = or_discard(partial, said).await?;
    let body = Body { stream, orders, size, came: 0, pace: Pace::new(idle) };
    let partial = fill(partial, body, moved).await?;
    let checked = if partial.sha256() == offer.sha256 { Ok(()) } else { Err(Error::WrongHash) };
    let (partial, ()) = or_discard(partial, checked).await?;
    partial.keep().await.map_err(Error::Disk)
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

/// Goes on with a file, or removes it if something is wrong: on a thread that may block, since it may be large.
async fn or_discard<T>(partial: Partial, so_far: Result<T, Error>) -> Result<(Partial, T), Error> {
    match so_far {
        Ok(value) => Ok((partial, value)),
        Err(error) => {
            partial.discard().await;
            Err(error)
        }
    }
}

/// Takes what comes until the sender's end, which has to be after all that was announced.
async fn fill(
    mut partial: Partial,
    mut body: Body<'_, impl AsyncRead + Unpin>,
    moved: &AtomicU64,
) -> Result<Partial, Error> {
    let mut piece = vec![0; PIECE];
    loop {
        let next = body.next(&mut piece).await;
        let (so_far, read) = or_discard(partial, next).await?;
        if read == 0 {
            return Ok(so_far);
        }
        (partial, piece) = so_far.add(piece, read).await.map_err(Error::Disk)?;
        // Only now: what the disk took is not held against the sender.
        body.pace.moved(body.came, body.size);
        moved.store(body.came, Ordering::Relaxed);
    }
}

/// What comes, as far as it is as long as it was announced.
struct Body<'a, S> {
    stream: &'a mut S,
    orders: &'a mut watch::Receiver<Order>,
    size: u64,
    came: u64,
    pace: Pace,
}

impl<S: AsyncRead + Unpin> Body<'_, S> {
    /// The bytes of the next piece; 0 at the end. The user's word is heard between two pieces, so that nothing is written any
    /// more once this fails.
    async fn next(&mut self, piece: &mut [u8]) -> Result<usize, Error> {
        let (size, limit) = (self.size, self.pace.limit());
        let read = tokio::select! {
            _ = self.orders.wait_for(|order| *order == Order::Cancel) => return Err(Error::Cancelled),
            read = timeout_at(self.pace.due(), self.stream.read(piece)) => read,
        };
        let read = read.map_err(|_| Error::Stalled(limit))?.map_err(Error::Broken)?;
        self.came = self.came.saturating_add(read as u64);
        // Before it is written: what was not announced takes no room on the disk.
        if self.came > size {
            return Err(Error::TooLong(size));
        }
        if read == 0 && self.came < size {
            return Err(Error::TooShort { came: self.came, size });
        }
        Ok(read)
    }
}
