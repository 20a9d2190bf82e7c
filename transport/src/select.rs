//! multistream-select on a byte stream: the I/O around core's [`Dialer`] and [`Listener`].
//!
//! Neither side reads a byte beyond the agreement: what follows it is still in the stream for the protocol agreed on.
//! Neither has a deadline of its own; what a peer can make either hold or do is bounded by
//! [`MAX_LINES`](multistream::MAX_LINES) lines of [`MAX_MESSAGE_LEN`](multistream::MAX_MESSAGE_LEN) bytes.
//!
//! Whoever drops one of these futures half way has a stream in the middle of a sentence, which is good for nothing
//! but to be closed.

mod optimistic;

use std::io;

use peerage_core::{
    ProtocolId,
    multistream::{self, Dialer, Listener},
    varint,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use self::optimistic::{FIRST_FLIGHT, Optimistic};
use crate::Fault;

/// Bytes read at once. Longer messages come in pieces; no honest one is longer.
const CHUNK: usize = 256;

/// Why there was no agreement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The two sides have nothing in common, or one of them broke the protocol.
    #[error(transparent)]
    Negotiation(#[from] multistream::Error),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// Who is at fault. A peer that refuses everything is: something made this side expect otherwise.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Negotiation(multistream::Error::Ended) => Fault::Network,
            Self::Negotiation(error) => match error.fault() {
                multistream::Fault::Local => Fault::Local,
                multistream::Fault::Remote | multistream::Fault::Neither => Fault::Remote,
            },
            Self::Io(_) => Fault::Network,
        }
    }
}

/// Proposes `protocols` in this order and returns the one that the other side took.
///
/// The header and the first proposal leave in one write.
///
/// # Errors
/// [`Error`]; [`multistream::Error::NoneSupported`] in it when the other side took none.
pub async fn dial<S>(io: &mut S, protocols: Vec<ProtocolId>) -> Result<ProtocolId, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let mut dialer = Dialer::new(protocols)?;
    let mut message = Message::default();
    loop {
        if let Some(bytes) = dialer.poll_transmit() {
            send(io, &bytes).await?;
        }
        if let Some(protocol) = dialer.outcome() {
            return Ok(protocol.clone());
        }
        let mut space = [0; CHUNK];
        match message.read(io, &mut space).await? {
            [] => dialer.handle_end()?,
            input => {
                dialer.handle_input(input)?;
            }
        }
    }
}

/// Answers the other side's proposals and returns the first that `choose` took: it is asked with each and gives the
/// protocol to go on with, by custom of the same name, or `None` to refuse.
///
/// # Errors
/// [`Error`]; [`multistream::Error::Ended`] in it when the other side gave up.
pub async fn listen<S>(
    io: &mut S,
    mut choose: impl FnMut(&str) -> Option<ProtocolId>,
) -> Result<ProtocolId, Error>
where
    S: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let mut listener = Listener::new();
    let mut message = Message::default();
    loop {
        let sent = match listener.poll_transmit() {
            Some(bytes) => send(io, &bytes).await,
            None => Ok(()),
        };
        if let Some(protocol) = listener.outcome() {
            // A dialer may send header, proposal and request at once, close, and never read the echo. The request
            // counts all the same (connections, "Optimistic multistream negotiation"; go-multistream#87).
            if let Err(error) = sent {
                tracing::trace!(%protocol, %error, "nobody reads the agreement");
            }
            return Ok(protocol.clone());
        }
        sent?;
        let mut space = [0; CHUNK];
        match message.read(io, &mut space).await? {
            [] => listener.handle_end()?,
            input => {
                listener.handle_input(input, &mut choose)?;
            }
        }
    }
}

async fn send<S: AsyncWrite + Unpin + ?Sized>(io: &mut S, bytes: &[u8]) -> io::Result<()> {
    io.write_all(bytes).await?;
    io.flush().await
}

/// Where in the other side's message the reading is: it tells how much may be read before the engine has to be asked
/// whether that was the last.
#[derive(Debug, Default)]
struct Message {
    /// The length, while it is not all there.
    prefix: Vec<u8>,
    /// What is to come of the message, once its length is known.
    rest: usize,
}

impl Message {
    /// Reads a piece that ends where the message ends, or before; nothing at the end of the stream.
    async fn read<'a, S>(&mut self, io: &mut S, space: &'a mut [u8; CHUNK]) -> io::Result<&'a [u8]>
    where
        S: AsyncRead + Unpin + ?Sized,
    {
        let read = io.read(space.get_mut(..self.want()).unwrap_or_default()).await?;
        let piece = space.get(..read).unwrap_or_default();
        self.follow(piece);
        Ok(piece)
    }

    /// How much may be read at once.
    fn want(&self) -> usize {
        self.rest.clamp(1, CHUNK)
    }

    fn follow(&mut self, piece: &[u8]) {
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(piece.len());
            return;
        }
        self.prefix.extend_from_slice(piece);
        // The engine refuses a length that is malformed, or over its limit, as soon as it sees it, and then nothing
        // more is read.
        if let Ok(Some((length, _))) = varint::decode(&self.prefix) {
            self.rest = usize::try_from(length).unwrap_or(usize::MAX);
            self.prefix.clear();
        }
    }
}

#[cfg(test)]
mod tests;
