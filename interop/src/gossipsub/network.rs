//! Who the nodes are, and where.

use std::collections::BTreeMap;

use peerage::{Keypair, Multiaddr};
use tokio::net::lookup_host;

use super::Error;

/// Where every node listens that is found by its name.
const PORT: u16 = 9000;

/// Where the nodes are.
pub(super) enum Network {
    /// At the first IPv4 address of `node<N>`.
    ByName,
    /// Where a file says.
    Listed(BTreeMap<u32, Multiaddr>),
}

impl Network {
    /// Reads a number and a multiaddr from each line; empty lines are passed over.
    pub(super) fn read(text: &str) -> Result<Self, Error> {
        let mut listed = BTreeMap::new();
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let wrong = |why: String| Error::Hosts { line: at.saturating_add(1), why };
            let (node, address) =
                line.trim().split_once(' ').ok_or_else(|| wrong("a number and an address".to_owned()))?;
            let node = node.parse::<u32>().map_err(|error| wrong(format!("{node:?}: {error}")))?;
            let address: Multiaddr = address.trim().parse().map_err(|error| wrong(format!("{error}")))?;
            if listed.insert(node, address).is_some() {
                return Err(wrong(format!("node {node} is there twice")));
            }
        }
        Ok(Self::Listed(listed))
    }

    /// Where this node listens.
    pub(super) fn listen_address(&self, me: u32) -> Result<Multiaddr, Error> {
        match self {
            Self::ByName => {
                let text = format!("/ip4/0.0.0.0/tcp/{PORT}");
                text.parse().map_err(|error| Error::Where { node: me, why: format!("{error}") })
            }
            Self::Listed(listed) => at(listed, me),
        }
    }

    /// Where another one is dialed, with its peer id.
    pub(super) async fn address_of(&self, node: u32) -> Result<Multiaddr, Error> {
        let wrong = |why: String| Error::Where { node, why };
        let address = match self {
            Self::ByName => {
                let name = format!("node{node}");
                let found = lookup_host((name.as_str(), PORT)).await;
                let mut found = found.map_err(|error| wrong(error.to_string()))?;
                let ip = found.find(|address| address.is_ipv4()).map(|address| address.ip());
                let ip = ip.ok_or_else(|| wrong(format!("{name} has no IPv4 address")))?;
                format!("/ip4/{ip}/tcp/{PORT}")
            }
            Self::Listed(listed) => at(listed, node)?.to_string(),
        };
        let peer = keypair(node).peer_id();
        format!("{address}/p2p/{peer}").parse().map_err(|error| wrong(format!("{error}")))
    }
}

fn at(listed: &BTreeMap<u32, Multiaddr>, node: u32) -> Result<Multiaddr, Error> {
    let found = listed.get(&node).cloned();
    found.ok_or_else(|| Error::Where { node, why: "the file of hosts does not say".to_owned() })
}

/// The key of a node: Ed25519, its seed the number in little-endian.
pub(super) fn keypair(node: u32) -> Keypair {
    let mut seed = [0; 32];
    for (place, byte) in seed.iter_mut().zip(node.to_le_bytes()) {
        *place = byte;
    }
    Keypair::from_ed25519_seed(seed)
}

/// Which node this is by the name of its host. The system is asked, not `/proc`: a simulator answers in its place.
pub(super) fn node_of_this_host() -> Result<u32, Error> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    node_of(&name).ok_or(Error::WhichNode(name))
}

/// The number after `node`, as far as there are digits.
fn node_of(host: &str) -> Option<u32> {
    let rest = host.strip_prefix("node")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(Some(rest), |end| rest.get(..end))?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_host_says_which_node_it_is() {
        for (name, node) in [
            ("node0", Some(0)),
            ("node31", Some(31)),
            ("node7.local", Some(7)),
            ("node", None),
            ("laptop", None),
        ] {
            assert_eq!(node_of(name), node, "{name}");
        }
        assert_eq!(node_of("node4294967296"), None);
    }

    /// As go's program has them, whose seed has eight bytes of the number and not four.
    #[test]
    fn keys_are_the_number_in_little_endian() {
        for (node, peer) in [
            (1, "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"),
            (258, "12D3KooWJy1LeYPZcF3D2K34D377ktLWAygKqkSoBtSg3dTyipvP"),
        ] {
            assert_eq!(keypair(node).peer_id().to_string(), peer);
        }
    }

    #[tokio::test]
    async fn a_file_says_where_nodes_are() {
        let network = Network::read("0 /ip4/127.0.0.1/tcp/9000\n\n 3  /ip4/127.0.0.1/tcp/9003 \n").unwrap();
        assert_eq!(network.listen_address(0).unwrap().to_string(), "/ip4/127.0.0.1/tcp/9000");
        let third = network.address_of(3).await.unwrap().to_string();
        assert_eq!(third, format!("/ip4/127.0.0.1/tcp/9003/p2p/{}", keypair(3).peer_id()));
        let missing = network.address_of(1).await.unwrap_err();
        assert!(missing.to_string().contains("node 1"), "{missing}");
        for (text, line) in
            [("0", "line 1"), ("0 /ip4/127.0.0.1/tcp/1\nx /ip4/::", "line 2"), ("\n0 tcp", "line 2")]
        {
            let error = Network::read(text).err().unwrap().to_string();
            assert!(error.contains(line), "{error}");
        }
        assert!(Network::read("1 /ip4/127.0.0.1/tcp/1\n1 /ip4/127.0.0.1/tcp/2").is_err());
    }

    #[test]
    fn without_a_file_the_suite_s_port_is_listened_on() {
        assert_eq!(Network::ByName.listen_address(5).unwrap().to_string(), "/ip4/0.0.0.0/tcp/9000");
    }
}
