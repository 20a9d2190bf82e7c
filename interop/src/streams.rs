//! The protocols of the suite from both ends; see `interop/peers/README.md`.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

/// Writes back what comes.
pub(crate) const ECHO: &str = "/peerage/echo/1";
/// Opens an echo stream back to whoever asks.
pub(crate) const CALLBACK: &str = "/peerage/callback/1";
/// Pings whoever asks.
pub(crate) const PING_BACK: &str = "/peerage/ping-back/1";
/// Lets identify push, by speaking [`CHANGED`] from then on.
pub(crate) const CHANGE: &str = "/peerage/change/1";
/// What is only named.
pub(crate) const CHANGED: &str = "/peerage/changed/1";
/// Waits until identify has told that the asker speaks [`CHANGED`].
pub(crate) const SEEN: &str = "/peerage/seen/1";
/// What is sent on a callback.
pub(crate) const CALLBACK_SIZE: usize = 64 * 1024;
/// How many echoes the step `many` does at once, and how long each is.
pub(crate) const MANY: usize = 100;
pub(crate) const MANY_SIZE: usize = 1024;

const CHUNK: usize = 32 * 1024;
/// How long the end of a stream is waited for, on which all is said.
const LINGER: Duration = Duration::from_secs(5);

/// Byte `i` of what is sent for an echo.
pub(crate) fn pattern(i: usize) -> u8 {
    // The remainder fits, so there is nothing to lose.
    u8::try_from((i % 251 * 31 + 7) % 251).unwrap_or_default()
}

/// Serves an echo: writes back at once, and holds no more than one chunk.
pub(crate) async fn serve_echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(chunk.get(..read).unwrap_or_default()).await?;
        stream.flush().await?;
    }
}

/// Sends `size` bytes to an echo and reads meanwhile, half-closes, reads to the end, and compares everything.
pub(crate) async fn echo<S: AsyncRead + AsyncWrite + Unpin>(stream: S, size: usize) -> Result<(), String> {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let send = async {
        let all: Vec<u8> = (0..size).map(pattern).collect();
        for chunk in all.chunks(CHUNK) {
            writing.write_all(chunk).await.map_err(|error| format!("writing: {error}"))?;
        }
        writing.shutdown().await.map_err(|error| format!("half-closing: {error}"))
    };
    let receive = async {
        let mut chunk = vec![0; CHUNK];
        let mut received: usize = 0;
        loop {
            let read = reading.read(&mut chunk).await;
            let read = read.map_err(|error| format!("reading, after {received} bytes: {error}"))?;
            if read == 0 && received == size {
                return Ok(());
            }
            if read == 0 {
                return Err(format!("the echo ended after {received} of {size} bytes"));
            }
            for byte in chunk.get(..read).unwrap_or_default() {
                if received == size {
                    return Err(format!("the echo goes on after {size} bytes"));
                }
                if *byte != pattern(received) {
                    return Err(format!(
                        "byte {received} came back as {byte} instead of {}",
                        pattern(received)
                    ));
                }
                received += 1;
            }
        }
    };
    tokio::try_join!(send, receive).map(drop)
}

/// Does what the asker asked for, says how that went, and waits until it has heard it.
pub(crate) async fn serve_ask<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    doing: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let done = doing.await;
    let verdict = match &done {
        Ok(()) => "ok\n".to_owned(),
        Err(why) => format!("error: {}\n", why.replace('\n', " ")),
    };
    let say = async {
        stream.write_all(verdict.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 64];
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    };
    let said: io::Result<()> = timeout(LINGER, say).await.unwrap_or(Ok(()));
    done.and(said.map_err(|error| format!("saying how it went: {error}")))
}

/// Asks the listener to do something, and reads how that went.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<(), String> {
    stream.shutdown().await.map_err(|error| format!("half-closing: {error}"))?;
    let mut verdict = String::new();
    let read = stream.take(4096).read_to_string(&mut verdict).await;
    read.map_err(|error| format!("reading the verdict: {error}"))?;
    if verdict == "ok\n" { Ok(()) } else { Err(format!("the listener said {verdict:?}")) }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[test]
    fn the_pattern_is_that_of_the_readme() {
        for i in [0, 1, 250, 251, 65_535, 4 << 20] {
            assert_eq!(usize::from(pattern(i)), (i * 31 + 7) % 251);
        }
    }

    #[tokio::test]
    async fn an_echo_through_a_narrow_pipe() {
        let (ours, theirs) = duplex(1000);
        let (echoed, served) = tokio::join!(echo(ours, 300_000), serve_echo(theirs));
        assert_eq!(echoed, Ok(()));
        served.unwrap();
    }

    #[tokio::test]
    async fn wrong_echoes_are_told() {
        async fn with(answer: &[u8]) -> String {
            let (ours, mut theirs) = duplex(1000);
            let answering = async {
                theirs.write_all(answer).await.unwrap();
                theirs.shutdown().await.unwrap();
                let _ = theirs.read_to_end(&mut Vec::new()).await;
            };
            tokio::join!(echo(ours, 3), answering).0.unwrap_err()
        }
        assert_eq!(with(&[7, 38]).await, "the echo ended after 2 of 3 bytes");
        assert_eq!(with(&[7, 38, 70]).await, "byte 2 came back as 70 instead of 69");
        assert_eq!(with(&[7, 38, 69, 0]).await, "the echo goes on after 3 bytes");
    }

    #[tokio::test]
    async fn who_asks_is_told_how_it_went() {
        let (ours, theirs) = duplex(1000);
        let (asked, served) = tokio::join!(ask(ours), serve_ask(theirs, async { Ok(()) }));
        assert_eq!((asked, served), (Ok(()), Ok(())));
        let (ours, theirs) = duplex(1000);
        let failing = serve_ask(theirs, async { Err("no\nway".to_owned()) });
        let (asked, served) = tokio::join!(ask(ours), failing);
        assert_eq!(asked.unwrap_err(), r#"the listener said "error: no way\n""#);
        assert_eq!(served.unwrap_err(), "no\nway");
    }
}
