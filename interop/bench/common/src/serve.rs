//! What the listener does with a stream of each protocol.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The perf protocol: the client says in eight bytes how much it wants, sends what it likes, half-closes, and reads.
/// <https://github.com/libp2p/specs/blob/master/perf/perf.md>
pub const PERF: &str = "/perf/1.0.0";
/// 32 bytes there and back, again and again. Served here and not by the library: two of them answer a second stream, or
/// pings without pause, in ways of their own.
pub const PING: &str = "/ipfs/ping/1.0.0";
/// A length as a varint, so many bytes, and the same back; a new stream for each.
pub const REQUEST: &str = "/bench/req/1";

/// All that a listener serves.
pub const PROTOCOLS: [&str; 3] = [PERF, PING, REQUEST];

pub(crate) const PING_SIZE: usize = 32;
/// What a request is: the length of the rest in one byte, and the rest.
pub(crate) const REQUEST_SIZE: usize = 1 + 64;

const CHUNK: usize = 64 << 10;

/// Serves a stream to its end.
///
/// # Errors
/// What the stream gives. A client that has seen enough resets its stream, so that is nothing to worry about.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(protocol: &str, stream: S) -> io::Result<()> {
    match protocol {
        PERF => perf(stream).await,
        PING => ping(stream).await,
        REQUEST => request(stream).await,
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn perf<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted).await?;
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk).await? > 0 {}
    let mut left = u64::from_be_bytes(wanted);
    while left > 0 {
        let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        stream.write_all(chunk.get(..size).unwrap_or_default()).await?;
        left = left.saturating_sub(size as u64);
    }
    stream.shutdown().await
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut bytes = [0; PING_SIZE];
    loop {
        match stream.read_exact(&mut bytes).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return stream.shutdown().await,
            Err(error) => return Err(error),
        }
        stream.write_all(&bytes).await?;
        stream.flush().await?;
    }
}

async fn request<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut request = [0; REQUEST_SIZE];
    stream.read_exact(&mut request).await?;
    stream.write_all(&request).await?;
    stream.shutdown().await?;
    // Dropped before the client's end has come, the stream would be reset, and that cost another frame.
    while stream.read(&mut request).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn perf_gives_what_is_wanted() {
        let (mut client, server) = duplex(1000);
        let using = async {
            client.write_all(&100_000_u64.to_be_bytes()).await.unwrap();
            client.write_all(&[1; 5000]).await.unwrap();
            client.shutdown().await.unwrap();
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all.len()
        };
        let (size, served) = tokio::join!(using, serve(PERF, server));
        assert_eq!(size, 100_000);
        served.unwrap();
    }

    #[tokio::test]
    async fn requests_and_pings_come_back() {
        for (protocol, size) in [(REQUEST, REQUEST_SIZE), (PING, PING_SIZE)] {
            let (mut client, server) = duplex(1000);
            let using = async {
                let sent = vec![7; size];
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
                let mut back = Vec::new();
                client.read_to_end(&mut back).await.unwrap();
                assert_eq!(back, sent);
            };
            let ((), served) = tokio::join!(using, serve(protocol, server));
            served.unwrap();
        }
    }
}
