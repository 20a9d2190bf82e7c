//! How much was offered of late: every offer is a line or two for the user to read.

use std::{collections::VecDeque, time::Duration};

use peerage::PeerId;
use tokio::time::Instant;

/// Offers of one peer that the user hears of within [`PERIOD`].
pub const MAX_OFFERS: usize = 20;
/// The same, of all peers together.
pub const MAX_OFFERS_OF_ALL: usize = 100;
/// For how long an offer counts.
pub const PERIOD: Duration = Duration::from_secs(60);

/// The offers of the last [`PERIOD`], and for each limit that was reached one more: at most [`MAX_OFFERS_OF_ALL`] and one.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(Instant, PeerId)>);

/// What becomes of another offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The user hears of it.
    Heard,
    /// It is the first one too many: the user hears that.
    TooMany,
    /// It is one more of those.
    Unheard,
}

impl Recent {
    pub(super) fn another(&mut self, peer: PeerId, now: Instant) -> Verdict {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= PERIOD) {
            self.0.pop_front();
        }
        let of_peer = self.0.iter().filter(|(_, other)| *other == peer).count();
        if of_peer > MAX_OFFERS || self.0.len() > MAX_OFFERS_OF_ALL {
            return Verdict::Unheard;
        }
        let many = of_peer == MAX_OFFERS || self.0.len() == MAX_OFFERS_OF_ALL;
        self.0.push_back((now, peer));
        if many { Verdict::TooMany } else { Verdict::Heard }
    }
}

#[cfg(test)]
mod tests {
    use peerage::Keypair;

    use super::*;

    fn peer(seed: u8) -> PeerId {
        Keypair::from_ed25519_seed([seed; 32]).peer_id()
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_of_one_peer_and_not_one_more() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for _ in 0..MAX_OFFERS {
            assert_eq!(recent.another(peer(1), now), Verdict::Heard);
        }
        assert_eq!(recent.another(peer(1), now), Verdict::TooMany);
        assert_eq!(recent.another(peer(1), now), Verdict::Unheard);
        assert_eq!(recent.another(peer(2), now), Verdict::Heard, "who offered nothing yet");
        let almost = now + PERIOD - Duration::from_millis(1);
        assert_eq!(recent.another(peer(1), almost), Verdict::Unheard);
        assert_eq!(recent.another(peer(1), now + PERIOD), Verdict::Heard);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_of_all_peers_and_not_one_more() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for number in 0..MAX_OFFERS_OF_ALL {
            let peer = peer(u8::try_from(number / MAX_OFFERS).unwrap());
            assert_eq!(recent.another(peer, now), Verdict::Heard);
        }
        assert_eq!(recent.another(peer(100), now), Verdict::TooMany);
        for seed in 101..=255 {
            assert_eq!(recent.another(peer(seed), now), Verdict::Unheard);
        }
        assert_eq!(recent.0.len(), MAX_OFFERS_OF_ALL + 1);
        assert_eq!(recent.another(peer(100), now + PERIOD), Verdict::Heard);
    }
}
