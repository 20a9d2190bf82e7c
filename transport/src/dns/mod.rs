//! Names, to addresses: `/dns`, `/dns4`, `/dns6` and `/dnsaddr`.
//!
//! Spec: libp2p's [addressing](https://github.com/libp2p/specs/blob/master/addressing/README.md#ip-and-name-resolution).
//!
//! Resolution is above all transports. It makes other addresses of an address, with everything after the name kept:
//! `/dns4/example.com/tcp/443/tls/ws` becomes `/ip4/192.0.2.1/tcp/443/tls/ws`. What comes out may be a name again
//! (a `/dnsaddr` record may name one), so that whoever resolves bounds how deep it goes and how much it asks; here is
//! [`one step`](resolve). A name counts as one only at the beginning of an address, where everybody puts it.
//!
//! The [`Resolver`] is an object, so that programs and tests bring their own. [`System`] asks whom the operating system
//! asks.

mod name;
mod step;
mod system;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use futures::future::BoxFuture;
use peerage_security::Fault;

pub use name::{is_name, lookups};
pub use step::resolve;
pub use system::System;

/// The most answers to one question that are looked at; the others are as if they were not there.
pub const MAX_ANSWERS: usize = 100;
/// The most bytes of a `/dnsaddr` record; a longer one is as if it was not there. Addresses with two hashes of
/// certificates have some 300.
pub const MAX_RECORD_LEN: usize = 1024;
/// How long one question may take, and its caller's deadline may be sooner.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long IPv4 addresses of a `/dns` name wait for the IPv6 ones that are still asked for (RFC 8305, section 3).
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Who knows what a name stands for.
///
/// Answers come in the order in which they shall be tried. No deadline is given: whoever asks stops waiting. Futures
/// are polled on the runtime of the node, inside a tokio context.
pub trait Resolver: Send + Sync + 'static {
    /// The `A` records of a name.
    fn ip4(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>>;

    /// The `AAAA` records of a name.
    fn ip6(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>>;

    /// The `TXT` records of a name, each with its strings joined.
    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>>;
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsError {
    /// It is not a domain name.
    #[error("{0:?} is not a domain name")]
    BadName(String),
    /// There is no such name, or it has no such records.
    #[error("nothing is known of {0}")]
    NotFound(String),
    /// There are records, and none of them is an address to dial: of another peer, in IPv6's clothes, or malformed.
    #[error("none of {records} records of {name} is an address for this dial")]
    Unusable {
        /// The name.
        name: String,
        /// How many records there were.
        records: usize,
    },
    /// Nobody answered in time.
    #[error("no name server answered in time")]
    Timeout,
    /// This machine names no name server.
    #[error("this machine has no name server: {0}")]
    NoConfiguration(String),
    /// The name servers could not be asked, or their answers not be read.
    #[error("asking the name servers failed: {0}")]
    Failed(String),
}

impl DnsError {
    /// Who has to change something for the next attempt to succeed. Who is responsible for a name is the remote side.
    pub fn fault(&self) -> Fault {
        match self {
            Self::BadName(_) | Self::NotFound(_) | Self::Unusable { .. } => Fault::Remote,
            Self::NoConfiguration(_) => Fault::Local,
            Self::Timeout | Self::Failed(_) => Fault::Network,
        }
    }
}
