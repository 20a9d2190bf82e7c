use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use peerage_security::tls::KeyExchange;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::{flight::Flight, window};

/// A peer from which nothing came for so long is given up: 30 s, as in go-libp2p. Of two sides the shorter time counts.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// After so long without a packet the peer is asked for a sign of life: 12 s, so that two may be lost.
pub const KEEP_ALIVE: Duration = Duration::from_secs(12);

/// Streams that the peer may have open on one connection, accepted or not. For one more it has to wait (RFC 9000, section 4.6);
/// one that does not wait breaks the protocol, and its connection ends.
///
/// quinn keeps places for all of them from the beginning, in two hash maps in which this side's streams have theirs, too. With
/// up to 448 in all these take 21 KiB, and with one more twice as much.
pub const MAX_STREAMS: u32 = 384;

/// The longest packet unless longer ones are asked for, in bytes: what fits into a frame of Ethernet over IPv6.
pub const MAX_PACKET: u16 = 1452;

/// The longest packet that may be asked for. Ten are handed to the system at once, which takes 65,507 bytes.
pub const MAX_LARGE_PACKET: u16 = 6500;

/// Packets that are handed to the system at once, by quinn.
const BATCH: usize = 10;

/// What this transport may do. The defaults suit a node on the internet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Packets may be as long, in bytes of UDP payload, where the network carries them; MTU discovery finds that out.
    /// At most [`MAX_LARGE_PACKET`], at least [`MAX_PACKET`]. Longer ones cost less of the processor, in networks that have
    /// them: loopback, Ethernet with jumbo frames. A connection's buffers for them are taken from its budget. Default
    /// (`None`): [`MAX_LARGE_PACKET`] within this machine, [`MAX_PACKET`] everywhere else.
    pub max_packet: Option<u16>,
    /// How keys are agreed on. Default: the hybrid of X25519 and ML-KEM first.
    pub key_exchange: KeyExchange,
    /// Whether early data are sent to peers that take them, and taken from peers that send them. Sessions are resumed
    /// either way. Default: `true`.
    pub early_data: bool,
    /// Writes what happens on each connection into a file of its own in this directory
    /// ([qlog](https://datatracker.ietf.org/doc/draft-ietf-quic-qlog-main-schema/)), for whoever looks for a fault: it
    /// costs time, and is not bounded. Default: `None`.
    pub qlog: Option<PathBuf>,
    /// How long a silent peer is kept. Default [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// When a silent peer is asked for a sign of life. Default [`KEEP_ALIVE`].
    pub keep_alive: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_packet: None,
            key_exchange: KeyExchange::default(),
            early_data: true,
            qlog: None,
            idle_timeout: IDLE_TIMEOUT,
            keep_alive: KEEP_ALIVE,
        }
    }
}

/// quinn tries the middle of what is left only if it is so far away, and else the upper end, if that is: more than half
/// of the way from [`MAX_PACKET`] to [`MAX_LARGE_PACKET`], and less than all of it.
const ONE_PROBE: u16 = 3000;

impl Config {
    fn packet(&self, reach: Reach) -> u16 {
        let default = match reach {
            Reach::Machine => MAX_LARGE_PACKET,
            Reach::Network => MAX_PACKET,
        };
        self.max_packet.unwrap_or(default).clamp(MAX_PACKET, MAX_LARGE_PACKET)
    }

    /// What is told to peers as the longest that is taken: over IPv4 a packet may be a little longer.
    pub(super) fn largest_packet(&self, reach: Reach) -> u16 {
        self.packet(reach).max(1472)
    }

    /// Bytes that a connection takes from its budget from the beginning: its windows, and the packets that are being sent
    /// if they are long.
    pub(super) fn base_memory(&self, reach: Reach) -> usize {
        let windows = u64::from(window::RECEIVE_WINDOW).saturating_add(window::SEND_WINDOW.into());
        let longer = usize::from(self.packet(reach).saturating_sub(MAX_PACKET));
        usize::try_from(windows).unwrap_or(usize::MAX).saturating_add(longer.saturating_mul(BATCH))
    }

    pub(super) fn transport(&self, reach: Reach, flight: &Flight) -> TransportConfig {
        let mut transport = TransportConfig::default();
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.packet(reach));
        if reach == Reach::Machine {
            // Nothing is to be searched for where every size fits: the shorter one from the beginning, which all peers
            // take, and the longer one after a single probe. A probe is bytes of padding, which quinn reads one by one;
            // eight of them made a fifth of what a connection costs.
            transport.initial_mtu(MAX_PACKET);
            discovery.minimum_change(ONE_PROBE);
        }
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
            // libp2p knows neither unidirectional streams nor datagrams.
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            .stream_receive_window(VarInt::from_u32(window::STREAM_WINDOW))
            .receive_window(VarInt::from_u32(window::RECEIVE_WINDOW))
            .send_window(window::usual(window::SEND_WINDOW))
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .keep_alive_interval(Some(self.keep_alive))
            .mtu_discovery_config(Some(discovery))
            .congestion_controller_factory(Arc::new(flight.clone()));
        transport
    }
}

/// How far the packets of a socket go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its address is on loopback, and so is every peer's.
    Machine,
    /// Wherever the routes lead.
    Network,
}

impl Reach {
    pub(super) fn of(local: IpAddr) -> Self {
        if local.is_loopback() { Self::Machine } else { Self::Network }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_long_as_is_asked_for_within_limits() {
        let packets = |max_packet, reach| {
            let config = Config { max_packet, ..Config::default() };
            (config.packet(reach), config.largest_packet(reach))
        };
        for reach in [Reach::Machine, Reach::Network] {
            assert_eq!(packets(Some(0), reach), (MAX_PACKET, 1472));
            assert_eq!(packets(Some(MAX_PACKET), reach), (MAX_PACKET, 1472));
            assert_eq!(packets(Some(MAX_LARGE_PACKET), reach), (MAX_LARGE_PACKET, MAX_LARGE_PACKET));
            assert_eq!(packets(Some(MAX_LARGE_PACKET + 1), reach).0, MAX_LARGE_PACKET);
        }
        assert_eq!(packets(None, Reach::Network), (MAX_PACKET, 1472));
        assert_eq!(packets(None, Reach::Machine), (MAX_LARGE_PACKET, MAX_LARGE_PACKET));
        assert!(usize::from(MAX_LARGE_PACKET) * BATCH <= 65_507);
    }

    #[test]
    fn within_the_machine_are_loopback_addresses_alone() {
        let reach = |ip: &str| Reach::of(ip.parse().unwrap());
        for ip in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(reach(ip), Reach::Machine, "{ip}");
        }
        for ip in ["0.0.0.0", "::", "10.0.0.1", "2001:db8::1"] {
            assert_eq!(reach(ip), Reach::Network, "{ip}");
        }
    }

    #[test]
    fn long_packets_cost_memory() {
        let base = |reach| Config::default().base_memory(reach);
        assert_eq!(base(Reach::Network), 384 * 1024);
        assert_eq!(base(Reach::Machine) - base(Reach::Network), 10 * (6500 - 1452));
    }
}
