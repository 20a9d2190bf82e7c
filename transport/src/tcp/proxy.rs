//! Dialing through a proxy: SOCKS5 (RFC 1928, 1929) or CONNECT of HTTP (RFC 9110, section 9.3.6).

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::Fault;

/// The most bytes of what a proxy answers to CONNECT, without what follows.
pub const MAX_ANSWER_LEN: usize = 4 * 1024;
/// The most bytes of a user's name, and of its password (RFC 1929, section 2).
pub const MAX_CREDENTIAL_LEN: usize = 255;

const SOCKS: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;

/// Whom connections go through: `socks5://192.0.2.1:1080` or `http://192.0.2.1:3128`, with `user:password@` before the
/// address where the proxy asks for it. IP addresses only: the proxy is told IP addresses as well, since names are resolved
/// above.
///
/// ```
/// use peerage_transport::tcp::Proxy;
/// let proxy: Proxy = "socks5://alice:secret@127.0.0.1:1080".parse()?;
/// assert_eq!(proxy.to_string(), "socks5://127.0.0.1:1080");
/// # Ok::<(), peerage_transport::tcp::BadProxy>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    server: SocketAddr,
    credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socks5,
    Http,
}

/// A text that names no proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected socks5://[user:password@]IP:PORT or http://[user:password@]IP:PORT")]
pub struct BadProxy;

/// Why a proxy led nowhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// It speaks something else than it was said to.
    #[error("the proxy does not speak {0}")]
    Protocol(&'static str),
    /// It wants another name and password, or any.
    #[error("the proxy does not take these credentials, or wants some")]
    Credentials,
    /// It does not let this node through.
    #[error("the proxy refuses: {0}")]
    Refused(String),
    /// It could not reach the peer.
    #[error("the proxy does not reach the peer: {0}")]
    Unreachable(&'static str),
    /// The peer, or its operating system, said no.
    #[error("the peer refused the proxy's connection")]
    PeerRefused,
    /// The connection to the proxy could not be opened, or broke.
    #[error("the connection with the proxy: {0}")]
    Io(#[from] io::Error),
}

impl ProxyError {
    /// Who has to change something for the next attempt to succeed. The proxy is this node's choice.
    pub fn fault(&self) -> Fault {
        match self {
            Self::PeerRefused => Fault::Remote,
            Self::Unreachable(_) => Fault::Network,
            _ => Fault::Local,
        }
    }
}

impl Proxy {
    /// Where it is.
    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    /// Has the proxy connect with `to`. Not a byte of what follows is read.
    pub(super) async fn lead<S>(&self, io: &mut S, to: SocketAddr) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match self.kind {
            Kind::Socks5 => self.socks5(io, to).await,
            Kind::Http => self.connect(io, to).await,
        }
    }

    async fn socks5<S>(&self, io: &mut S, to: SocketAddr) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let offered: &[u8] = match self.credentials {
            Some(_) => &[SOCKS, 2, NO_AUTHENTICATION, PASSWORD],
            None => &[SOCKS, 1, NO_AUTHENTICATION],
        };
        io.write_all(offered).await?;
        match (socks_answer(io).await?, &self.credentials) {
            ([SOCKS, NO_AUTHENTICATION], _) => {}
            ([SOCKS, PASSWORD], Some((user, password))) => {
                let mut request = vec![1];
                for text in [user, password] {
                    request.push(u8::try_from(text.len()).map_err(|_| ProxyError::Credentials)?);
                    request.extend_from_slice(text.as_bytes());
                }
                io.write_all(&request).await?;
                let [_, status] = socks_answer(io).await?;
                if status != 0 {
                    return Err(ProxyError::Credentials);
                }
            }
            ([SOCKS, NO_METHOD], _) => return Err(ProxyError::Credentials),
            _ => return Err(ProxyError::Protocol("SOCKS5")),
        }
        let mut request = vec![SOCKS, 1, 0];
        match to.ip() {
            IpAddr::V4(ip) => request.extend([&[1][..], &ip.octets()].concat()),
            IpAddr::V6(ip) => request.extend([&[4][..], &ip.octets()].concat()),
        }
        request.extend(to.port().to_be_bytes());
        io.write_all(&request).await?;
        let [version, reply, _, kind]: [u8; 4] = socks_answer(io).await?;
        if version != SOCKS {
            return Err(ProxyError::Protocol("SOCKS5"));
        }
        match reply {
            0 => {}
            2 => return Err(ProxyError::Refused("its rules forbid it".to_owned())),
            3 => return Err(ProxyError::Unreachable("no way to its network")),
            4 => return Err(ProxyError::Unreachable("no way to its machine")),
            5 => return Err(ProxyError::PeerRefused),
            6 => return Err(ProxyError::Unreachable("it took too long")),
            other => return Err(ProxyError::Refused(format!("reply {other}"))),
        }
        // From where it connects, of which nothing is made.
        let length = match kind {
            1 => 4,
            4 => 16,
            3 => usize::from(io.read_u8().await?),
            _ => return Err(ProxyError::Protocol("SOCKS5")),
        };
        let mut rest = vec![0; length.saturating_add(2)];
        io.read_exact(&mut rest).await?;
        Ok(())
    }

    async fn connect<S>(&self, io: &mut S, to: SocketAddr) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some((user, password)) = &self.credentials {
            let both = BASE64.encode(format!("{user}:{password}").as_bytes());
            request.push_str(&format!("Proxy-Authorization: Basic {both}\r\n"));
        }
        request.push_str("\r\n");
        io.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // Byte by byte: what follows is the peer's.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_ANSWER_LEN {
                return Err(ProxyError::Protocol("HTTP"));
            }
            answer.push(io.read_u8().await?);
        }
        let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let version = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
        match words.next().unwrap_or_default() {
            _ if !version => Err(ProxyError::Protocol("HTTP")),
            [b'2', _, _] => Ok(()),
            b"407" => Err(ProxyError::Credentials),
            b"502" | b"503" => Err(ProxyError::Unreachable("bad gateway")),
            b"504" => Err(ProxyError::Unreachable("it took too long")),
            status => Err(ProxyError::Refused(format!("status {}", status.escape_ascii()))),
        }
    }
}

async fn socks_answer<S: AsyncRead + Unpin, const N: usize>(io: &mut S) -> Result<[u8; N], ProxyError> {
    let mut answer = [0; N];
    io.read_exact(&mut answer).await?;
    Ok(answer)
}

impl FromStr for Proxy {
    type Err = BadProxy;

    fn from_str(text: &str) -> Result<Self, BadProxy> {
        let (scheme, rest) = text.split_once("://").ok_or(BadProxy)?;
        let kind = match scheme {
            "socks5" => Kind::Socks5,
            "http" => Kind::Http,
            _ => return Err(BadProxy),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, server) = match rest.rsplit_once('@') {
            Some((credentials, server)) => {
                let (user, password) = credentials.split_once(':').ok_or(BadProxy)?;
                (Some((user.to_owned(), password.to_owned())), server)
            }
            None => (None, rest),
        };
        let fits = |text: &String| {
            (1..=MAX_CREDENTIAL_LEN).contains(&text.len()) && !text.contains(char::is_control)
        };
        if credentials.as_ref().is_some_and(|(user, password)| !fits(user) || !fits(password)) {
            return Err(BadProxy);
        }
        Ok(Self { kind, server: server.parse().map_err(|_| BadProxy)?, credentials })
    }
}

/// Without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        write!(f, "{scheme}://{}", self.server)
    }
}

/// Without the credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
