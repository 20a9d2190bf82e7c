//! What this node says of itself on one link. Pure.

use std::time::Duration;

use peerage_core::{Multiaddr, PeerId, engine::Rng};
use rand::RngExt as _;

use super::{
    codec::{self, Instance, MAX_SENT, MAX_TXT, Names},
    link::Link,
    name::Name,
};

/// Own addresses that are announced on a link, the most useful first.
pub const MAX_OWN_ADDRESSES: usize = 64;
/// A and AAAA records of this node in one message.
pub const MAX_IPS: usize = 8;
/// Characters of an instance's name, by chance; the spec wants 32 at least, a label has room for 63.
pub(crate) const INSTANCE: usize = 40;

/// The instances of this node on one link. One that does not fit into a message is several: go-libp2p keeps one TXT
/// record of a name, so that more of them, or more messages with the same name, would be lost there.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Names that were drawn. A set of addresses that shrinks and grows again has the same ones.
    labels: Vec<String>,
    instances: Vec<Instance>,
}

impl Own {
    pub(crate) fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// What the node's addresses are now, as far as the link reaches them. Returns what is no more, if anything changed.
    pub(crate) fn update(
        &mut self,
        names: &Names,
        link: &Link,
        peer: PeerId,
        addresses: &[Multiaddr],
        rng: &mut Rng,
    ) -> Option<Vec<Instance>> {
        let here: Vec<&Multiaddr> = addresses.iter().filter(|address| link.leads_to(address)).collect();
        let attributes = here.iter().filter_map(|address| attribute(address, peer)).take(MAX_OWN_ADDRESSES);
        let port = here.iter().find_map(|address| Some(address.socket_addr()?.addr.port())).unwrap_or(0);
        let ips: Vec<_> = link.own.iter().copied().take(MAX_IPS).collect();
        let mut new: Vec<Instance> = Vec::new();
        let mut room: usize = 0;
        for attribute in attributes {
            // With its length before it.
            let cost = attribute.len().saturating_add(1);
            if room < cost {
                let Some((name, host)) = self.names(new.len(), names, rng) else { break };
                let empty = Instance { name, host, port, ips: ips.clone(), attributes: Vec::new() };
                room = MAX_SENT.saturating_sub(codec::announcement(names, &empty, Duration::ZERO).len());
                new.push(empty);
            }
            let Some(last) = new.last_mut() else { break };
            last.attributes.push(attribute);
            room = room.saturating_sub(cost);
        }
        if new == self.instances {
            return None;
        }
        let kept = new.len();
        let old = std::mem::replace(&mut self.instances, new);
        Some(old.into_iter().skip(kept).collect())
    }

    /// Whether a name is one of this node's.
    pub(crate) fn has(&self, name: &Name) -> bool {
        self.instances.iter().any(|instance| instance.name == *name || instance.host == *name)
    }

    /// Names of the instance with that number.
    fn names(&mut self, number: usize, names: &Names, rng: &mut Rng) -> Option<(Name, Name)> {
        while self.labels.len() <= number {
            self.labels.push(label(rng));
        }
        let label = self.labels.get(number)?;
        Some((names.service.child(label)?, names.local.child(label)?))
    }
}

/// `dnsaddr=` and the address with the peer id, if there is room for it in an attribute.
fn attribute(address: &Multiaddr, peer: PeerId) -> Option<String> {
    let attribute = format!("dnsaddr={}", address.split_peer().0.with_peer(peer).ok()?);
    (attribute.len() <= MAX_TXT).then_some(attribute)
}

fn label(rng: &mut Rng) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |_| ALPHABET.get(rng.random_range(0..ALPHABET.len())).map_or('0', |byte| char::from(*byte));
    (0..INSTANCE).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use peerage_core::{Keypair, engine};

    use super::*;
    use crate::mdns::{
        codec::Message,
        link::tests::{home, loopback},
    };

    fn peer() -> PeerId {
        Keypair::from_ed25519_seed([1; 32]).peer_id()
    }

    fn names() -> Names {
        Names::new(None).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn many(count: usize) -> Vec<Multiaddr> {
        (0..count).map(|n| format!("/ip4/192.168.1.7/tcp/{}", 4000 + n).parse().unwrap()).collect()
    }

    fn updated(link: &Link, addresses: &[Multiaddr]) -> Own {
        let mut own = Own::default();
        assert!(own.update(&names(), link, peer(), addresses, &mut engine::rng(1)).is_some());
        own
    }

    /// Everything that goes out for these instances, as others read it.
    fn read(own: &Own) -> Vec<Multiaddr> {
        let mut all = Vec::new();
        for instance in own.instances() {
            let message = codec::announcement(&names(), instance, Duration::from_secs(120));
            assert!(message.len() <= MAX_SENT, "{}", message.len());
            let Ok(Message::Response(response)) = names().decode(&message) else { panic!("not read") };
            let [announced] = &response.announced[..] else { panic!("{response:?}") };
            assert_eq!((announced.peer, &announced.instance), (peer(), &instance.name));
            all.extend(announced.addresses.clone());
        }
        all
    }

    #[test]
    fn only_what_the_link_reaches_is_said_there() {
        let all = addresses(&[
            "/ip4/192.168.1.7/tcp/4001",
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/10.0.0.1/tcp/4001",
            "/ip4/8.8.8.8/udp/4001/quic-v1",
            "/ip6/2a01:db9::7/udp/4001/quic-v1",
            "/dns4/example.com/tcp/1",
            "/unix/tmp%2fsocket",
        ]);
        let home = read(&updated(&home(), &all));
        assert_eq!(home, addresses(&["/ip4/192.168.1.7/tcp/4001", "/ip6/2a01:db9::7/udp/4001/quic-v1"]));
        let here = read(&updated(&loopback(), &all));
        assert_eq!(here.len(), 4, "{here:?}");
        assert!(here.iter().any(Multiaddr::is_loopback));
    }

    #[test]
    fn many_addresses_are_several_instances_each_in_one_frame() {
        let own = updated(&home(), &many(MAX_OWN_ADDRESSES));
        assert_eq!(read(&own), many(MAX_OWN_ADDRESSES));
        assert!(own.instances().len() > 1);
        let own = updated(&home(), &many(MAX_OWN_ADDRESSES + 1));
        assert_eq!(read(&own), many(MAX_OWN_ADDRESSES), "the last one has no place");
    }

    #[test]
    fn an_address_that_is_too_long_for_an_attribute_is_left_out() {
        let with = |length: usize| {
            let path = "a".repeat(length);
            addresses(&[&format!("/ip4/192.168.1.7/tcp/1/http-path/{path}")])
        };
        let base = attribute(&with(1)[0], peer()).unwrap().len() - 1;
        assert_eq!(read(&updated(&home(), &with(MAX_TXT - base))).len(), 1);
        let mut own = Own::default();
        assert!(
            own.update(&names(), &home(), peer(), &with(MAX_TXT - base + 1), &mut engine::rng(1)).is_none()
        );
    }

    #[test]
    fn names_are_random_and_stay() {
        let (mut own, mut rng) = (Own::default(), engine::rng(1));
        let mut update = |addresses: &[Multiaddr]| own.update(&names(), &home(), peer(), addresses, &mut rng);
        assert_eq!(update(&many(40)), Some(Vec::new()));
        assert_eq!(update(&many(40)), None, "nothing changed");
        let gone = update(&many(1)).unwrap();
        assert!(!gone.is_empty());
        assert_eq!(update(&many(40)), Some(Vec::new()));
        assert!(gone.iter().all(|gone| own.instances().contains(gone)), "the same again");
        assert!(own.labels.iter().all(|label| label.len() >= 32 && label.len() < 64));
        let other = updated(&home(), &many(1));
        assert_eq!(other.labels[0], own.labels[0], "of the same seed");
        assert_ne!(own.labels[0], own.labels[1]);
    }
}
