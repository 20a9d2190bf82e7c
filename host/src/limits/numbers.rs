use std::time::Duration;

use super::{PrefixLimit, machine::Machine};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// The numbers of a node. They are those of go-libp2p's resource manager with 8 GB, rounded, where it has them.
///
/// ```
/// use peerage_host::limits::Limits;
///
/// let mut limits = Limits::default();
/// limits.connections_per_peer = 2;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Established connections that others opened. Default: 512.
    pub connections_inbound: usize,
    /// Established connections that this node opened. Default: 1024.
    pub connections_outbound: usize,
    /// Established connections in both directions. More than either of the two, so that neither side can starve the
    /// other. Default: 1280.
    pub connections_total: usize,
    /// Established connections to one peer, in both directions. Default: 8.
    pub connections_per_peer: usize,
    /// Incoming connections whose peer is not known yet. Default: 64.
    pub handshakes_inbound: usize,
    /// Outgoing connections whose peer has not proven itself yet. Default: 128.
    pub handshakes_outbound: usize,
    /// What incoming connections of one IPv4 prefix may use; each entry holds. Outgoing ones are this node's own choice
    /// and are not counted here. Default: of one address 8 connections, 8 handshakes and 128 MiB; new ones at most 16 at
    /// once and one in 5 s.
    pub ipv4: Vec<PrefixLimit>,
    /// The same for IPv6. Default: of a /56, which is about one customer, what one IPv4 address has; of a /48 64
    /// connections, 16 handshakes and 512 MiB; new ones at most 80 at once and one in 2 s.
    pub ipv6: Vec<PrefixLimit>,
    /// Whether this holds for loopback addresses, too. Default: no.
    pub limit_loopback: bool,
    /// Sockets of connections, from before their handshake on. Listeners and files are not counted: leave room.
    /// Default: 4096.
    pub file_descriptors: usize,
    /// Bytes of memory that connections and streams may take for what peers send and do not read. Default: 1 GiB.
    pub memory: usize,
    /// The part of it that connections may take whose peer is not known yet. Default: 128 MiB.
    pub memory_transient: usize,
    /// The part of it that one peer may take. Default: 64 MiB.
    pub memory_per_peer: usize,
    /// The part of it that one connection may take. Default: 32 MiB.
    pub memory_per_connection: usize,
    /// The part of it that the streams of one protocol may take by themselves. Default: 256 MiB.
    pub memory_per_protocol: usize,
    /// The part of it that one stream may take by itself. Default: 16 MiB.
    pub memory_per_stream: usize,
    /// Streams that others opened, over all connections. Default: 8192.
    pub streams_inbound: usize,
    /// Streams that this node opened, over all connections. Default: 16384.
    pub streams_outbound: usize,
    /// Streams that the peer opened on one connection. Default: 256.
    pub streams_inbound_per_connection: usize,
    /// Streams on one connection whose protocol is not agreed on yet: enough for all that an honest peer opens within a
    /// round trip, and half of what it may have. Default: 128.
    pub streams_negotiating_per_connection: usize,
    /// Streams that one peer opened, over all its connections. Default: 256.
    pub streams_inbound_per_peer: usize,
    /// Streams opened to one peer, over all its connections. Default: 512.
    pub streams_outbound_per_peer: usize,
    /// Streams that others opened for one protocol. Default: 2048.
    pub streams_inbound_per_protocol: usize,
    /// Streams that one peer opened for one protocol. Default: 128, which leaves room for a hundred at once.
    pub streams_inbound_per_protocol_and_peer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let host = PrefixLimit {
            connections: 8,
            handshakes: 8,
            memory: 128 * MIB,
            every: Duration::from_secs(5),
            burst: 16,
            ..PrefixLimit::new(32)
        };
        let site = PrefixLimit {
            connections: 64,
            handshakes: 16,
            memory: 512 * MIB,
            every: Duration::from_secs(2),
            burst: 80,
            ..PrefixLimit::new(48)
        };
        Self {
            connections_inbound: 512,
            connections_outbound: 1024,
            connections_total: 1280,
            connections_per_peer: 8,
            handshakes_inbound: 64,
            handshakes_outbound: 128,
            ipv4: vec![host],
            ipv6: vec![PrefixLimit { bits: 56, ..host }, site],
            limit_loopback: false,
            file_descriptors: 4096,
            memory: GIB,
            memory_transient: 128 * MIB,
            memory_per_peer: 64 * MIB,
            memory_per_connection: 32 * MIB,
            memory_per_protocol: 256 * MIB,
            memory_per_stream: 16 * MIB,
            streams_inbound: 8192,
            streams_outbound: 16_384,
            streams_inbound_per_connection: 256,
            streams_negotiating_per_connection: 128,
            streams_inbound_per_peer: 256,
            streams_outbound_per_peer: 512,
            streams_inbound_per_protocol: 2048,
            streams_inbound_per_protocol_and_peer: 128,
        }
    }
}

impl Limits {
    /// Numbers that grow with what the node may use: so many bytes of memory, and so many file descriptors. What holds
    /// for one peer, connection, protocol or address grows no further than the defaults.
    ///
    /// With 1 GiB: 128 inbound, 256 outbound, and 320 connections in all; 2048 and 4096 streams; 48 and 96 handshakes.
    /// A quarter of a GiB has a good half of that, and eight have four and a half times the connections.
    pub fn scaled(memory_bytes: usize, file_descriptors: usize) -> Self {
        let per_gib = |base: usize, more: usize| {
            let unit = GIB.checked_div(more).unwrap_or(GIB);
            base.saturating_add(memory_bytes.checked_div(unit).unwrap_or(0))
        };
        let default = Self::default();
        let part =
            |most: usize, divisor: usize| most.min(memory_bytes.checked_div(divisor).unwrap_or(memory_bytes));
        Self {
            connections_inbound: per_gib(64, 64),
            connections_outbound: per_gib(128, 128),
            connections_total: per_gib(160, 160),
            handshakes_inbound: per_gib(32, 16),
            handshakes_outbound: per_gib(64, 32),
            streams_inbound: per_gib(1024, 1024),
            streams_outbound: per_gib(2048, 2048),
            file_descriptors,
            memory: memory_bytes,
            memory_transient: part(usize::MAX, 8),
            memory_per_peer: part(default.memory_per_peer, 4),
            memory_per_connection: part(default.memory_per_connection, 8),
            memory_per_protocol: part(usize::MAX, 4),
            memory_per_stream: part(default.memory_per_stream, 16),
            ..default
        }
    }

    /// [`scaled`](Self::scaled) to an eighth of this machine's memory and half of the file descriptors that this
    /// process may open. Where the system does not say (on others than Linux), it is taken to have 8 GiB and 1024.
    ///
    /// The memory is that of the machine or of the control group, whichever is less.
    pub fn of_this_machine() -> Self {
        let (memory, files) = Machine::read().share();
        Self::scaled(memory, files)
    }

    /// The defaults, with no more memory and file descriptors than are [this machine's](Self::of_this_machine): what a
    /// node has that was told nothing else.
    pub(crate) fn default_here() -> Self {
        let (memory, files) = Machine::read().share();
        let default = Self::default();
        let file_descriptors = default.file_descriptors.min(files);
        let scaled = Self::scaled(default.memory.min(memory), file_descriptors);
        Self {
            file_descriptors,
            memory: scaled.memory,
            memory_transient: scaled.memory_transient,
            memory_per_peer: scaled.memory_per_peer,
            memory_per_connection: scaled.memory_per_connection,
            memory_per_protocol: scaled.memory_per_protocol,
            memory_per_stream: scaled.memory_per_stream,
            ..default
        }
    }

    /// What holds for the addresses of a family.
    pub(super) fn of_prefixes(&self, ip: std::net::IpAddr) -> &[PrefixLimit] {
        match ip.to_canonical() {
            ip if ip.is_loopback() && !self.limit_loopback => &[],
            std::net::IpAddr::V4(_) => &self.ipv4,
            std::net::IpAddr::V6(_) => &self.ipv6,
        }
    }
}

/// What one protocol allows for itself. It can only lower the node's [`Limits`], which hold beside it; by default it
/// does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLimits {
    /// Streams of this protocol that one peer may have open to this node.
    pub inbound_per_peer: usize,
    /// Streams of this protocol that all peers together may have open to this node.
    pub inbound_total: usize,
}

impl StreamLimits {
    /// Both numbers.
    pub const fn new(inbound_per_peer: usize, inbound_total: usize) -> Self {
        Self { inbound_per_peer, inbound_total }
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_grow_with_memory() {
        let one = Limits::scaled(GIB, 512);
        assert_eq!(
            (one.connections_inbound, one.connections_outbound, one.connections_total),
            (128, 256, 320)
        );
        assert_eq!((one.streams_inbound, one.streams_outbound), (2048, 4096));
        assert_eq!((one.handshakes_inbound, one.handshakes_outbound), (48, 96));
        assert_eq!((one.memory, one.file_descriptors), (GIB, 512));
        assert_eq!(
            (one.memory_transient, one.memory_per_peer, one.memory_per_connection, one.memory_per_stream),
            (128 * MIB, 64 * MIB, 32 * MIB, 16 * MIB)
        );
        let small = Limits::scaled(64 * MIB, 64);
        assert_eq!((small.memory_per_peer, small.memory_per_connection), (16 * MIB, 8 * MIB));
        assert_eq!(small.connections_inbound, 68);
        // The defaults are those of 7 GiB.
        let (seven, default) = (Limits::scaled(7 * GIB, 4096), Limits::default());
        assert_eq!(seven.connections_inbound, default.connections_inbound);
        assert_eq!(seven.connections_total, default.connections_total);
        assert_eq!(seven.streams_outbound, default.streams_outbound);
        assert!(Limits::scaled(usize::MAX, 1).memory_per_peer == default.memory_per_peer);
        assert_eq!(Limits::scaled(0, 0).memory_per_stream, 0);
    }

    #[test]
    fn the_default_is_never_more_than_the_machine_has() {
        let (here, default) = (Limits::default_here(), Limits::default());
        assert!(here.memory <= default.memory && here.file_descriptors <= default.file_descriptors);
        assert!(here.memory >= here.memory_per_peer);
        assert_eq!(here.connections_total, default.connections_total);
    }
}
