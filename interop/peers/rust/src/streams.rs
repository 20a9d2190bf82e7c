//! What the protocols of the suite do with a stream.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, future};
use libp2p::{PeerId, Stream, StreamProtocol};
use serde_json::{Value, json};

use crate::{
    Result,
    behaviour::{Control, Incoming},
};

pub const ECHO: StreamProtocol = StreamProtocol::new("/peerage/echo/1");
pub const CALLBACK: StreamProtocol = StreamProtocol::new("/peerage/callback/1");
pub const PING_BACK: StreamProtocol = StreamProtocol::new("/peerage/ping-back/1");
pub const CHANGE: StreamProtocol = StreamProtocol::new("/peerage/change/1");
pub const CHANGED: StreamProtocol = StreamProtocol::new("/peerage/changed/1");
pub const SEEN: StreamProtocol = StreamProtocol::new("/peerage/seen/1");

pub const CALLBACK_BYTES: usize = 64 << 10;
const MANY: usize = 100;
const MANY_BYTES: usize = 1 << 10;
const CHUNK: usize = 64 << 10;

/// Serves each stream that comes, in a task of its own.
pub fn serve<F>(mut incoming: Incoming, serve: impl Fn(PeerId, Stream) -> F + Send + 'static)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        while let Some((peer, stream)) = incoming.next().await {
            let serving = serve(peer, stream);
            tokio::spawn(async move {
                if let Err(error) = serving.await {
                    tracing::warn!(%peer, %error, "serving"); // dropping the stream resets it
                }
            });
        }
    });
}

/// Does what it was asked for, and says how that went.
pub fn serve_ask<F>(
    incoming: Incoming,
    deadline: Duration,
    answer: impl Fn(PeerId) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Result<Value>> + Send + 'static,
{
    serve(incoming, move |peer, mut stream| {
        let answer = answer(peer);
        async move {
            let verdict = match tokio::time::timeout(deadline, answer).await {
                Ok(Ok(_)) => "ok\n".to_owned(),
                Ok(Err(error)) => format!("error: {error}\n"),
                Err(_) => "error: timed out\n".to_owned(),
            };
            stream.write_all(verdict.as_bytes()).await?;
            Ok(stream.close().await?)
        }
    });
}

/// Writes back what it reads, chunk by chunk: a slow reader at the other end slows us down.
pub async fn serve_echo(mut stream: Stream) -> Result<()> {
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

/// Asks the listener to do something, and reads how that went.
pub async fn ask(control: &Control, remote: PeerId, protocol: StreamProtocol) -> Result<Value> {
    let mut stream = control.open(remote, protocol).await?;
    stream.close().await?; // our half: there is nothing to say
    let mut text = String::new();
    stream.take(CHUNK as u64).read_to_string(&mut text).await?;
    match text.as_str() {
        "ok\n" => Ok(json!({})),
        other => Err(format!("the listener says {other:?}").into()),
    }
}

/// Does as many echoes at once.
pub async fn many(control: &Control, remote: PeerId) -> Result<Value> {
    let echoes = future::join_all((0..MANY).map(|_| echo(control, remote, MANY_BYTES))).await;
    let failed: Vec<_> = echoes.into_iter().filter_map(Result::err).collect();
    match failed.first() {
        None => Ok(json!({ "streams": MANY })),
        Some(first) => Err(format!("{} of {MANY} failed, the first: {first}", failed.len()).into()),
    }
}

/// Sends the pattern, reads it back meanwhile, and compares.
///
/// It must do both at once: more than the two windows hold would otherwise block both ends for ever.
pub async fn echo(control: &Control, remote: PeerId, size: usize) -> Result<Value> {
    let (mut reader, mut writer) = control.open(remote, ECHO).await?.split();
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
    (from..from + length).map(|i| ((i * 31 + 7) % 251) as u8).collect()
}
