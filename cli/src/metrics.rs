//! `--metrics`: serves what the node counts over HTTP, to whoever scrapes it.
//!
//! A small part of HTTP/1.1 (RFC 9112): one request a connection, its header within bounds of size and time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use peerage::{Node, NodeRef, metrics::CONTENT_TYPE};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{Context, failure::Failure};

/// The longest header of a request.
const MAX_HEADER: usize = 8 * 1024;
/// What a request and its answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Connections at once; one more is closed.
const MAX_CONNECTIONS: usize = 16;
/// The pause after accepting failed.
const PAUSE: Duration = Duration::from_millis(100);

/// Reads `9100`, `127.0.0.1:9100` or `[::1]:9100`. A port alone is on loopback.
pub(crate) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into());
    }
    text.parse().map_err(|_| "expected a port, or an address as 127.0.0.1:9100 or [::1]:9100".to_owned())
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Metrics { url: &'a str },
}

/// Serves the node's metrics until the program ends.
pub(crate) async fn serve(context: &Context, node: &Node, address: SocketAddr) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot serve metrics on {address}: {error}"))
            .hint("choose another port, or 0 for any")
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let url = format!("http://{bound}/metrics");
    if context.out.is_json() {
        context.out.say(&Event::Metrics { url: &url }, "")?;
    } else {
        context.out.note(format_args!("Metrics are at {url}"));
    }
    if !bound.ip().is_loopback() {
        context.out.note("Other machines can read them.");
    }
    tokio::spawn(accept(listener, node.downgrade()));
    Ok(())
}

async fn accept(listener: TcpListener, node: NodeRef) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection for metrics failed");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let node = node.clone();
        tokio::spawn(async move {
            let text = || node.get().map(|node| node.metrics());
            answer(stream, text).await;
            drop(place);
        });
    }
}

/// Answers one request. `metrics` is `None` once the node has ended.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, metrics: impl FnOnce() -> Option<String>) {
    let exchange = async {
        let (status, body) = match request(&mut stream).await {
            Ok(()) => match metrics() {
                Some(text) => ("200 OK", text),
                None => ("503 Service Unavailable", "the node has ended\n".to_owned()),
            },
            Err(Some(status)) => (status, format!("{status}\n")),
            // Nobody is there any more.
            Err(None) => return,
        };
        let kind = if status.starts_with("200") { CONTENT_TYPE } else { "text/plain" };
        let length = body.len();
        let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n"
        );
        let written = async {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(body.as_bytes()).await?;
            stream.shutdown().await
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "a reader of metrics went away");
        }
    };
    if timeout(DEADLINE, exchange).await.is_err() {
        tracing::debug!("a reader of metrics took too long");
    }
}

/// Reads a request for the metrics; the error is the status to answer with.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Option<&'static str>> {
    let mut header = Vec::new();
    let mut part = [0; 1024];
    // Where the end may begin that is not found yet.
    let mut from = 0;
    while !header[from..].windows(4).any(|end| end == b"\r\n\r\n") {
        from = header.len().saturating_sub(3);
        if header.len() >= MAX_HEADER {
            return Err(Some("431 Request Header Fields Too Large"));
        }
        let room = part.len().min(MAX_HEADER - header.len());
        match stream.read(&mut part[..room]).await {
            Ok(0) | Err(_) => return Err(None),
            Ok(count) => header.extend_from_slice(&part[..count]),
        }
    }
    let line = header.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| Some("400 Bad Request"))?;
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        [method, target, "HTTP/1.1" | "HTTP/1.0"] => match (*method, target.split('?').next()) {
            ("GET", Some("/metrics")) => Ok(()),
            (_, Some("/metrics")) => Err(Some("405 Method Not Allowed")),
            _ => Err(Some("404 Not Found")),
        },
        _ => Err(Some("400 Bad Request")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[test]
    fn a_port_alone_is_on_loopback() {
        assert_eq!(parse("9100"), Ok("127.0.0.1:9100".parse().unwrap()));
        assert_eq!(parse("[::1]:9100"), Ok("[::1]:9100".parse().unwrap()));
        assert_eq!(parse("0.0.0.0:1"), Ok("0.0.0.0:1".parse().unwrap()));
        for wrong in ["", "99999", "localhost:9100", "127.0.0.1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    /// What is answered to `parts`, which come one after the other, until the other side closes.
    async fn ask(parts: &[&[u8]]) -> String {
        let (mut near, far) = duplex(64);
        let answering = tokio::spawn(answer(far, || Some("counted 1\n".to_owned())));
        let mut said = String::new();
        let (mut reader, mut writer) = tokio::io::split(&mut near);
        let writing = async {
            for part in parts {
                if writer.write_all(part).await.is_err() {
                    break;
                }
            }
        };
        let _ = tokio::join!(writing, reader.read_to_string(&mut said));
        answering.await.unwrap();
        said
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_their_answers() {
        let get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".as_slice();
        let whole = ask(&[get]).await;
        assert!(
            whole.starts_with("HTTP/1.1 200 OK\r\n") && whole.ends_with("\r\n\r\ncounted 1\n"),
            "{whole}"
        );
        assert!(whole.contains("Content-Length: 10\r\n") && whole.contains(CONTENT_TYPE));
        let bytes: Vec<&[u8]> = get.chunks(1).collect();
        assert_eq!(ask(&bytes).await, whole);
        for (request, status) in [
            ("GET /metrics?x=1 HTTP/1.0\r\n\r\n", "200"),
            ("GET / HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "405"),
            ("GET /metrics\r\n\r\n", "400"),
            ("GET /metrics HTTP/2\r\n\r\n", "400"),
            ("\r\n\r\n", "400"),
        ] {
            let answer = ask(&[request.as_bytes()]).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        }
        assert!(ask(&[b"\xff\xff \xff\r\n\r\n"]).await.starts_with("HTTP/1.1 400 "));
    }

    #[tokio::test(start_paused = true)]
    async fn headers_are_bounded_in_size_and_time() {
        let first = "GET /metrics HTTP/1.1\r\nX: ".to_owned();
        let fits = first.clone() + &"x".repeat(MAX_HEADER - first.len() - 4) + "\r\n\r\n";
        assert_eq!(fits.len(), MAX_HEADER);
        assert!(ask(&[fits.as_bytes()]).await.starts_with("HTTP/1.1 200 "));
        let long = first + &"x".repeat(MAX_HEADER);
        assert!(ask(&[long.as_bytes()]).await.starts_with("HTTP/1.1 431 "));

        // Whoever says nothing, or reads nothing, is left after the deadline; the clock moves by itself.
        let begin = tokio::time::Instant::now();
        assert_eq!(ask(&[b"GET /metr"]).await, "");
        assert_eq!(begin.elapsed(), DEADLINE);
        let (mut near, far) = duplex(64);
        near.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
        let begin = tokio::time::Instant::now();
        answer(far, || Some("x".repeat(1_000))).await;
        assert_eq!(begin.elapsed(), DEADLINE);
    }
}
