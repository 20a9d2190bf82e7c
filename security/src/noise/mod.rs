//! `/noise`: `Noise_XX_25519_ChaChaPoly_SHA256` with the peer's identity in the handshake
//! ([spec](https://github.com/libp2p/specs/blob/master/noise/README.md)).
//!
//! [`upgrade`] does everything on a socket. [`Initiator`] and [`Responder`] are the handshake alone: messages in,
//! messages out, each state consumed by the step to the next.
//!
//! ```text
//! initiator                                responder
//! Initiator::start ── e ──────────────▶ AwaitHello::read
//! AwaitResponse::read ◀ e, ee, s, es ── identity, muxers
//! identity, muxers ── s, se ──────────▶ AwaitFinal::read
//! Session                               Session
//! ```
//!
//! snow performs the handshake, with the cryptography of aws-lc, and hands over the keys; the frames that follow are ours.
//!
//! Randomness comes from the operating system: this is the one engine that takes none from outside, since a handshake that
//! can be replayed is worth nothing.

mod buffer;
mod error;
mod handshake;
mod payload;
mod record;
mod resolver;
mod stream;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use handshake::{AwaitFinal, AwaitHello, AwaitResponse, Config, Initiator, Responder, Session};
pub use stream::NoiseStream;

use std::future::poll_fn;

use peerage_core::ProtocolId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use crate::{Authenticated, Role};
use buffer::Buffer;

/// The protocol id in multistream-select.
pub const PROTOCOL: ProtocolId = ProtocolId::from_static("/noise");

/// The longest handshake message that is read: both keys, and a payload of [`MAX_PAYLOAD`] with room to spare. The
/// wire format would allow 65535.
pub const MAX_HANDSHAKE_MESSAGE: usize = 8 * 1024;

/// The longest handshake payload. An RSA key of 8192 bits with its signature takes half of it.
pub const MAX_PAYLOAD: usize = 4 * 1024;

/// The most muxers a peer may name.
pub const MAX_MUXERS: usize = 32;

/// A key, public, private or of the cipher.
const KEY: usize = 32;

/// The authentication tag at the end of everything encrypted.
const TAG: usize = 16;

/// Secures `io`: shakes hands in the given role and gives the encrypted stream.
///
/// The future may be dropped at any time, which drops `io`.
///
/// # Errors
/// [`Error`] says what was wrong and, by [`Error::fault`], on which side.
pub async fn upgrade<S>(io: S, role: Role, config: &Config) -> Result<(NoiseStream<S>, Authenticated), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire { io, received: Buffer::default() };
    let session = match role {
        Role::Initiator => {
            let (state, hello) = Initiator::start(config)?;
            wire.send(&hello).await?;
            let (session, last) = wire.receive(|message| state.read(message)).await?;
            wire.send(&last).await?;
            session
        }
        Role::Responder => {
            let state = Responder::start(config)?;
            let (state, response) = wire.receive(|message| state.read(message)).await?;
            wire.send(&response).await?;
            wire.receive(|message| state.read(message)).await?
        }
    };
    let Session { authenticated, keys } = session;
    Ok((NoiseStream::new(wire.io, wire.received, keys), authenticated))
}

/// The socket during the handshake.
struct Wire<S> {
    io: S,
    /// May hold more than the message that was waited for: the initiator's data can follow at once.
    received: Buffer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    async fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        let too_long = |_| Error::MessageTooLong { len: message.len(), max: MAX_HANDSHAKE_MESSAGE };
        let len = u16::try_from(message.len()).map_err(too_long)?;
        let frame = [&len.to_be_bytes(), message].concat();
        self.io.write_all(&frame).await?;
        self.io.flush().await?;
        Ok(())
    }

    async fn receive<R>(&mut self, read: impl FnOnce(&[u8]) -> Result<R, Error>) -> Result<R, Error> {
        loop {
            let missing = match self.received.filled().split_first_chunk::<2>() {
                None => 2,
                Some((prefix, rest)) => {
                    let len = usize::from(u16::from_be_bytes(*prefix));
                    if len > MAX_HANDSHAKE_MESSAGE {
                        return Err(Error::MessageTooLong { len, max: MAX_HANDSHAKE_MESSAGE });
                    }
                    if let Some(message) = rest.get(..len) {
                        let result = read(message);
                        self.received.consume(len.saturating_add(2));
                        return result;
                    }
                    len.saturating_sub(rest.len())
                }
            };
            // Handshake messages have some hundred bytes; most come whole.
            self.received.reserve(missing.max(512));
            if poll_fn(|cx| self.received.poll_read(&mut self.io, cx)).await? == 0 {
                return Err(Error::Closed);
            }
        }
    }
}
