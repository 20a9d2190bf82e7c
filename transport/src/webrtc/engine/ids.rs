//! Numbers for channels of this side.

use std::collections::BTreeSet;

use super::HANDSHAKE;
use crate::webrtc::session::{ChannelId, Side};

/// Numbers from here on are taken only when all below are: libdatachannel (and so js-libp2p in Node) agrees on this many
/// SCTP streams, and knows no others.
const PREFERRED: ChannelId = 1024;

/// The last number of all (RFC 8831, section 6.2: 65535 is none).
const LAST: ChannelId = 65534;

/// The dialer, the DTLS client, takes even numbers and the listener odd ones (RFC 8832, section 6). A number is used
/// again as late as possible, and not before the channel is closed on both sides: some implementations mix up a new
/// channel with the late end of an old one.
#[derive(Debug)]
pub(super) struct Ids {
    first: ChannelId,
    next: ChannelId,
    taken: BTreeSet<ChannelId>,
}

impl Ids {
    pub(super) fn new(side: Side) -> Self {
        let first = match side {
            Side::Dialer => HANDSHAKE.saturating_add(2),
            Side::Listener => HANDSHAKE.saturating_add(1),
        };
        Self { first, next: first, taken: BTreeSet::new() }
    }

    /// Whether channels with this number are opened by this side.
    pub(super) fn is_own(&self, id: ChannelId) -> bool {
        id % 2 == self.first % 2
    }

    pub(super) fn take(&mut self) -> Option<ChannelId> {
        let around =
            (self.next..PREFERRED).step_by(2).chain((self.first..self.next.min(PREFERRED)).step_by(2));
        let beyond = (PREFERRED.saturating_add(self.first % 2)..=LAST).step_by(2);
        let id = around.chain(beyond).find(|id| !self.taken.contains(id))?;
        self.taken.insert(id);
        if id < PREFERRED {
            self.next = id.saturating_add(2);
        }
        Some(id)
    }

    pub(super) fn give_back(&mut self, id: ChannelId) {
        self.taken.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_has_numbers_of_its_own() {
        let (mut dialer, mut listener) = (Ids::new(Side::Dialer), Ids::new(Side::Listener));
        let take = |ids: &mut Ids| (0..3).filter_map(|_| ids.take()).collect::<Vec<_>>();
        assert_eq!(take(&mut dialer), [2, 4, 6]);
        assert_eq!(take(&mut listener), [1, 3, 5]);
        assert!(dialer.is_own(8) && !dialer.is_own(7) && listener.is_own(7));
    }

    #[test]
    fn a_number_is_used_again_as_late_as_possible() {
        let mut ids = Ids::new(Side::Listener);
        for round in 0..3 {
            for expected in (1..PREFERRED).step_by(2) {
                assert_eq!(ids.take(), Some(expected), "{round}");
                ids.give_back(expected);
            }
        }
    }

    #[test]
    fn when_all_small_ones_are_taken_large_ones_follow_and_end() {
        for side in [Side::Dialer, Side::Listener] {
            let mut ids = Ids::new(side);
            let small = std::iter::from_fn(|| ids.take()).take_while(|id| *id < PREFERRED).count();
            assert_eq!(small, if side == Side::Dialer { 511 } else { 512 });
            let odd = ids.first % 2;
            assert!(ids.taken.contains(&(PREFERRED + odd)));
            assert_eq!(ids.take(), Some(PREFERRED + odd + 2));
            ids.taken.extend((odd..=LAST).step_by(2));
            assert_eq!(ids.take(), None);
            ids.give_back(77);
            ids.give_back(78);
            assert_eq!(ids.take(), Some(if side == Side::Dialer { 78 } else { 77 }));
        }
    }
}
