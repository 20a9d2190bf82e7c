//! The command line.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand};
use peerage::{
    Multiaddr,
    addresses::Filter,
    identity::KeyType,
    transport::{
        tcp::Proxy,
        upgrade::{MuxerKind, Security},
    },
};
use peerage_cli::text::{UNITS, in_units};

use crate::{address, metrics};

/// A libp2p node on supervised actors: listen, dial, ping, identify, chat.
///
/// Nothing is reachable from other machines unless --lan or --listen says so.
#[derive(Debug, Parser)]
#[command(name = "peerage", bin_name = "peerage", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What every command takes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Keep this node's private key in FILE, which is made if it is missing. Without it, every run has a new identity
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    /// Keep what this node knows of peers in FILE, which is made if it is missing. Without it, every run begins anew
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) store: Option<PathBuf>,
    /// Listen on ADDR, a multiaddr; repeatable. Port 0 lets the system choose
    #[arg(long, global = true, value_name = "ADDR", value_parser = address::parse)]
    pub(crate) listen: Vec<Multiaddr>,
    /// Listen on all interfaces, so that other machines reach this node
    #[arg(long, global = true, conflicts_with = "listen")]
    pub(crate) lan: bool,
    /// Tell peers of ADDR, too, as that of a port that a router forwards to this node; repeatable
    #[arg(long, global = true, value_name = "ADDR", value_parser = address::parse)]
    pub(crate) announce: Vec<Multiaddr>,
    /// Keep an address, or those of a network (10.0.0.0/8), from peers on other machines; repeatable
    #[arg(long, global = true, value_name = "ADDR")]
    pub(crate) no_announce: Vec<Filter>,
    /// Offer and accept only this security protocol: noise or tls, repeatable, the preferred first [default: both];
    /// or plaintext, alone, for tests: it hides and proves nothing
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) security: Vec<Security>,
    /// Offer and accept only this muxer: yamux, mplex (for old peers), yamux-crate; repeatable, the preferred first [default: yamux]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) muxer: Vec<MuxerKind>,
    /// Join the private network whose key is in FILE: only nodes with the same key are spoken with. `peerage psk FILE` makes
    /// one
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) psk: Option<PathBuf>,
    /// Show the certificates in FILE, in PEM, to who comes by WebSocket over TLS (--listen .../tls/ws). It is read again when
    /// it changes
    #[arg(long, global = true, value_name = "FILE", requires = "wss_key")]
    pub(crate) wss_cert: Option<PathBuf>,
    /// The key of --wss-cert, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "wss_cert")]
    pub(crate) wss_key: Option<PathBuf>,
    /// Believe the certificate authorities in FILE, in PEM, beside those of this machine, when dialing .../tls/ws; repeatable
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) wss_ca: Vec<PathBuf>,
    /// Go through a proxy to whoever is dialed: socks5://[USER:PASSWORD@]IP:PORT, or http://... for one that speaks CONNECT
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) proxy: Option<Proxy>,
    /// Serve what the node counts over HTTP, for Prometheus and its like: http://ADDR/metrics. A port alone is on loopback
    #[arg(long, global = true, value_name = "ADDR", value_parser = metrics::parse)]
    pub(crate) metrics: Option<SocketAddr>,
    /// Print one JSON object a line on standard output. Logs stay on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// Whether anything was said about how to connect.
    pub(crate) fn says_how_to_connect(&self) -> bool {
        self.lan
            || self.psk.is_some()
            || self.metrics.is_some()
            || self.wss_cert.is_some()
            || self.proxy.is_some()
            || !self.wss_ca.is_empty()
            || !(self.listen.is_empty() && self.security.is_empty() && self.muxer.is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the peer id
    #[command(after_help = ID_EXAMPLES)]
    Id(Id),
    /// Make the key of a private network, or show the fingerprint of the one that is there
    #[command(after_help = PSK_EXAMPLES)]
    Psk(Psk),
    /// Listen, and show who connects
    #[command(after_help = LISTEN_EXAMPLES)]
    Listen(Listen),
    /// Listen, echo under /peerage/echo/1, and answer pings and measurements
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Listen),
    /// Connect with a peer, and say how that went
    ///
    /// Exits with 0 if there was a connection.
    #[command(after_help = DIAL_EXAMPLES)]
    Dial(Explain),
    /// Measure the round-trip time to a peer
    ///
    /// Exits with 0 if every ping was answered.
    #[command(after_help = PING_EXAMPLES)]
    Ping(Ping),
    /// Measure how many bytes a second a connection carries
    #[command(after_help = PERF_EXAMPLES)]
    Perf(Perf),
    /// Print what a peer says of itself
    #[command(after_help = IDENTIFY_EXAMPLES)]
    Identify(Dial),
    /// Chat: in a room of a name, or over direct streams
    #[command(after_help = CHAT_EXAMPLES, long_about = CHAT_ABOUT)]
    Chat(Chat),
}

#[derive(Args, Debug)]
pub(crate) struct Psk {
    /// The key's file: a swarm.key, as other libp2p implementations read it
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    /// Of which type a new key is: ed25519, secp256k1, ecdsa (P-256) or rsa (2048 bits) [default: ed25519]
    ///
    /// Every libp2p node has ed25519, which is the shortest and the fastest. Take another type only for somebody who
    /// asks for it: secp256k1 for chains whose nodes have such keys, rsa and ecdsa for old networks. js-libp2p nodes
    /// do not understand ecdsa.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) key_type: Option<KeyType>,
}

#[derive(Args, Debug)]
pub(crate) struct Listen {
    /// Show the tree of actors, once a second while it changes
    #[arg(long)]
    pub(crate) tree: bool,
    /// Find other nodes by multicast DNS, and be found: those of this machine, and with --lan those in its private networks.
    /// They are shown, not dialed
    #[arg(long)]
    pub(crate) mdns: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Dial {
    /// Whom to dial: /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW..., or by name, /dns/example.com/tcp/4001. Without /p2p, whoever answers is fine
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    pub(crate) address: Multiaddr,
}

#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    pub(crate) dial: Dial,
    /// Draw what was tried over time: names, addresses, and how far each came
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Ping {
    #[command(flatten)]
    pub(crate) dial: Dial,
    /// How many pings; 0 goes on until Ctrl-C
    #[arg(short, long, value_name = "N", default_value_t = 4)]
    pub(crate) count: u64,
    /// Seconds from one ping to the next
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) interval: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Perf {
    #[command(flatten)]
    pub(crate) dial: Dial,
    /// How much to send: 1000, 64KiB, 10MiB, 1GiB
    #[arg(short, long, value_name = "BYTES", default_value = "100MiB")]
    pub(crate) upload: Bytes,
    /// How much to be sent
    #[arg(short, long, value_name = "BYTES", default_value = "100MiB")]
    pub(crate) download: Bytes,
    /// Seconds that all of it may take
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// A number of bytes, as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a number of bytes, as 1000, 64KiB, 10MiB or 1GiB";
        let unit = UNITS.into_iter().find_map(|(name, size)| Some((text.strip_suffix(name)?, size)));
        let (number, size) = unit.unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| EXPECTED)?;
        number.checked_mul(size).map(Self).ok_or(EXPECTED)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_units(self.0).fmt(f)
    }
}

#[derive(Args, Debug)]
pub(crate) struct Chat {
    /// A participant to join; without one, wait for others to join
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    pub(crate) address: Option<Multiaddr>,
    /// What the others see as your name [default: the end of your peer id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Chat in the room of this name, which needs no host: what is said goes by gossip, and others are found
    #[arg(long, value_name = "NAME")]
    pub(crate) room: Option<String>,
    /// Do not look for others of the room by multicast DNS, which is on this machine alone without --lan
    #[arg(long, requires = "room")]
    pub(crate) no_mdns: bool,
    /// Put files that are accepted into DIR, which is made when the first one is
    #[arg(long, value_name = "DIR", default_value = "peerage-downloads")]
    pub(crate) downloads: PathBuf,
    /// Take no file that is larger: 1000, 64KiB, 10MiB, 1GiB
    #[arg(long, value_name = "BYTES", default_value = "1GiB")]
    pub(crate) max_file_size: Bytes,
    /// Plain lines, also on a terminal that could show a screen
    #[arg(long)]
    pub(crate) plain: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, as 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if interval <= MAX_INTERVAL => Ok(interval),
        _ => Err(format!("expected 0 to {} seconds", MAX_INTERVAL.as_secs())),
    }
}

const MAX_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

const EXAMPLES: &str = "\
Examples:
  peerage chat                                  wait for somebody to chat with; prints the line to paste elsewhere
  peerage serve --listen /ip4/0.0.0.0/tcp/4001  a node to try things on
  peerage ping /ip4/192.0.2.1/tcp/4001 -c 3     is it there, and how far away?
  peerage COMMAND --help                        more about one command

PEERAGE_LOG sets what is logged to standard error: PEERAGE_LOG=debug, PEERAGE_LOG=peerage_host=trace.";

const ID_EXAMPLES: &str = "\
Examples:
  peerage id --identity ~/.peerage.key         make an identity, or show the one that is there
  peerage id --identity eth.key --type secp256k1
                                               make one with another type of key
  peerage id --json                            a new one that is not kept";

const PSK_EXAMPLES: &str = "\
Whoever has the key is a member: copy it to each node, and to nobody else. Fingerprints tell
keys apart without giving them away. LIBP2P_FORCE_PNET=1 in the environment keeps nodes
without --psk from starting.

Examples:
  peerage psk swarm.key                make a key, or show the fingerprint of the one that is there
  peerage serve --psk swarm.key        a node that only members can speak with
  peerage ping ADDR --psk swarm.key    one of them";

const LISTEN_EXAMPLES: &str = "\
Examples:
  peerage listen                                  on loopback, on a port of the system's choice
  peerage listen --lan --json                     for other machines, and for a program to read
  peerage listen --listen /ip6/::1/udp/0/quic-v1  over QUIC
  peerage listen --listen /unix/run/me/peerage     for processes of this machine
  peerage listen --listen /ip6/::/tcp/4001 --tree with the actors at work
  peerage listen --mdns                           and say who else is on this machine
  peerage listen --metrics 9100                   and curl http://127.0.0.1:9100/metrics elsewhere";

const SERVE_EXAMPLES: &str = "\
Examples:
  peerage serve                                      then ping, or identify, the address that it prints
  peerage serve --identity node.key --listen /ip4/0.0.0.0/tcp/4001
                                                     at the same address with the same peer id in every run";

const PING_EXAMPLES: &str = "\
Examples:
  peerage ping /ip4/192.0.2.1/tcp/4001                           whoever is there
  peerage ping /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW... -c 0      only that peer, until Ctrl-C
  peerage ping /ip4/192.0.2.1/tcp/4001 -c 100 -i 0.1 --json      for a program to read";

const PERF_EXAMPLES: &str = "\
Examples:
  peerage perf /ip4/192.0.2.1/tcp/4001                              100 MiB each way
  peerage perf /ip4/192.0.2.1/tcp/4001 --upload 1GiB --download 0   one way only

The peer has to serve /perf/1.0.0; `peerage serve` does.";

const DIAL_EXAMPLES: &str = "\
Examples:
  peerage dial /ip4/192.0.2.1/tcp/4001                   who is there?
  peerage dial /dns/example.com/tcp/4001 --explain       what was tried, when, and how far it came
  peerage dial /dnsaddr/bootstrap.libp2p.io --json       the same for a program to read";

const IDENTIFY_EXAMPLES: &str = "\
Examples:
  peerage identify /ip4/192.0.2.1/tcp/4001";

const CHAT_ABOUT: &str = "\
Chat, in a room or over direct streams. On a terminal it shows a screen: what is said, who is there, and
a line to type in. Piped, or with --plain, it reads and prints plain lines.

Without ADDR it waits, and prints the line to paste where somebody else wants to join.
With ADDR it joins that participant, who introduces the others to it: lines go directly
to each of them, and nobody relays. An introduction that fails is reported; those two do
not hear each other then.

With --room, what is said goes from neighbour to neighbour (gossipsub), and nobody has to
be connected with everybody. Others of the room are found by multicast DNS on this machine,
with --lan in the private networks that it is in; ADDR names one where that does not reach.
/msg NAME TEXT says something to one alone.

/send NAME FILE offers a file to one participant, who is asked, and says /accept or
/decline (with a number, if there are several) within two minutes. /cancel stops a file on
either side, /files lists all. What is accepted comes into the folder of --downloads,
peerage-downloads in the current directory: with a number in its name rather than over
another file, and only if its SHA-256 is what was announced. With --json, file_offer,
file_progress, file_done and file_failed tell of it (unconfirmed: all was sent, and may have
arrived); file_not_sent and file_command_failed, of what was typed and could not be done.
Piped, or with --json, it exits with 1 if a file was not sent. /who tells who is there, and
// begins a line with a slash.

Lines that are typed before anybody is there are kept for whoever joins first. Ctrl-D (the
end of the input) leaves once all lines are delivered; Ctrl-C leaves even if nobody came to
hear them. A participant that is more than 5 seconds behind is dropped.";

const CHAT_EXAMPLES: &str = "\
Examples:
  peerage chat --room tea --name ada                           in the room tea, with whoever is found
  peerage chat --room tea --lan                                the same, with those of the local network
  peerage chat --name ada                                      wait for others
  peerage chat /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW...        join ada
  echo '/send ada photo.jpg' | peerage chat /ip4/192.0.2.1/tcp/40123
                                                               send one file, and leave
  echo 'dinner is ready' | peerage chat /ip4/192.0.2.1/tcp/40123
                                                               say one thing, and leave";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_options_go_before_and_after_the_command() {
        for line in [
            "peerage --json listen --listen /ip4/127.0.0.1/tcp/0 --listen /ip6/::1/tcp/0",
            "peerage --listen /ip4/127.0.0.1/tcp/0 --listen /ip6/::1/tcp/0 listen --json",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.common.json);
            assert_eq!(cli.common.listen.len(), 2);
        }
    }

    #[test]
    fn bytes_are_read_and_written_as_people_do() {
        for (text, bytes) in [("0", 0), ("1000", 1000), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("7B", 7)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for wrong in ["", "-1", "KiB", "1.5MiB", "20000000000GiB", "1 kB"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(3 << 19).to_string(), "1.5 MiB");
    }

    #[test]
    fn seconds_are_not_negative_and_not_endless() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["-1", "inf", "NaN", "1e300", "soon", "86401"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
