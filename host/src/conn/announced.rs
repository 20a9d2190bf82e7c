use std::sync::{Arc, PoisonError, RwLock};

use peerage_core::ProtocolId;

use crate::node::known::{Known, Names};

/// What the peer of a connection speaks, as far as this node knows: to open a stream for it, this node need not wait
/// until it agrees.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced(Arc<RwLock<Said>>);

#[derive(Debug, Default)]
struct Said {
    names: Option<Names>,
    /// Said on this connection, and not on an earlier one.
    here: bool,
}

/// How sure it is that a peer speaks a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sure {
    /// It said so on the same connection.
    Yes,
    /// It said so earlier, and may have been started anew since.
    Perhaps,
}

impl Announced {
    /// What it said on an earlier connection.
    pub(crate) fn before(names: Option<Names>) -> Self {
        Self(Arc::new(RwLock::new(Said { names, here: false })))
    }

    /// What it says now. The last word counts.
    pub(crate) fn set(&self, names: Names) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Said { names: Some(names), here: true };
    }

    /// The first of `protocols` that it speaks.
    pub(crate) fn first_of(&self, protocols: &[ProtocolId], known: &Known) -> Option<(ProtocolId, Sure)> {
        let said = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let names = said.names.as_ref()?;
        let speaks = |protocol: &&ProtocolId| names.binary_search(&known.hash(protocol)).is_ok();
        let sure = if said.here { Sure::Yes } else { Sure::Perhaps };
        protocols.iter().find(speaks).map(|protocol| (protocol.clone(), sure))
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    #[test]
    fn the_preferred_of_what_was_said_last() {
        let [a, b, c] = ["/a", "/b", "/c"].map(|name| ProtocolId::new(name).unwrap());
        let (known, peer) = (Known::default(), Keypair::from_ed25519_seed([1; 32]).peer_id());
        let all = [a.clone(), b.clone(), c.clone()];
        assert_eq!(Announced::before(None).first_of(&all, &known), None);
        known.speaks(peer, &[c.clone(), b.clone()]);
        let announced = Announced::before(known.names(peer));
        assert_eq!(announced.first_of(&all, &known), Some((b, Sure::Perhaps)));
        announced.clone().set(known.speaks(peer, std::slice::from_ref(&c)));
        assert_eq!(announced.first_of(&all, &known), Some((c, Sure::Yes)));
        assert_eq!(announced.first_of(&[a], &known), None);
    }
}
