use peerage_core::Multiaddr;

use crate::addresses::is_path;

/// Which of the addresses that a peer names for itself are taken to be where it can be reached: only those of networks
/// that the connection with it shows both to be in. A peer of the internet that names loopback or a private network
/// leads this node into its own; at best by mistake. go-libp2p filters in the same way.
/// A path is never among them: it is on this machine, whoever names it.
pub(super) fn credible(addresses: &[Multiaddr], remote: Option<&Multiaddr>) -> Vec<Multiaddr> {
    let reach = |address: &Multiaddr| match address {
        // Names, and what is not of the internet at all.
        _ if address.ip().is_none() => 3,
        _ if address.is_loopback() => 0,
        _ if address.is_private() => 1,
        _ => 2,
    };
    let shown = remote.map_or(2, reach);
    // Without an IP address the connection is one inside this process, in a simulation say: that shows everything.
    let shown = if shown == 3 { 0 } else { shown };
    addresses.iter().filter(|address| !is_path(address) && reach(address) >= shown).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_believed_as_far_as_it_is_seen() {
        let all: Vec<Multiaddr> =
            ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/1", "/dns/h/tcp/1", "/unix/a"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect();
        for (remote, first) in [
            (Some("/ip6/::1/tcp/9"), 0),
            (Some("/memory/1"), 0),
            (Some("/unix/a"), 0),
            (Some("/ip4/192.168.0.1/tcp/9"), 1),
            (Some("/ip6/2a01:4f8::1/tcp/9"), 2),
            (None, 2),
        ] {
            let remote: Option<Multiaddr> = remote.map(|text| text.parse().unwrap());
            assert_eq!(credible(&all, remote.as_ref()), all[first..4], "{remote:?}");
        }
    }
}
