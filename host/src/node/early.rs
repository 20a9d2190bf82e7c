//! What is to be sent first, on its way ahead of a handshake.
//!
//! Whoever opens a stream to a peer that is not connected puts it here; the dial's first attempt that can carry it takes
//! it along, and brings back the stream that it became. In between there are the dialer and the host, which need not
//! know of it: if it is not carried, it is sent as ever.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use peerage_core::{PeerId, ProtocolId, multistream};
use peerage_muxer as muxer;
use peerage_transport::{
    EarlyData,
    select::{FIRST_FLIGHT, Optimistic},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{First, Inner, OpenOptions};
use crate::{
    ConnectionId, Stream,
    conn::{Announced, NEGOTIATION_TIMEOUT},
    limits::{Direction, StreamLease},
};

/// Offers that wait for a dial at once, one for each peer; what comes beyond that is sent after the handshake.
pub(crate) const MAX_OFFERS: usize = 256;

/// The longest that is offered, the proposal of the protocol not counted.
pub(crate) const MAX_EARLY: usize = FIRST_FLIGHT;

/// What waits for a dial.
#[derive(Default)]
pub(crate) struct Offers(Mutex<BTreeMap<PeerId, Offer>>);

/// What an attempt may take along.
pub(crate) struct Offer {
    pub(crate) data: EarlyData,
    /// Where it brings what it became.
    pub(crate) reply: oneshot::Sender<Carried>,
}

/// A stream on which the offer was sent, and taken by the peer.
pub(crate) struct Carried {
    pub(crate) connection: ConnectionId,
    pub(crate) stream: muxer::Stream,
}

impl Offers {
    /// `None` if there is one for the peer, or there are too many.
    fn make(&self, peer: PeerId, data: EarlyData) -> Option<oneshot::Receiver<Carried>> {
        let mut offers = self.lock();
        offers.retain(|_, offer| !offer.reply.is_closed());
        if offers.len() >= MAX_OFFERS || offers.contains_key(&peer) {
            return None;
        }
        let (reply, carried) = oneshot::channel();
        offers.insert(peer, Offer { data, reply });
        Some(carried)
    }

    /// For one attempt: nobody else gets it.
    pub(crate) fn take(&self, peer: PeerId) -> Option<Offer> {
        self.lock().remove(&peer).filter(|offer| !offer.reply.is_closed())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PeerId, Offer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An offer of whoever opens a stream.
pub(super) struct Offered {
    carried: oneshot::Receiver<Carried>,
    protocol: ProtocolId,
    lease: StreamLease,
}

/// What an offer became.
pub(super) enum Early {
    /// A stream, on which it was sent.
    Opened(Box<Stream>),
    /// Nothing: it was sent to nobody, or by a connection that is gone.
    NotCarried,
    /// The peer has it, and does not speak the protocol, or the stream broke.
    NotTaken,
}

impl Inner {
    /// Offers the first bytes of a stream to the dial that is to come, if they may be sent ahead of a handshake, and if there is
    /// somebody who takes them so.
    pub(super) fn offer(&self, peer: PeerId, options: &OpenOptions) -> Option<Offered> {
        let First { bytes, end, replay_safe } = options.first.as_ref()?;
        let fits = *replay_safe && bytes.len() <= MAX_EARLY;
        // A peer that refuses the protocol must not take them for a proposal.
        let unmistakable = multistream::breaks(bytes) || *end && multistream::breaks_at_its_end(bytes);
        if !fits || !unmistakable || self.transport(|transport| transport.may_be_early(peer)).is_none() {
            return None;
        }
        let announced = Announced::before(self.known.names(peer));
        let protocol = options.optimism.hopes_for(&announced, &options.protocols, &self.known)?.0;
        let mut data = multistream::Dialer::new(vec![protocol.clone()]).ok()?.poll_transmit()?;
        data.extend_from_slice(bytes);
        let lease = self.ledger.outbound_stream(peer, &protocol).ok()?;
        let carried = self.offers.make(peer, EarlyData::new(data, *end))?;
        Some(Offered { carried, protocol, lease })
    }

    /// What the offer became, once the peer has agreed on the protocol, or not. It has until `deadline`.
    pub(super) async fn carried(
        &self,
        Offered { mut carried, protocol, lease }: Offered,
        deadline: Instant,
    ) -> Early {
        let Ok(Carried { connection, stream }) = carried.try_recv() else { return Early::NotCarried };
        // It is not there if the dial chose another one, and closed this.
        let Some(handle) = self.directory.connection(connection) else { return Early::NotCarried };
        let Ok(mut stream) = Optimistic::proposed(stream, protocol.clone()) else { return Early::NotCarried };
        let in_use = handle.activity.stream(Direction::Outbound);
        let wait = Instant::now().checked_add(NEGOTIATION_TIMEOUT).map_or(deadline, |at| at.min(deadline));
        match timeout_at(wait, stream.agreed_on()).await {
            Ok(Ok(())) => Early::Opened(Box::new(Stream::new(stream, protocol, &handle, in_use, lease))),
            Ok(Err(error)) => {
                tracing::debug!(%connection, %protocol, %error, "what was sent early was not taken");
                Early::NotTaken
            }
            Err(_) => Early::NotTaken,
        }
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;

    fn peer(n: usize) -> PeerId {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        Keypair::from_ed25519_seed(seed).peer_id()
    }

    fn data() -> EarlyData {
        EarlyData::new(b"first".to_vec(), false)
    }

    #[test]
    fn one_for_each_peer_taken_once_and_gone_with_who_made_it() {
        let offers = Offers::default();
        let waiting = offers.make(peer(1), data()).expect("the first");
        assert!(offers.make(peer(1), data()).is_none());
        assert!(offers.take(peer(2)).is_none());
        assert!(offers.take(peer(1)).is_some());
        assert!(offers.take(peer(1)).is_none());
        drop(waiting);
        drop(offers.make(peer(1), data()).expect("the place is free"));
        assert!(offers.take(peer(1)).is_none(), "nobody waits for it");
        assert!(offers.make(peer(1), data()).is_some());
    }

    #[test]
    fn so_many_wait_at_once() {
        let offers = Offers::default();
        let mut waiting: Vec<_> = (0..MAX_OFFERS).map(|n| offers.make(peer(n), data())).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(offers.make(peer(MAX_OFFERS), data()).is_none());
        waiting.pop();
        assert!(offers.make(peer(MAX_OFFERS), data()).is_some());
    }
}
