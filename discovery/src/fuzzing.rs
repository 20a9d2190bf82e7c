//! For the fuzz targets: what is private to this crate.
#![allow(clippy::panic, clippy::expect_used, reason = "that is what the fuzzer looks for")]

use std::time::Duration;

use crate::mdns::{
    codec::{self, Instance, Message, Names},
    vectors,
};

/// A message of multicast DNS: what is read of it is within its limits, and what is written of that is read as the same.
pub fn mdns(bytes: &[u8]) {
    let names = Names::new(None).expect("they are fixed");
    match names.decode(bytes) {
        Ok(Message::Query(query)) => {
            assert!(query.questions.len().saturating_add(query.known.len()) <= codec::MAX_ENTRIES);
        }
        Ok(Message::Response(response)) => {
            let count = |announced: &codec::Announced| announced.addresses.len();
            assert!(response.announced.iter().map(count).sum::<usize>() <= codec::MAX_FOUND_ADDRESSES);
            assert!(response.gone.len() <= codec::MAX_ENTRIES);
            for announced in response.announced {
                let attribute = |address: &peerage_core::Multiaddr| {
                    Some(format!("dnsaddr={}", address.with_peer(announced.peer).ok()?))
                };
                let attributes: Vec<String> = announced.addresses.iter().filter_map(attribute).collect();
                let short = attributes.iter().all(|attribute| attribute.len() <= codec::MAX_TXT);
                // Others may write it shorter than this node does.
                if short && attributes.len() == announced.addresses.len() {
                    again(&names, &announced, attributes);
                }
            }
        }
        Err(_) => {}
    }
}

fn again(names: &Names, announced: &codec::Announced, attributes: Vec<String>) {
    let name = names.service.child("a").expect("a short label");
    let host = names.local.child("a").expect("a short label");
    let instance = Instance { name, host, port: 1, ips: Vec::new(), attributes };
    let written = codec::announcement(names, &instance, Duration::from_secs(1));
    if written.len() > codec::MAX_MESSAGE {
        return;
    }
    match names.decode(&written) {
        Ok(Message::Response(read)) => {
            assert_eq!(read.announced.first().map(|read| &read.addresses), Some(&announced.addresses));
        }
        other => panic!("what was written is not read: {other:?}"),
    }
}

/// Messages of other implementations, and of this one.
pub fn mdns_seeds() -> Vec<Vec<u8>> {
    let names = Names::new(None).expect("they are fixed");
    let seen = vectors::SEEN.iter().map(vectors::Seen::bytes);
    let own = [codec::query(&names, 7), codec::services(&names, Duration::from_secs(120))];
    seen.chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_with_one_byte_changed() {
        for seed in mdns_seeds() {
            mdns(&seed);
            for at in 0..seed.len() {
                for change in [1, 0x80, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] ^= change;
                    mdns(&changed);
                }
            }
        }
    }
}
