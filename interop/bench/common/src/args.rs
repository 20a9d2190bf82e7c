//! The command line, which is the same for all benchmark peers.

use std::{net::Ipv4Addr, str::FromStr, time::Duration};

pub(crate) const USAGE: &str =
    "usage: peer server [--transport tcp-noise|tcp-tls|quic|ws-noise|webrtc] [--workers N] [--host IPV4] [--hybrid true]
       peer client ADDRESS MEASURE [the same] [--seconds S] [--write BYTES] [--connections N]
where MEASURE is up, down, ping, ping-apart, connect, connect-32, first-contact, early, requests, requests-64, idle, ping-busy, share,
saturated, gossip-pair, gossip-pair-64k, gossip-mesh, gossip-mesh-64k, gossip-paced, gossip-topics or gossip-peers; a server for the last one takes
--gossip true";

/// Words for the variants of an enum.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant),* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// The word of each.
            pub const WORDS: &[&str] = &[$($word),*];

            /// As the command line and the results say it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{word} is none of {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words! {
    /// What carries a connection, and what encrypts it.
    Transport {
        /// TCP, noise, yamux.
        TcpNoise = "tcp-noise",
        /// TCP, TLS 1.3, yamux.
        TcpTls = "tcp-tls",
        /// QUIC.
        Quic = "quic",
        /// WebSocket, noise, yamux.
        WsNoise = "ws-noise",
        /// WebRTC between programs.
        WebRtc = "webrtc",
    }
}

words! {
    /// What is measured.
    Measure {
        /// One stream, from the client to the server.
        Up = "up",
        /// One stream, from the server to the client.
        Down = "down",
        /// Round trips of 32 bytes on one stream, one after another.
        Ping = "ping",
        /// The same by a thread that has nothing else to do with the library, if the library has threads of its own.
        PingApart = "ping-apart",
        /// Connections, one after another, each with a first ping.
        Connect = "connect",
        /// Connections by 32 nodes at once.
        Connect32 = "connect-32",
        /// Connections, one after another, each by a new node and with a first ping.
        FirstContact = "first-contact",
        /// As connections one after another, but a request that leaves ahead of the handshake instead of the ping.
        Early = "early",
        /// Requests, each on a new stream, one after another.
        Requests = "requests",
        /// The same with 64 under way at any time.
        Requests64 = "requests-64",
        /// Connections that are only held, each from a node of its own.
        Idle = "idle",
        /// Pings on one stream, beside another one that sends all it can.
        PingBusy = "ping-busy",
        /// 256 streams that send all they can: what the slowest and the fastest have of the mean.
        Share = "share",
        /// 100 connections with a stream each that sends all it can.
        Saturated = "saturated",
        /// Signed messages of 1 KiB from one node to another, 64 under way at any time.
        GossipPair = "gossip-pair",
        /// The same of 64 KiB, 8 under way.
        GossipPair64k = "gossip-pair-64k",
        /// Signed messages of 1 KiB from one node to nineteen, each with ten peers in its mesh, 64 under way at any time.
        GossipMesh = "gossip-mesh",
        /// The same of 64 KiB, 8 under way.
        GossipMesh64k = "gossip-mesh-64k",
        /// The same of 1 KiB, 50 a second.
        GossipPaced = "gossip-paced",
        /// Topics that are only subscribed to, by eleven nodes.
        GossipTopics = "gossip-topics",
        /// Peers that only are in the topic of the server.
        GossipPeers = "gossip-peers",
    }
}

/// What the command line says.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub(crate) role: Role,
    /// Over what.
    pub transport: Transport,
    /// Where to listen.
    pub host: Ipv4Addr,
    /// Whether ML-KEM takes part where keys are agreed on, if the library has it and leaves the choice.
    pub hybrid: bool,
    /// Whether the server gossips, and does nothing else.
    pub(crate) gossip: bool,
    /// How many worker threads the process may have.
    pub workers: usize,
    /// How long to measure.
    pub(crate) duration: Duration,
    /// How many bytes are handed to a stream at once.
    pub(crate) write: usize,
    /// How many connections are held when they are idle.
    pub(crate) connections: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Role {
    Server,
    Client { address: String, measure: Measure },
}

impl Measure {
    /// Whether it is one of gossip.
    pub fn is_gossip(self) -> bool {
        self.word().starts_with("gossip-")
    }
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut next = |what: &str| args.next().ok_or_else(|| format!("{what} is missing"));
        let role = match next("server or client")?.as_str() {
            "server" => Role::Server,
            "client" => {
                let address = next("the address")?;
                Role::Client { address, measure: next("the measure")?.parse()? }
            }
            other => return Err(format!("{other} is neither server nor client")),
        };
        let mut options = Self {
            role,
            transport: Transport::TcpNoise,
            host: Ipv4Addr::LOCALHOST,
            hybrid: false,
            gossip: false,
            workers: 2,
            duration: Duration::from_secs(2),
            write: 64 << 10,
            connections: 1000,
        };
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| format!("{flag} wants a value"))?;
            let wrong = |_| format!("{flag} does not take {value}");
            match flag.as_str() {
                "--transport" => options.transport = value.parse()?,
                "--host" => options.host = value.parse().map_err(|_| wrong(()))?,
                "--hybrid" => options.hybrid = value.parse().map_err(|_| wrong(()))?,
                "--gossip" => options.gossip = value.parse().map_err(|_| wrong(()))?,
                "--workers" => options.workers = number(&value).map_err(wrong)?,
                "--write" => options.write = number(&value).map_err(wrong)?,
                "--connections" => options.connections = number(&value).map_err(wrong)?,
                "--seconds" => {
                    let seconds = value.parse().map_err(|_| wrong(()))?;
                    options.duration = Duration::try_from_secs_f64(seconds).map_err(|_| wrong(()))?;
                }
                _ => return Err(format!("no such option: {flag}")),
            }
        }
        Ok(options)
    }
}

fn number(value: &str) -> Result<usize, ()> {
    value.parse().ok().filter(|number| *number > 0).ok_or(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn command_lines() {
        let server = parse("server --transport quic --workers 1").unwrap();
        assert_eq!((server.role, server.transport, server.workers), (Role::Server, Transport::Quic, 1));
        let client = parse("client /ip4/127.0.0.1/tcp/1 requests-64 --seconds 0.5 --write 1000").unwrap();
        let role = Role::Client { address: "/ip4/127.0.0.1/tcp/1".to_owned(), measure: Measure::Requests64 };
        assert_eq!((client.role, client.write), (role, 1000));
        assert_eq!(client.duration, Duration::from_millis(500));
        assert!(parse("server --gossip true").unwrap().gossip && !client.gossip);
    }

    #[test]
    fn wrong_command_lines() {
        for line in [
            "",
            "client",
            "client /x",
            "client /x fast",
            "server --workers",
            "server --workers 0",
            "server --transport pigeon",
            "client /x up --seconds -1",
            "client /x up --speed 1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
