use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use peerage_core::{PeerId, varint};

use super::{Have, Hearer, MAX_METADATA, NotMetadata, Say};

/// The most pieces that a message is cut into: two bitmaps of them are as large as metadata may be.
pub const MAX_PIECES: usize = MAX_METADATA / 2 * 8;
/// The most peers that are asked for pieces of one message, or could be. Beyond that another one takes the place of one that
/// was asked, and has not given before it was [asked anew](Pieces::ask_anew).
pub const MAX_ASKED: usize = 64;

/// A message in a number of pieces that all know, and those of them that are there.
///
/// Metadata is two bitmaps, of what is there and of what is wanted of the peer that is told: bit `n % 8` of byte `n / 8`, the lowest
/// first, is piece `n`. Parts are one piece after another: its number and its length, as varints, and its bytes. A peer is given
/// what it wants, nothing twice, and nothing before it has said anything, unless this is [eager](Self::eager).
///
/// Each piece that is missing is [asked](Self::ask) of one peer, so that it comes once. What does not come, because that peer is
/// slow, hostile or gone, the program has to [ask anew](Self::ask_anew) of others, after a second or so.
///
/// Whether a piece is one of the message, only the program can know: it may be hashed into the group id, or be signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<Option<Bytes>>,
    /// Of whom each was asked that is not there.
    asked: Vec<Option<PeerId>>,
    /// What those peers have that were asked, or could be: a bitmap.
    others: BTreeMap<PeerId, Bytes>,
    /// Those of them that had not given what they were asked for when others were asked for it.
    owing: BTreeSet<PeerId>,
    eager: bool,
}

/// Why there are no such pieces; always this program's own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message has 1 to {MAX_PIECES} pieces, this one {count}")]
pub struct PiecesError {
    /// How many it would have.
    pub count: usize,
}

/// What is wrong with parts; always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// They are not pieces.
    #[error("not pieces of a message")]
    Malformed,
    /// There is no such piece.
    #[error("there is no piece {number}")]
    NoSuch {
        /// Its number.
        number: u64,
    },
    /// It is not what it should be.
    #[error("piece {number} is not one of the message")]
    Wrong {
        /// Its number.
        number: usize,
    },
}

impl Pieces {
    /// A message in so many pieces of the same length; only the last may be shorter, and those behind it empty.
    ///
    /// # Errors
    /// [`PiecesError`] if there are none, or too many.
    pub fn cut(message: &[u8], count: usize) -> Result<Self, PiecesError> {
        let mut cut = Self::nothing(count)?;
        let mut rest = Bytes::copy_from_slice(message);
        let len = message.len().div_ceil(count);
        for piece in &mut cut.pieces {
            *piece = Some(rest.split_to(len.min(rest.len())));
        }
        Ok(cut)
    }

    /// Nothing of a message in so many pieces.
    ///
    /// # Errors
    /// [`PiecesError`] if there are none, or too many.
    pub fn nothing(count: usize) -> Result<Self, PiecesError> {
        if !(1..=MAX_PIECES).contains(&count) {
            return Err(PiecesError { count });
        }
        let (pieces, asked) = (vec![None; count], vec![None; count]);
        Ok(Self { pieces, asked, others: BTreeMap::new(), owing: BTreeSet::new(), eager: false })
    }

    /// The same, whose pieces are given also to those who have not said yet what they have. A round trip is saved, and what they
    /// have is sent in vain: something for who has made the message.
    #[must_use]
    pub fn eager(mut self) -> Self {
        self.eager = true;
        self
    }

    /// Adds one; nothing happens if there is no such piece, or it is there.
    pub fn put(&mut self, number: usize, piece: Bytes) {
        if let Some(place) = self.pieces.get_mut(number) {
            place.get_or_insert(piece);
        }
    }

    /// Takes what a peer has sent; how many of its pieces are new. Of them, `is_piece` is asked.
    ///
    /// # Errors
    /// [`Broken`]; those before the broken one were taken.
    pub fn take(
        &mut self,
        mut parts: &[u8],
        is_piece: impl Fn(usize, &[u8]) -> bool,
    ) -> Result<usize, Broken> {
        let mut new = 0_usize;
        while !parts.is_empty() {
            let number = read_varint(&mut parts)?;
            let len = usize::try_from(read_varint(&mut parts)?).map_err(|_| Broken::Malformed)?;
            let (piece, rest) = parts.split_at_checked(len).ok_or(Broken::Malformed)?;
            parts = rest;
            let at = usize::try_from(number).map_err(|_| Broken::NoSuch { number })?;
            let place = self.pieces.get_mut(at).ok_or(Broken::NoSuch { number })?;
            if place.is_some() {
                continue;
            }
            if !is_piece(at, piece) {
                return Err(Broken::Wrong { number: at });
            }
            *place = Some(Bytes::copy_from_slice(piece));
            new = new.saturating_add(1);
        }
        Ok(new)
    }

    /// Asks a peer, by what it has said of this message, for all pieces that are missing and were asked of nobody; how many those
    /// are. It hears of that when this is published.
    ///
    /// # Errors
    /// [`NotMetadata`] if that is none of these pieces.
    pub fn ask(&mut self, peer: PeerId, metadata: &Bytes) -> Result<usize, NotMetadata> {
        let (theirs, _) = self.bitmaps(metadata)?;
        if self.others.len() >= MAX_ASKED && !self.others.contains_key(&peer) {
            // Who promises and does not give must not keep out who would.
            let Some(owing) = self.owing.pop_first() else { return Ok(0) };
            self.others.remove(&owing);
            self.asked.iter_mut().filter(|asked| **asked == Some(owing)).for_each(|asked| *asked = None);
        }
        self.others.insert(peer, theirs.clone());
        let mut new = 0_usize;
        for (number, (piece, asked)) in self.pieces.iter().zip(&mut self.asked).enumerate() {
            if piece.is_none() && asked.is_none() && has(&theirs, number) {
                *asked = Some(peer);
                new = new.saturating_add(1);
            }
        }
        Ok(new)
    }

    /// Asks for all pieces that have not come: each of the next peer that has it, if there is another one than it was asked of.
    pub fn ask_anew(&mut self) {
        self.owing = self
            .pieces
            .iter()
            .zip(&self.asked)
            .filter_map(|(piece, asked)| asked.filter(|_| piece.is_none()))
            .collect();
        for (number, (piece, asked)) in self.pieces.iter().zip(&mut self.asked).enumerate() {
            if piece.is_some() {
                continue;
            }
            let behind = self.others.iter().filter(|(peer, _)| asked.is_none_or(|before| **peer > before));
            let mut others = behind.chain(&self.others).filter(|(_, theirs)| has(theirs, number));
            *asked = others.next().map(|(peer, _)| *peer);
        }
    }

    /// A peer is gone, or has sent what is wrong: it is not asked any more, and what it was asked for, others are.
    pub fn give_up(&mut self, peer: PeerId) {
        self.others.remove(&peer);
        self.owing.remove(&peer);
        for (number, asked) in self.asked.iter_mut().enumerate().filter(|(_, asked)| **asked == Some(peer)) {
            let mut others = self.others.iter().filter(|(_, theirs)| has(theirs, number));
            *asked = others.next().map(|(peer, _)| *peer);
        }
    }

    /// How many there are, and how many there should be.
    pub fn count(&self) -> (usize, usize) {
        (self.pieces.iter().flatten().count(), self.pieces.len())
    }

    /// A piece, if it is there.
    pub fn piece(&self, number: usize) -> Option<&Bytes> {
        self.pieces.get(number)?.as_ref()
    }

    /// The message, if all of it is there.
    pub fn whole(&self) -> Option<Vec<u8>> {
        let pieces: Option<Vec<&[u8]>> = self.pieces.iter().map(Option::as_deref).collect();
        Some(pieces?.concat())
    }

    /// What a peer is told: what is there, and what is wanted of it.
    pub fn metadata(&self, to: &PeerId) -> Bytes {
        let there = bitmap(self.pieces.iter().map(Option::is_some));
        let wanted = self
            .pieces
            .iter()
            .zip(&self.asked)
            .map(|(piece, asked)| piece.is_none() && asked.as_ref() == Some(to));
        [there, bitmap(wanted)].concat().into()
    }

    /// What metadata says: what there is, and what is wanted.
    fn bitmaps(&self, metadata: &Bytes) -> Result<(Bytes, Bytes), NotMetadata> {
        let len = self.pieces.len().div_ceil(8);
        if metadata.len() != len.saturating_mul(2) {
            return Err(NotMetadata);
        }
        let (there, wanted) = (metadata.slice(..len), metadata.slice(len..));
        let after = self.pieces.len()..len.saturating_mul(8);
        let is_one = |bitmap: &Bytes| !after.clone().any(|number| has(bitmap, number));
        if is_one(&there) && is_one(&wanted) { Ok((there, wanted)) } else { Err(NotMetadata) }
    }
}

impl Have for Pieces {
    fn say(&self, to: &Hearer<'_>) -> Result<Say, NotMetadata> {
        let wanted =
            to.metadata.map(|metadata| self.bitmaps(metadata)).transpose()?.map(|(_, wanted)| wanted);
        let wants = |number| wanted.as_ref().map_or(self.eager, |wanted| has(wanted, number));
        let (mut parts, mut given) = (Vec::new(), Vec::with_capacity(self.pieces.len()));
        for (number, piece) in self.pieces.iter().enumerate() {
            let mut is_given = has(to.given, number);
            if let Some(piece) = piece
                && to.takes_parts
                && !is_given
                && wants(number)
                && piece_len(number, piece) <= to.room.saturating_sub(parts.len())
            {
                varint::encode(number as u64, &mut parts);
                varint::encode(piece.len() as u64, &mut parts);
                parts.extend_from_slice(piece);
                is_given = true;
            }
            given.push(is_given);
        }
        let metadata = self.metadata(&to.peer);
        Ok(Say { metadata, parts: parts.into(), given: bitmap(given.into_iter()) })
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (there, all) = self.count();
        write!(f, "Pieces({there} of {all})")
    }
}

/// Bytes of a piece, as it is written.
fn piece_len(number: usize, piece: &[u8]) -> usize {
    let head = varint::len(number as u64).saturating_add(varint::len(piece.len() as u64));
    head.saturating_add(piece.len())
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64, Broken> {
    let (value, len) = varint::decode(bytes).ok().flatten().ok_or(Broken::Malformed)?;
    *bytes = bytes.get(len..).unwrap_or_default();
    Ok(value)
}

fn bitmap(bits: impl Iterator<Item = bool>) -> Bytes {
    let mut bytes = Vec::new();
    for (number, is_set) in bits.enumerate() {
        if number % 8 == 0 {
            bytes.push(0_u8);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= u8::from(is_set) << (number % 8);
        }
    }
    bytes.into()
}

fn has(bitmap: &[u8], number: usize) -> bool {
    bitmap.get(number / 8).is_some_and(|byte| byte >> (number % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    fn hearer<'a>(metadata: Option<&'a Bytes>, given: &'a Bytes) -> Hearer<'a> {
        Hearer { peer: peer(1), metadata, given, takes_parts: true, room: 1 << 20 }
    }

    fn every(_: usize, _: &[u8]) -> bool {
        true
    }

    /// Which of eight pieces are wanted of a peer.
    fn wanted(pieces: &Pieces, of: u8) -> u8 {
        pieces.metadata(&peer(of))[1]
    }

    #[test]
    fn a_message_is_cut_and_joined() {
        for (len, count, first, last) in [(10, 3, 4, 2), (9, 3, 3, 3), (4, 8, 1, 0), (0, 1, 0, 0)] {
            let message: Vec<u8> = (0..len).collect();
            let cut = Pieces::cut(&message, count).unwrap();
            assert_eq!(cut.piece(0).unwrap().len(), first);
            assert_eq!(cut.piece(count - 1).unwrap().len(), last);
            assert_eq!(cut.whole(), Some(message));
        }
        assert_eq!(Pieces::nothing(2).unwrap().whole(), None);
        for count in [0, MAX_PIECES + 1] {
            assert_eq!(Pieces::cut(b"all", count), Err(PiecesError { count }));
        }
        assert_eq!(Pieces::nothing(MAX_PIECES).unwrap().metadata(&peer(1)).len(), MAX_METADATA);
    }

    #[test]
    fn what_is_written_is_what_the_words_say() {
        let mut pieces = Pieces::nothing(10).unwrap();
        pieces.put(0, Bytes::from_static(b"zero"));
        pieces.put(9, Bytes::from_static(b"nine"));
        pieces.put(10, Bytes::from_static(b"ten"));
        // It has the first nine.
        assert_eq!(pieces.ask(peer(1), &Bytes::from_static(&[0xff, 1, 0, 0])), Ok(8));
        let everything = Bytes::from_static(&[0, 0, 0xff, 3]);
        let say = pieces.say(&hearer(Some(&everything), &Bytes::new())).unwrap();
        assert_eq!(say.parts, &b"\x00\x04zero\x09\x04nine"[..]);
        assert_eq!(say.metadata, &[1, 2, 0xfe, 1][..]);
        assert_eq!(say.given, &[1, 2][..]);
    }

    #[test]
    fn a_peer_is_given_what_it_wants_and_was_not_given() {
        let pieces = Pieces::cut(b"0123", 4).unwrap();
        let nothing = Bytes::new();
        let say = |wanted: Option<u8>, given: &'static [u8], pieces: &Pieces| {
            let metadata = wanted.map(|wanted| Bytes::from(vec![0, wanted]));
            let say = pieces.say(&hearer(metadata.as_ref(), &Bytes::from_static(given))).unwrap();
            let mut got = Pieces::nothing(4).unwrap();
            got.take(&say.parts, every).unwrap();
            (got.metadata(&peer(1))[0], say.given[0])
        };
        assert_eq!(say(None, &[], &pieces), (0, 0));
        assert_eq!(say(None, &[], &pieces.clone().eager()), (0b1111, 0b1111));
        assert_eq!(say(Some(0b1010), &[], &pieces), (0b1010, 0b1010));
        assert_eq!(say(Some(0b1110), &[0b0010], &pieces), (0b1100, 0b1110));
        assert_eq!(say(Some(0), &[], &pieces.clone().eager()), (0, 0));
        let mut to = hearer(None, &nothing);
        to.takes_parts = false;
        assert!(pieces.eager().say(&to).unwrap().parts.is_empty());
    }

    /// What has no room now is not counted as given, and comes later.
    #[test]
    fn what_has_no_room_waits() {
        let pieces = Pieces::cut(&[7; 40], 4).unwrap();
        let (all, nothing) = (Bytes::from_static(&[0, 0b1111]), Bytes::new());
        let mut to = hearer(Some(&all), &nothing);
        // Each is ten bytes, a number and a length.
        for (room, given) in [(11, 0), (12, 1), (35, 0b11), (36, 0b111)] {
            to.room = room;
            let say = pieces.say(&to).unwrap();
            assert!(say.parts.len() <= room);
            assert_eq!(say.given, &[given][..]);
        }
    }

    #[test]
    fn each_piece_is_asked_of_one_peer_at_a_time() {
        let mut pieces = Pieces::nothing(8).unwrap();
        let has = |there: u8| Bytes::from(vec![there, 0]);
        assert_eq!(pieces.ask(peer(1), &has(0b0011)), Ok(2));
        assert_eq!(pieces.ask(peer(2), &has(0b0111)), Ok(1));
        assert_eq!(pieces.ask(peer(1), &has(0b0111)), Ok(0));
        assert_eq!((wanted(&pieces, 1), wanted(&pieces, 2)), (0b0011, 0b0100));
        pieces.put(0, Bytes::new());
        assert_eq!((wanted(&pieces, 1), wanted(&pieces, 2)), (0b0010, 0b0100), "what is there is not wanted");
        pieces.ask_anew();
        assert_eq!((wanted(&pieces, 1), wanted(&pieces, 2)), (0b0100, 0b0010));
        assert_eq!(pieces.ask(peer(3), &has(0b1000)), Ok(1));
        pieces.ask_anew();
        assert_eq!(wanted(&pieces, 3), 0b1000, "nobody else has it");
        pieces.give_up(peer(3));
        pieces.give_up(peer(2));
        assert_eq!([1, 2, 3].map(|n| wanted(&pieces, n)), [0b0110, 0, 0]);
        assert_eq!(pieces.ask(peer(4), &has(0b1000)), Ok(1), "it is asked of the next that has it");
    }

    #[test]
    fn only_so_many_peers_are_asked() {
        let mut pieces = Pieces::nothing(8).unwrap();
        let none = Bytes::from_static(&[0, 0]);
        (0..MAX_ASKED).for_each(|n| assert_eq!(pieces.ask(peer(n as u8), &none), Ok(0)));
        let all = Bytes::from_static(&[0xff, 0]);
        assert_eq!(pieces.ask(peer(MAX_ASKED as u8), &all), Ok(0));
        assert_eq!(pieces.ask(peer(0), &all), Ok(8));
    }

    /// As many as are asked at all say, again and again, that they have everything, and give nothing.
    #[test]
    fn who_does_not_give_makes_room_for_who_does() {
        let mut pieces = Pieces::nothing(8).unwrap();
        let (all, giver) = (Bytes::from_static(&[0xff, 0]), MAX_ASKED as u8);
        let mut rounds = 0;
        while wanted(&pieces, giver) != 0xff {
            for n in 0..=giver {
                pieces.ask(peer(n), &all).unwrap();
            }
            pieces.ask_anew();
            assert_eq!(pieces.others.len(), MAX_ASKED);
            rounds += 1;
            assert!(rounds <= MAX_ASKED + 1, "it is never asked");
        }
    }

    #[test]
    fn what_was_asked_of_who_makes_room_is_asked_of_others() {
        let mut pieces = Pieces::nothing(2).unwrap();
        let has = |there: u8| Bytes::from(vec![there, 0]);
        pieces.ask(peer(0), &has(0b11)).unwrap();
        pieces.ask_anew();
        for n in 1..MAX_ASKED as u8 {
            pieces.ask(peer(n), &has(0)).unwrap();
        }
        let (one, other) = (MAX_ASKED as u8, MAX_ASKED as u8 + 1);
        assert_eq!(pieces.ask(peer(one), &has(0b01)), Ok(1));
        assert_eq!(pieces.ask(peer(other), &has(0b11)), Ok(0), "the first has not been asked anew");
        assert_eq!((wanted(&pieces, one), wanted(&pieces, 0)), (0b01, 0));
    }

    #[test]
    fn what_is_no_metadata_of_these_pieces_is_noticed() {
        let mut pieces = Pieces::nothing(10).unwrap();
        let nothing = Bytes::new();
        for (metadata, is_one) in [
            (&[0xff, 3, 0xff, 3][..], true),
            (&[0, 0, 0, 0], true),
            (&[0xff, 7, 0, 0], false),
            (&[0, 0, 0, 4], false),
            (&[0, 0], false),
            (&[0, 0, 0, 0, 0], false),
            (&[], false),
        ] {
            let metadata = Bytes::copy_from_slice(metadata);
            assert_eq!(pieces.say(&hearer(Some(&metadata), &nothing)).is_ok(), is_one, "{metadata:?}");
            assert_eq!(pieces.ask(peer(1), &metadata).is_ok(), is_one);
        }
    }

    #[test]
    fn broken_parts_are_refused() {
        let take =
            |parts: &[u8]| Pieces::nothing(4).unwrap().take(parts, |n, piece| n != 3 && piece.len() == 1);
        assert_eq!(take(b""), Ok(0));
        assert_eq!(take(b"\x00\x01a\x01\x01b\x00\x01a"), Ok(2), "one is there by then");
        assert_eq!(take(b"\x00\x02a"), Err(Broken::Malformed));
        assert_eq!(take(b"\x00"), Err(Broken::Malformed));
        assert_eq!(take(b"\xff"), Err(Broken::Malformed));
        assert_eq!(take(b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7fa"), Err(Broken::Malformed));
        assert_eq!(take(b"\x04\x01a"), Err(Broken::NoSuch { number: 4 }));
        assert_eq!(take(b"\x03\x01a"), Err(Broken::Wrong { number: 3 }));
        let mut pieces = Pieces::nothing(4).unwrap();
        assert_eq!(pieces.take(b"\x00\x01a\x00", every), Err(Broken::Malformed));
        assert_eq!(pieces.count(), (1, 4), "what came before it is there");
    }

    proptest! {
        #[test]
        fn arbitrary_parts_and_metadata_are_read_or_refused(
            parts: Vec<u8>,
            metadata: Vec<u8>,
            given: Vec<u8>,
            count in 1_usize..40,
        ) {
            let mut pieces = Pieces::nothing(count).unwrap();
            let _ = pieces.take(&parts, every);
            let (metadata, given) = (Bytes::from(metadata), Bytes::from(given));
            let _ = pieces.ask(peer(1), &metadata);
            let _ = pieces.say(&hearer(Some(&metadata), &given));
        }

        /// Whatever two have, once each has asked the other, both have all that there is.
        #[test]
        fn two_give_each_other_all(there in prop::collection::vec(any::<(bool, bool)>(), 1..40)) {
            let side = |has: fn(&(bool, bool)) -> bool| {
                let mut pieces = Pieces::nothing(there.len()).unwrap();
                let numbers = there.iter().enumerate().filter(|(_, there)| has(there));
                numbers.for_each(|(n, _)| pieces.put(n, Bytes::from(vec![n as u8; n])));
                pieces
            };
            let (mut one, mut other) = (side(|there| there.0), side(|there| there.1));
            let nothing = Bytes::new();
            let (ones, others) = (one.metadata(&peer(2)), other.metadata(&peer(1)));
            let missing = there.iter().filter(|(one, other)| *other && !one).count();
            prop_assert_eq!(one.ask(peer(2), &others), Ok(missing));
            other.ask(peer(1), &ones).unwrap();
            let (ones, others) = (one.metadata(&peer(2)), other.metadata(&peer(1)));
            let to_other = one.say(&hearer(Some(&others), &nothing)).unwrap();
            let to_one = other.say(&hearer(Some(&ones), &nothing)).unwrap();
            prop_assert_eq!(one.take(&to_one.parts, every), Ok(missing));
            other.take(&to_other.parts, every).unwrap();
            prop_assert_eq!(&one.pieces, &other.pieces);
        }
    }
}
