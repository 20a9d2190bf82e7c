//! As much of a Redis client as the contract needs: a command at a time over one connection (RESP, version 2).

use std::time::Duration;

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufStream},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

/// The longest first line of a reply: a status, an error, a number, or a length.
const MAX_LINE: u64 = 1024;
/// The longest string of a reply. A multiaddr is far shorter.
const MAX_BULK: usize = 64 * 1024;
/// The most items of an array. `BLPOP` answers with two.
const MAX_ITEMS: usize = 16;
/// How long until a server that is not there yet is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Status(String),
    Number(i64),
    Text(String),
    Array(Vec<Reply>),
}

/// A connection to a server. Every command ends by `deadline`.
pub(crate) struct Redis<S = TcpStream> {
    stream: BufStream<S>,
    deadline: Instant,
}

impl Redis {
    /// Connects to `host:port`; a server that does not answer yet is tried again until the deadline.
    pub(crate) async fn connect(address: &str, deadline: Instant) -> Result<Self, String> {
        loop {
            let why = match timeout_at(deadline, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Self { stream: BufStream::new(stream), deadline }),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() + RETRY >= deadline {
                return Err(format!("redis at {address}: {why}"));
            }
            sleep(RETRY).await;
        }
    }
}

impl<S: tokio::io::AsyncRead + AsyncWrite + Unpin> Redis<S> {
    /// Sends a command and reads its reply. An error of the server is an error.
    pub(crate) async fn command(&mut self, words: &[&str]) -> Result<Reply, String> {
        let deadline = self.deadline;
        let done = timeout_at(deadline, async {
            self.stream.write_all(&request(words)).await.map_err(|error| error.to_string())?;
            self.stream.flush().await.map_err(|error| error.to_string())?;
            read(&mut self.stream).await
        });
        let name = words.first().copied().unwrap_or_default();
        let reply = done.await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        reply.map_err(|why| format!("redis {name}: {why}"))
    }
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len());
    for word in words {
        out += &format!("${}\r\n{word}\r\n", word.len());
    }
    out.into_bytes()
}

async fn read<R: AsyncBufRead + Unpin>(from: &mut R) -> Result<Reply, String> {
    let (kind, rest) = head(from).await?;
    if kind != b'*' {
        return item(from, kind, rest).await;
    }
    let Some(count) = length(&rest, MAX_ITEMS)? else { return Ok(Reply::Nothing) };
    let mut items = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, rest) = head(from).await?;
        items.push(item(from, kind, rest).await?);
    }
    Ok(Reply::Array(items))
}

/// Everything but an array; none that is asked for here has another one in it.
async fn item<R: AsyncBufRead + Unpin>(from: &mut R, kind: u8, rest: String) -> Result<Reply, String> {
    match kind {
        b'+' => Ok(Reply::Status(rest)),
        b'-' => Err(rest),
        b':' => rest.parse().map(Reply::Number).map_err(|_| format!("no number: {rest:?}")),
        b'$' => {
            let Some(length) = length(&rest, MAX_BULK)? else { return Ok(Reply::Nothing) };
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
            if bytes.split_off(length) != b"\r\n" {
                return Err("a string longer than it said".to_owned());
            }
            String::from_utf8(bytes).map(Reply::Text).map_err(|_| "a string that is no UTF-8".to_owned())
        }
        _ => Err(format!("a reply of an unknown kind, {:?}", char::from(kind))),
    }
}

/// The first line: its kind, and what follows.
async fn head<R: AsyncBufRead + Unpin>(from: &mut R) -> Result<(u8, String), String> {
    let mut line = Vec::new();
    let read = from.take(MAX_LINE).read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    if read == 0 {
        return Err("it has hung up".to_owned());
    }
    let line = line.strip_suffix(b"\r\n").ok_or("a line that does not end")?;
    let (kind, rest) = line.split_first().ok_or("an empty line")?;
    Ok((*kind, String::from_utf8_lossy(rest).into_owned()))
}

/// A length within its limit; `-1` stands for nothing.
fn length(text: &str, limit: usize) -> Result<Option<usize>, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(None),
        Ok(length) => match usize::try_from(length) {
            Ok(length) if length <= limit => Ok(Some(length)),
            _ => Err(format!("a reply of length {length}; {limit} is the most")),
        },
        Err(_) => Err(format!("no length: {text:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of an answer.
    async fn answered(answer: &[u8]) -> Result<Reply, String> {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut redis = Redis { stream: BufStream::new(ours), deadline };
        let sent = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let reply = redis.command(&["GET", "k"]).await;
        let mut request = vec![0; sent.len()];
        theirs.read_exact(&mut request).await.unwrap();
        assert_eq!(request, sent);
        reply
    }

    #[tokio::test]
    async fn replies() {
        assert_eq!(answered(b"+OK\r\n").await, Ok(Reply::Status("OK".to_owned())));
        assert_eq!(answered(b":3\r\n").await, Ok(Reply::Number(3)));
        assert_eq!(answered(b"$-1\r\n").await, Ok(Reply::Nothing));
        assert_eq!(answered(b"*-1\r\n").await, Ok(Reply::Nothing));
        assert_eq!(answered(b"$2\r\nhi\r\n").await, Ok(Reply::Text("hi".to_owned())));
        let pair = Reply::Array(vec![Reply::Text("k".to_owned()), Reply::Text("/ip4".to_owned())]);
        assert_eq!(answered(b"*2\r\n$1\r\nk\r\n$4\r\n/ip4\r\n").await, Ok(pair));
    }

    #[tokio::test]
    async fn what_is_no_reply_is_an_error() {
        for (answer, why) in [
            (&b"-WRONGTYPE of it\r\n"[..], "WRONGTYPE of it"),
            (b"", "it has hung up"),
            (b"+OK", "a line that does not end"),
            (b"$2\r\nhiho", "a string longer than it said"),
            (b"$x\r\n", "no length: \"x\""),
            (b"*1\r\n*1\r\n", "a reply of an unknown kind, '*'"),
        ] {
            assert_eq!(answered(answer).await, Err(format!("redis GET: {why}")));
        }
    }

    #[tokio::test]
    async fn lengths_have_limits() {
        let text =
            |length: usize| [format!("${length}\r\n").as_bytes(), &vec![b'a'; length], b"\r\n"].concat();
        assert!(answered(&text(MAX_BULK)).await.is_ok());
        assert!(answered(&text(MAX_BULK + 1)).await.unwrap_err().contains("65536 is the most"));
        let array = |count: usize| [format!("*{count}\r\n"), ":1\r\n".repeat(count)].concat().into_bytes();
        assert!(answered(&array(MAX_ITEMS)).await.is_ok());
        assert!(answered(&array(MAX_ITEMS + 1)).await.unwrap_err().contains("16 is the most"));
        let line = |length: usize| [b"+", "a".repeat(length - 3).as_bytes(), b"\r\n"].concat();
        let limit = usize::try_from(MAX_LINE).unwrap();
        assert!(answered(&line(limit)).await.is_ok());
        assert!(answered(&line(limit + 1)).await.is_err());
        assert!(answered(b"$-2\r\n").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn no_command_outlives_the_deadline() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut redis = Redis { stream: BufStream::new(ours), deadline };
        let reply = redis.command(&["BLPOP", "k", "0"]).await;
        assert_eq!(reply, Err("redis BLPOP: no answer in time".to_owned()));
        assert!(Instant::now() < deadline + Duration::from_millis(10));
    }
}
