//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use peerage::{
    Multiaddr,
    identity::KeyType,
    transport::upgrade::{MuxerKind, Security},
};

use crate::address;

/// A libp2p node on supervised actors: listen, ping, identify, chat.
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
    /// Listen on ADDR, a multiaddr; repeatable. Port 0 lets the system choose
    #[arg(long, global = true, value_name = "ADDR", value_parser = address::parse)]
    pub(crate) listen: Vec<Multiaddr>,
    /// Listen on all interfaces, so that other machines reach this node
    #[arg(long, global = true, conflicts_with = "listen")]
    pub(crate) lan: bool,
    /// Offer and accept only this security protocol: noise or tls, repeatable, the preferred first [default: both];
    /// or plaintext, alone, for tests: it hides and proves nothing
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) security: Vec<Security>,
    /// Offer and accept only this muxer: yamux; repeatable, the preferred first [default: all]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) muxer: Vec<MuxerKind>,
    /// Print one JSON object a line on standard output. Logs stay on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// Whether anything was said about how to connect.
    pub(crate) fn says_how_to_connect(&self) -> bool {
        self.lan || !(self.listen.is_empty() && self.security.is_empty() && self.muxer.is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the peer id
    #[command(after_help = ID_EXAMPLES)]
    Id(Id),
    /// Listen, and show who connects
    #[command(after_help = LISTEN_EXAMPLES)]
    Listen(Listen),
    /// Listen, echo under /peerage/echo/1, and answer pings
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Listen),
    /// Measure the round-trip time to a peer
    ///
    /// Exits with 0 if every ping was answered.
    #[command(after_help = PING_EXAMPLES)]
    Ping(Ping),
    /// Print what a peer says of itself
    #[command(after_help = IDENTIFY_EXAMPLES)]
    Identify(Dial),
    /// Chat: plain lines over direct streams
    #[command(after_help = CHAT_EXAMPLES, long_about = CHAT_ABOUT)]
    Chat(Chat),
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
}

#[derive(Args, Debug)]
pub(crate) struct Dial {
    /// Whom to dial: /ip4/127.0.0.1/tcp/4001/p2p/12D3KooW... Without /p2p, whoever answers is fine
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    pub(crate) address: Multiaddr,
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
pub(crate) struct Chat {
    /// A participant to join; without one, wait for others to join
    #[arg(value_name = "ADDR", value_parser = address::parse)]
    pub(crate) address: Option<Multiaddr>,
    /// What the others see as your name [default: the end of your peer id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
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

const LISTEN_EXAMPLES: &str = "\
Examples:
  peerage listen                                  on loopback, on a port of the system's choice
  peerage listen --lan --json                     for other machines, and for a program to read
  peerage listen --listen /ip6/::/tcp/4001 --tree with the actors at work";

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

const IDENTIFY_EXAMPLES: &str = "\
Examples:
  peerage identify /ip4/192.0.2.1/tcp/4001";

const CHAT_ABOUT: &str = "\
Chat: plain lines over direct streams.

Without ADDR it waits, and prints the line to paste where somebody else wants to join.
With ADDR it joins that participant, who introduces the others to it: lines go directly
to each of them, and nobody relays. An introduction that fails is reported; those two do
not hear each other then.

Lines that are typed before anybody is there are kept for whoever joins first. Ctrl-D (the
end of the input) leaves once all lines are delivered; Ctrl-C leaves even if nobody came to
hear them. A participant that is more than 5 seconds behind is dropped.";

const CHAT_EXAMPLES: &str = "\
Examples:
  peerage chat --name ada                                      wait for others
  peerage chat /ip4/127.0.0.1/tcp/40123/p2p/12D3KooW...        join ada
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
    fn seconds_are_not_negative_and_not_endless() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["-1", "inf", "NaN", "1e300", "soon", "86401"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
