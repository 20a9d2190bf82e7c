//! Which address is next. Pure.
//!
//! Addresses are raced in lanes side by side: those near by, where an answer takes no time, and those of the internet.
//! In a lane one attempt follows another with a head start in between, and the families take turns, IPv6 first
//! (RFC 8305). Relayed addresses come last, because a relay's bandwidth is not spent while a direct way may do.

use std::{cmp::Reverse, net::IpAddr, time::Duration};

use peerage_core::{Multiaddr, multiaddr::Protocol};

use super::paths::Doubts;

/// How long the next attempt in the internet waits for the previous one to succeed or to fail (RFC 8305, section 5).
pub const HEAD_START: Duration = Duration::from_millis(250);
/// The same near by: on this machine, in private networks, inside the process.
pub const NEAR_HEAD_START: Duration = Duration::from_millis(30);
/// How long relayed addresses wait for the last direct attempt, or for the names that are being resolved.
pub const RELAY_HEAD_START: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Near,
    Internet,
    Relayed,
}

impl Lane {
    pub(super) const ALL: [Self; 3] = [Self::Near, Self::Internet, Self::Relayed];

    pub(super) fn of(address: &Multiaddr) -> Self {
        if address.is_relayed() {
            Self::Relayed
        } else if address.ip().is_none() || address.is_loopback() || address.is_private() {
            Self::Near
        } else {
            Self::Internet
        }
    }

    pub(super) fn head_start(self) -> Duration {
        match self {
            Self::Near => NEAR_HEAD_START,
            Self::Internet | Self::Relayed => HEAD_START,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    Six,
    Four,
    Other,
}

impl Family {
    pub(super) fn of(address: &Multiaddr) -> Self {
        match address.ip() {
            Some(IpAddr::V6(_)) => Self::Six,
            Some(IpAddr::V4(_)) => Self::Four,
            None => Self::Other,
        }
    }
}

/// How many round trips it takes until there is a connection, roughly: QUIC needs the fewest.
fn cost(address: &Multiaddr) -> u8 {
    let quic = |part| matches!(part, Protocol::QuicV1);
    let webrtc = |part| matches!(part, Protocol::Webrtc | Protocol::WebrtcDirect);
    match address {
        _ if address.iter().any(webrtc) => 2,
        _ if address.iter().any(quic) => 0,
        _ => 1,
    }
}

/// The place of the next of a lane's addresses, of which `worked` did so the last time, after one of family `last`.
/// Those that are in doubt come after all others.
pub(super) fn next<'a>(
    lane: impl IntoIterator<Item = &'a Multiaddr>,
    worked: Option<&Multiaddr>,
    last: Option<Family>,
    doubts: Doubts,
) -> Option<usize> {
    let rank = |address: &Multiaddr| {
        let family = Family::of(address);
        let doubted = doubts.about(address).is_some();
        (Reverse(worked == Some(address)), doubted, cost(address), last == Some(family), family)
    };
    // Of equals the one that came first.
    lane.into_iter().enumerate().min_by_key(|(_, address)| rank(address)).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn lanes() {
        for (text, lane) in [
            ("/ip4/8.8.8.8/tcp/1", Lane::Internet),
            ("/ip6/2a01:4f8::1/tcp/1", Lane::Internet),
            ("/ip4/192.0.2.1/tcp/1", Lane::Internet),
            ("/ip4/127.0.0.1/tcp/1", Lane::Near),
            ("/ip6/::1/tcp/1", Lane::Near),
            ("/ip4/192.168.1.1/tcp/1", Lane::Near),
            ("/ip6/fd00::1/udp/1/quic-v1", Lane::Near),
            ("/ip6zone/1/ip6/fe80::1/tcp/1", Lane::Near),
            ("/memory/1", Lane::Near),
            (
                "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWRm8J3iL796zPFi2EtGGtUJn58AG67gcqzMFHZnnsTzqD/p2p-circuit",
                Lane::Relayed,
            ),
        ] {
            assert_eq!(Lane::of(&addr(text)), lane, "{text}");
        }
    }

    /// The order in which addresses of one lane get their turns.
    fn order(addresses: &[&str], worked: Option<&str>) -> Vec<String> {
        order_in_doubt(addresses, worked, Doubts::default())
    }

    fn order_in_doubt(addresses: &[&str], worked: Option<&str>, doubts: Doubts) -> Vec<String> {
        let mut waiting: Vec<Multiaddr> = addresses.iter().map(|text| addr(text)).collect();
        let worked = worked.map(addr);
        let (mut order, mut last) = (Vec::new(), None);
        while let Some(place) = next(&waiting, worked.as_ref(), last, doubts) {
            let address = waiting.remove(place);
            last = Some(Family::of(&address));
            order.push(address.to_string());
        }
        order
    }

    #[test]
    fn families_take_turns_and_ip6_begins() {
        let all = [
            "/ip4/8.8.8.1/tcp/1",
            "/ip4/8.8.8.2/tcp/1",
            "/ip6/2a01::1/tcp/1",
            "/ip6/2a01::2/tcp/1",
            "/ip4/8.8.8.3/tcp/1",
        ];
        let expected = [all[2], all[0], all[3], all[1], all[4]];
        assert_eq!(order(&all, None), expected);
        assert_eq!(order(&all[..2], None), &all[..2], "otherwise as they came");
    }

    #[test]
    fn quic_is_before_tcp_and_webrtc_last() {
        let all = [
            "/ip6/2a01::1/udp/1/webrtc-direct",
            "/ip6/2a01::1/tcp/1",
            "/ip4/8.8.8.1/tcp/1/ws",
            "/ip4/8.8.8.1/udp/1/quic-v1",
            "/ip6/2a01::1/udp/1/quic-v1",
        ];
        assert_eq!(order(&all, None), [all[4], all[3], all[1], all[2], all[0]]);
    }

    #[test]
    fn what_worked_is_first() {
        let all = ["/ip6/2a01::1/udp/1/quic-v1", "/ip6/2a01::1/tcp/1", "/ip4/8.8.8.1/tcp/1"];
        assert_eq!(order(&all, Some(all[2])), [all[2], all[0], all[1]]);
        assert_eq!(order(&all, Some("/ip4/8.8.8.9/tcp/1")), [all[0], all[2], all[1]]);
    }

    #[test]
    fn what_is_in_doubt_is_last_unless_it_worked() {
        let all = ["/ip6/2a01::1/udp/1/quic-v1", "/ip6/2a01::1/tcp/1", "/ip4/8.8.8.1/tcp/1"];
        let udp = Doubts { udp: true, six: false };
        assert_eq!(order_in_doubt(&all, None, udp), [all[1], all[2], all[0]]);
        assert_eq!(order_in_doubt(&all, None, Doubts { udp: true, six: true }), [all[2], all[0], all[1]]);
        assert_eq!(order_in_doubt(&all, Some(all[0]), udp), [all[0], all[2], all[1]]);
        assert_eq!(order_in_doubt(&all[..1], None, udp), all[..1]);
    }

    #[test]
    fn nobody_is_next_of_none() {
        assert_eq!(next([], None, None, Doubts::default()), None);
    }
}
