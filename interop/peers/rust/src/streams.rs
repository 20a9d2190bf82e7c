//! What the two protocols of the suite do with a stream.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future};
use libp2p::{PeerId, Stream, StreamProtocol};
use libp2p_stream::{Control, IncomingStreams};
use serde_json::{Value, json};

use crate::Result;

pub const ECHO: StreamProtocol = StreamProtocol::new("/peerage/echo/1");
pub const CALLBACK: StreamProtocol = StreamProtocol::new("/peerage/callback/1");

const CALLBACK_BYTES: usize = 64 << 10;
const CHUNK: usize = 64 << 10;

/// Writes back what it reads, chunk by chunk: a slow reader at the other end slows us down.
///
/// The library drops a stream that comes while the one before it still waits here, so this loop only spawns.
pub async fn serve_echo(mut incoming: IncomingStreams) {
    while let Some((peer, mut stream)) = incoming.next().await {
        tokio::spawn(async move {
            if let Err(error) = echo_all(&mut stream).await {
                tracing::warn!(%peer, %error, "echo"); // dropping the stream resets it
            }
        });
    }
}

async fn echo_all(stream: &mut Stream) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(stream.close().await?),
            n => stream.write_all(&buffer[..n]).await?,
        }
        // Otherwise the last bytes of a ping-pong could stay in a buffer here while both ends wait.
        stream.flush().await?;
    }
}

/// Echoes towards the dialer on a stream of our own, and reports on the dialer's.
pub async fn serve_callback(mut incoming: IncomingStreams, control: Control, deadline: Duration) {
    while let Some((peer, mut stream)) = incoming.next().await {
        let mut control = control.clone();
        tokio::spawn(async move {
            let verdict = match tokio::time::timeout(deadline, echo(&mut control, peer, CALLBACK_BYTES)).await
            {
                Ok(Ok(_)) => "ok\n".to_owned(),
                Ok(Err(error)) => format!("error: {error}\n"),
                Err(_) => "error: timed out\n".to_owned(),
            };
            let told = async {
                stream.write_all(verdict.as_bytes()).await?;
                stream.close().await
            };
            if let Err(error) = told.await {
                tracing::warn!(%peer, %error, "callback");
            }
        });
    }
}

/// Asks the listener to echo towards us, and reads how that went.
pub async fn callback(control: &mut Control, remote: PeerId) -> Result<Value> {
    let mut stream = control.open_stream(remote, CALLBACK).await?;
    stream.close().await?; // our half: there is nothing to say
    let mut text = String::new();
    stream.take(CHUNK as u64).read_to_string(&mut text).await?;
    match text.as_str() {
        "ok\n" => Ok(json!({})),
        other => Err(format!("the listener says {other:?}").into()),
    }
}

/// Sends the pattern, reads it back meanwhile, and compares.
///
/// It must do both at once: more than the two windows hold would otherwise block both ends for ever.
pub async fn echo(control: &mut Control, remote: PeerId, size: usize) -> Result<Value> {
    let (mut reader, mut writer) = control.open_stream(remote, ECHO).await?.split();
    let send = async {
        let mut at = 0;
        while at < size {
            let chunk = pattern(at, CHUNK.min(size - at));
            writer.write_all(&chunk).await?;
            at += chunk.len();
        }
        writer.close().await?; // closes our half only
        Result::Ok(())
    };
    let compare = async {
        let mut total = 0;
        let mut buffer = vec![0; CHUNK];
        loop {
            match reader.read(&mut buffer).await? {
                0 if total == size => return Ok(()),
                0 => return Err(format!("{total} of {size} bytes came back").into()),
                n if total + n > size => {
                    return Err(format!("more than the {size} bytes sent came back").into());
                }
                n if buffer[..n] != pattern(total, n) => {
                    return Err(format!("wrong bytes within the {n} after offset {total}").into());
                }
                n => total += n,
            }
        }
    };
    future::try_join(send, compare).await?;
    Ok(json!({ "bytes": size }))
}

/// Byte i of the test pattern is (i*31 + 7) mod 251.
fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|i| ((i * 31 + 7) % 251) as u8)
        .collect()
}
