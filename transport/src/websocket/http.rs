//! The opening handshake (RFC 6455, section 4): one HTTP request, and its answer. tungstenite reads and checks them; how
//! much of them is read, and what is answered to those that open nothing, is decided here.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{
    error::{Error as Refusal, ProtocolError},
    handshake::{
        client::{Response, generate_key},
        derive_accept_key,
        machine::TryParse,
        server::{Request, create_response, write_response},
    },
    http::{HeaderMap, StatusCode},
};

use super::{Error, MAX_HEAD_LEN};

/// What is read at a time.
const CHUNK: usize = 1024;

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";

/// Asks a server for a WebSocket. What it has sent after its answer is given back.
pub(super) async fn dial<S>(io: &mut S, host: &str, path: &str) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {host}\r\n\
         Connection: Upgrade\r\n\
         Upgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n\
         \r\n"
    );
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let (head, rest) = read_head(io, b"HTTP/1.").await?;
    let response = match Response::try_parse(&head) {
        Ok(Some((_, response))) => response,
        _ => return Err(Error::NotHttp),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(Error::Status(response.status().as_u16()));
    }
    check(response.headers(), &key)?;
    Ok(rest)
}

/// RFC 6455, section 4.1, the last list.
fn check(headers: &HeaderMap, key: &str) -> Result<(), Error> {
    let accept = headers.get("Sec-WebSocket-Accept");
    if !has_token(headers, "Upgrade", "websocket") {
        return Err(Error::Answer("it upgrades to something else"));
    }
    if !has_token(headers, "Connection", "upgrade") {
        return Err(Error::Answer("it does not upgrade the connection"));
    }
    if accept.is_none_or(|accept| *accept != derive_accept_key(key.as_bytes())) {
        return Err(Error::Answer("it is the answer to another request"));
    }
    if headers.contains_key("Sec-WebSocket-Extensions") {
        return Err(Error::Answer("it wants extensions that were not offered"));
    }
    if headers.contains_key("Sec-WebSocket-Protocol") {
        return Err(Error::Answer("it wants a subprotocol that was not offered"));
    }
    Ok(())
}

fn has_token(headers: &HeaderMap, name: &str, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
}

/// Answers a client that asks for a WebSocket at `path`, or at any path without one. What it has sent after its request
/// is given back. Extensions and subprotocols that it offers are not taken.
pub(super) async fn accept<S>(io: &mut S, path: Option<&[u8]>) -> Result<Vec<u8>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (head, rest) = match read_head(io, b"GET ").await {
        Ok(read) => read,
        Err(Error::NotHttp) => return refuse(io, StatusCode::BAD_REQUEST, "it is no GET of HTTP").await,
        Err(Error::HeadTooLong) => {
            let _ = refuse::<_, ()>(io, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "").await;
            return Err(Error::HeadTooLong);
        }
        Err(error) => return Err(error),
    };
    let request = match Request::try_parse(&head) {
        Ok(Some((_, request))) => request,
        _ => return refuse(io, StatusCode::BAD_REQUEST, "its head is malformed").await,
    };
    if path.is_some_and(|path| !is_path(request.uri().path(), path)) {
        return refuse(io, StatusCode::NOT_FOUND, "nothing is at its path").await;
    }
    let response = match create_response(&request) {
        Ok(response) => response,
        Err(refusal) => {
            let (status, why) = refusal_of(&refusal);
            return refuse(io, status, why).await;
        }
    };
    let mut answer = Vec::new();
    write_response(&mut answer, &response).map_err(|error| Error::Internal(error.to_string()))?;
    io.write_all(&answer).await?;
    io.flush().await?;
    Ok(rest)
}

fn refusal_of(refusal: &Refusal) -> (StatusCode, &'static str) {
    let Refusal::Protocol(why) = refusal else {
        return (StatusCode::BAD_REQUEST, "it is malformed");
    };
    match why {
        ProtocolError::MissingConnectionUpgradeHeader | ProtocolError::MissingUpgradeWebSocketHeader => {
            (StatusCode::UPGRADE_REQUIRED, "it does not ask for a WebSocket")
        }
        ProtocolError::MissingSecWebSocketVersionHeader => {
            (StatusCode::UPGRADE_REQUIRED, "it asks for another version of WebSocket than 13")
        }
        _ => (StatusCode::BAD_REQUEST, "its key is missing or malformed"),
    }
}

/// Says so in HTTP, because who asks may be a browser or a health check, and is somebody's puzzle otherwise.
async fn refuse<S, T>(io: &mut S, status: StatusCode, why: &'static str) -> Result<T, Error>
where
    S: AsyncWrite + Unpin,
{
    let upgrade = match status {
        StatusCode::UPGRADE_REQUIRED => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    let answer = format!("HTTP/1.1 {status}\r\n{upgrade}Connection: close\r\nContent-Length: 0\r\n\r\n");
    // Whoever has gone is not told.
    let _ = async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await
    }
    .await;
    Err(Error::Refused { status: status.as_u16(), why })
}

/// Whether what a request names is `path`, which is not encoded, and of which the first slash may be missing.
fn is_path(requested: &str, path: &[u8]) -> bool {
    let requested = decode_path(requested);
    let bare = |path: &[u8]| path.strip_prefix(b"/").unwrap_or(path).to_vec();
    bare(&requested) == bare(path)
}

fn decode_path(path: &str) -> Vec<u8> {
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        let digits = more.split_first_chunk::<2>().filter(|_| *byte == b'%');
        match digits.and_then(|(digits, more)| Some((hex(*digits)?, more))) {
            Some((byte, more)) => {
                decoded.push(byte);
                rest = more;
            }
            None => decoded.push(*byte),
        }
    }
    decoded
}

fn hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// A path as a request names it (RFC 3986, section 3.3): everything that could end the line, or the path, is encoded.
pub(super) fn encode_path(path: &[u8]) -> String {
    let mut text = String::from("/");
    for byte in path.strip_prefix(b"/").unwrap_or(path) {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=' | b':' | b'@' => {
                text.push(char::from(*byte));
            }
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Reads a head, which begins with `begins`; what comes after it is given apart.
async fn read_head<S: AsyncRead + Unpin>(io: &mut S, begins: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut head: Vec<u8> = Vec::new();
    loop {
        // The end may have begun in what came before.
        let seen = head.len().saturating_sub(END.len().saturating_sub(1));
        let room = MAX_HEAD_LEN.saturating_sub(head.len()).min(CHUNK);
        if room == 0 {
            return Err(Error::HeadTooLong);
        }
        let mut chunk = [0; CHUNK];
        let read = io.read(chunk.get_mut(..room).unwrap_or_default()).await?;
        if read == 0 {
            return Err(Error::Ended);
        }
        head.extend_from_slice(chunk.get(..read).unwrap_or_default());
        // Whoever speaks something else may be waiting for an answer, so that no end would ever come.
        let common = head.len().min(begins.len());
        if head.get(..common) != begins.get(..common) {
            return Err(Error::NotHttp);
        }
        let new = head.get(seen..).unwrap_or_default();
        if let Some(at) = new.windows(END.len()).position(|four| four == END) {
            let rest = head.split_off(seen.saturating_add(at).saturating_add(END.len()));
            return Ok((head, rest));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

    /// What a server makes of a request, and answers.
    async fn serve(request: &[u8], path: Option<&[u8]>) -> (Result<Vec<u8>, Error>, String) {
        let (mut near, mut far) = duplex(1 << 20);
        near.write_all(request).await.unwrap();
        near.shutdown().await.unwrap();
        let result = accept(&mut far, path).await;
        drop(far);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        (result, answer)
    }

    /// What a client makes of an answer, to which its own key is not known: `KEY` stands for the right one.
    async fn ask(answer: &str) -> Result<Vec<u8>, Error> {
        let (mut near, mut far) = duplex(1 << 20);
        let answering = async {
            let (head, _) = read_head(&mut far, b"GET ").await.unwrap();
            let (_, request) = Request::try_parse(&head).unwrap().unwrap();
            let key = derive_accept_key(request.headers()["Sec-WebSocket-Key"].as_bytes());
            far.write_all(answer.replace("KEY", &key).as_bytes()).await.unwrap();
            drop(far);
        };
        tokio::join!(dial(&mut near, "h", "/"), answering).0
    }

    /// RFC 6455, section 1.3.
    #[tokio::test]
    async fn the_example_of_the_rfc() {
        let (result, answer) = serve(REQUEST.as_bytes(), None).await;
        assert_eq!(result.unwrap(), b"");
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let answer = answer.to_ascii_lowercase();
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
        assert!(!answer.contains("extensions"), "offers are not taken");
    }

    #[tokio::test]
    async fn what_opens_nothing_is_answered_in_http() {
        for (from, to, status) in [
            ("GET /", "POST /", 400),
            ("GET / HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", 400),
            ("Upgrade: websocket\r\n", "", 426),
            ("keep-alive, Upgrade", "close", 426),
            ("Version: 13", "Version: 8", 426),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", 400),
            ("Host: h", "Host: \x01", 400),
            ("Host", "Ho st", 400),
        ] {
            let (result, answer) = serve(REQUEST.replacen(from, to, 1).as_bytes(), None).await;
            let Err(error @ Error::Refused { status: told, .. }) = result else { panic!("{to}") };
            assert_eq!(told, status, "{error}");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains("Connection: close\r\n") && answer.ends_with("\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn paths_are_compared_decoded() {
        for (requested, path, opens) in [
            ("/", None, true),
            ("/any/thing?x", None, true),
            ("/a/b", Some("a/b"), true),
            ("/a/b", Some("/a/b"), true),
            ("/a%2Fb", Some("a/b"), true),
            ("/%e4?query", Some("\u{e4}"), false),
            ("/a%20b?query", Some("a b"), true),
            ("/%zz%2", Some("%zz%2"), true),
            ("/", Some("a"), false),
            ("/a/", Some("a"), false),
            ("/A", Some("a"), false),
        ] {
            let request = REQUEST.replacen("GET / ", &format!("GET {requested} "), 1);
            let (result, answer) = serve(request.as_bytes(), path.map(str::as_bytes)).await;
            assert_eq!(result.is_ok(), opens, "{requested} {path:?} {answer}");
            assert_eq!(answer.starts_with("HTTP/1.1 404 "), !opens);
        }
        assert_eq!(encode_path(b"a/b c\r\n?#%\xff"), "/a/b%20c%0D%0A%3F%23%25%FF");
        assert_eq!(encode_path(b"/x"), "/x");
        assert!(is_path(&encode_path(b"\xff \r?"), b"\xff \r?"));
    }

    #[tokio::test]
    async fn heads_up_to_the_limit() {
        let padded = |len: usize| {
            let pad = "x".repeat(len - REQUEST.len() - "Pad: \r\n".len());
            REQUEST.replacen("Host", &format!("Pad: {pad}\r\nHost"), 1)
        };
        let (result, _) = serve(padded(MAX_HEAD_LEN).as_bytes(), None).await;
        result.unwrap();
        let (result, answer) = serve(padded(MAX_HEAD_LEN + 1).as_bytes(), None).await;
        assert!(matches!(result, Err(Error::HeadTooLong)), "{result:?}");
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");

        let endless = format!("HTTP/1.1 101 x\r\nPad: {}", "x".repeat(MAX_HEAD_LEN));
        assert!(matches!(ask(&endless).await, Err(Error::HeadTooLong)));
    }

    #[tokio::test]
    async fn header_lines_up_to_the_limit() {
        use tokio_tungstenite::tungstenite::handshake::headers::MAX_HEADERS;
        let lines = REQUEST.matches("\r\n").count() - 2;
        for (more, opens) in [(MAX_HEADERS - lines, true), (MAX_HEADERS - lines + 1, false)] {
            let request = REQUEST.replacen("Host", &format!("{}Host", "X: y\r\n".repeat(more)), 1);
            assert_eq!(serve(request.as_bytes(), None).await.0.is_ok(), opens);
        }
    }

    #[tokio::test]
    async fn what_follows_the_head_is_kept() {
        let (result, _) = serve(format!("{REQUEST}frames").as_bytes(), None).await;
        assert_eq!(result.unwrap(), b"frames");
        let (result, _) = serve(&REQUEST.as_bytes()[..REQUEST.len() - 1], None).await;
        assert!(matches!(result, Err(Error::Ended)));
    }

    #[tokio::test]
    async fn answers_that_open_and_that_do_not() {
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, upgrade\r\n\
            Sec-WebSocket-Accept: KEY\r\n\r\nframes";
        assert_eq!(ask(good).await.unwrap(), b"frames");
        for (from, to) in [
            ("WebSocket\r", "h2c\r"),
            ("upgrade\r", "close\r"),
            ("KEY", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("Sec-WebSocket-Accept: KEY\r\n", ""),
            ("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
            ("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"),
        ] {
            let result = ask(&good.replacen(from, to, 1)).await;
            assert!(matches!(result, Err(Error::Answer(_))), "{to}: {result:?}");
        }
        for (status, text) in [(200, "OK"), (301, "Moved\r\nLocation: /x"), (404, "Not Found"), (503, "x")] {
            let result = ask(&format!("HTTP/1.1 {status} {text}\r\nContent-Length: 0\r\n\r\n")).await;
            assert!(matches!(result, Err(Error::Status(told)) if told == status), "{result:?}");
        }
        for garbage in
            ["\x13/multistream/1.0.0\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 banana\r\n\r\n", "SSH-2.0-x\r\n"]
        {
            let result = ask(garbage).await;
            assert!(matches!(result, Err(Error::NotHttp)), "{garbage}: {result:?}");
        }
        assert!(matches!(ask("").await, Err(Error::Ended)));
    }
}
