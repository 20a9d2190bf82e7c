//! The choice of a muxer by ALPN (inlined muxer negotiation, "Multiplexer Negotiation over TLS").

use peerage_core::ProtocolId;

/// Always the last of a list; chosen, it leaves the choice of a muxer to multistream-select.
const LIBP2P: &[u8] = b"libp2p";

/// What a client names.
pub(super) fn offer(muxers: &[ProtocolId]) -> Vec<Vec<u8>> {
    let muxers = muxers.iter().map(|muxer| muxer.as_str().as_bytes());
    muxers.chain([LIBP2P]).map(<[u8]>::to_vec).collect()
}

/// What a server may answer: "the first protocol from the list [of the client] that it supports". rustls would go by the
/// server's list, and is therefore given no choice. Without anything in common it is left to rustls to refuse.
pub(super) fn answer<'a>(named: impl Iterator<Item = &'a [u8]>, muxers: &[ProtocolId]) -> Vec<Vec<u8>> {
    let ours = offer(muxers);
    for name in named {
        if let Some(common) = ours.iter().find(|one| *one == name) {
            return vec![common.clone()];
        }
    }
    ours
}

/// The muxer that was agreed on. `None` if it is open, also when the client named nothing at all.
pub(super) fn agreed(name: Option<&[u8]>, muxers: &[ProtocolId]) -> Option<ProtocolId> {
    muxers.iter().find(|muxer| Some(muxer.as_str().as_bytes()) == name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> Vec<ProtocolId> {
        names.iter().map(|name| ProtocolId::new(*name).unwrap()).collect()
    }

    #[test]
    fn the_clients_order_decides() {
        let chosen = |named: &[&str], ours: &[&str]| {
            let named = named.iter().map(|name| name.as_bytes());
            answer(named, &ids(ours))
                .into_iter()
                .map(|name| String::from_utf8(name).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(chosen(&["/y", "/m", "libp2p"], &["/m", "/y"]), ["/y"]);
        assert_eq!(chosen(&["/z", "/m", "libp2p"], &["/y", "/m"]), ["/m"]);
        assert_eq!(chosen(&["/z", "libp2p"], &["/y"]), ["libp2p"]);
        assert_eq!(chosen(&["libp2p", "/y"], &["/y"]), ["libp2p"]);
        assert_eq!(chosen(&["libp2p"], &[]), ["libp2p"]);
        assert_eq!(chosen(&["h2"], &["/y"]), ["/y", "libp2p"], "of which the client has none");
    }

    #[test]
    fn a_client_names_its_muxers_and_libp2p_last() {
        assert_eq!(offer(&ids(&["/y", "/m"])), [b"/y".to_vec(), b"/m".to_vec(), LIBP2P.to_vec()]);
        assert_eq!(offer(&[]), [LIBP2P.to_vec()]);
    }

    #[test]
    fn only_a_muxer_settles_it() {
        let muxers = ids(&["/y"]);
        assert_eq!(agreed(Some(b"/y"), &muxers), Some(muxers[0].clone()));
        assert_eq!(agreed(Some(LIBP2P), &muxers), None);
        assert_eq!(agreed(None, &muxers), None);
    }
}
