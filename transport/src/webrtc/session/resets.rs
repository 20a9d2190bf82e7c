//! Resets of streams and lost data, in which implementations trip each other up.
//!
//! A reset says up to where its sender had sent; who has not received all of that yet answers "in progress", and once
//! more when it is done (RFC 6525, section 5.2.2).
//!
//! - usrsctp (libdatachannel, so js-libp2p in Node) holds back what comes later on all streams meanwhile, and when the
//!   missing data is there, looks again only with the next data, which may never come. So a reset is held until
//!   everything sent before it was acknowledged: then none has to wait at the other side.
//! - Each reset also names the last one that was *received*, which counts as an answer to it (section 5.2.2, E1), even
//!   if it still waits; sctp-proto and usrsctp believe that. Whoever does sends its next reset too early, is told that
//!   the first is in progress, and has used a number that the other side has not counted: from then on all its resets
//!   are refused, and no channel ends any more. So what this side sends names none that waits here.

use bytes::Bytes;

use super::packet::{self, DATA, RE_CONFIG, SACK, number};

/// Parameters of a RE-CONFIG chunk (RFC 6525, sections 4.1 and 4.4).
const OUTGOING_RESET: u16 = 13;
const RESPONSE: u16 = 16;

/// What a parameter begins with, and where a reset has the number that it answers.
const HEADER: usize = 4;
const ANSWERED: usize = 8;

const IN_PROGRESS: u32 = 6;

#[derive(Default)]
pub(super) struct Resets {
    /// Whether anything was sent that can be acknowledged, and up to where it was.
    sent: bool,
    acknowledged: Option<u32>,
    /// A reset of this side, and the data that has to be acknowledged before. There is one at a time (section 5.1.1).
    held: Option<(u32, Bytes)>,
    /// The number of the other side's reset that waits here.
    waits: Option<u32>,
}

impl Resets {
    /// To be asked for each packet that is to be sent. It may be changed, or held until [`Resets::receive`] gives it.
    pub(super) fn send(&mut self, packet: Bytes) -> Option<Bytes> {
        self.sent |= packet::chunks(&packet).any(|chunk| chunk.kind == DATA);
        let mut reset = None;
        for parameter in parameters(&packet) {
            match parameter.kind {
                OUTGOING_RESET => reset = Some(parameter),
                RESPONSE if parameter.second == IN_PROGRESS => self.waits = Some(parameter.first),
                RESPONSE if self.waits == Some(parameter.first) => self.waits = None,
                _ => {}
            }
        }
        let Some(reset) = reset else { return Some(packet) };
        let packet = if self.waits == Some(reset.second) { naming_none(&packet, &reset) } else { packet };
        if let Some(last) = reset.third
            && self.sent
            && !self.has(last)
        {
            self.held = Some((last, packet));
            return None;
        }
        Some(packet)
    }

    /// To be told of each packet that comes. Gives the packet that can be sent now.
    pub(super) fn receive(&mut self, packet: &[u8]) -> Option<Bytes> {
        for acknowledged in packet::first_numbers(packet, SACK) {
            // One that was overtaken says less.
            if !self.has(acknowledged) {
                self.acknowledged = Some(acknowledged);
            }
        }
        let (last, _) = self.held.as_ref()?;
        if self.has(*last) { self.held.take().map(|(_, packet)| packet) } else { None }
    }

    /// Whether the other side has everything up to there.
    fn has(&self, last: u32) -> bool {
        self.acknowledged.is_some_and(|acknowledged| !packet::is_after(last, acknowledged))
    }
}

/// A parameter that begins with two numbers or three: of a reset its own, the one that it answers, and the last data
/// before it; of a response the one that it answers, and the result.
struct Parameter {
    kind: u16,
    first: u32,
    second: u32,
    third: Option<u32>,
    at: usize,
}

fn parameters(packet: &[u8]) -> impl Iterator<Item = Parameter> {
    packet::chunks(packet).filter(|chunk| chunk.kind == RE_CONFIG).flat_map(move |chunk| {
        let mut next = chunk.value.start;
        std::iter::from_fn(move || {
            let at = next;
            let [kind @ .., high, low] = *packet.get(at..chunk.value.end)?.first_chunk::<HEADER>()?;
            let length = u16::from_be_bytes([high, low]);
            next = at.saturating_add(packet::padded(length));
            let numbers = packet.get(at..at.saturating_add(length.into()))?.get(HEADER..)?;
            let (first, second, third) = (number(numbers, 0)?, number(numbers, 4)?, number(numbers, 8));
            Some(Parameter { kind: u16::from_be_bytes(kind), first, second, third, at })
        })
    })
}

/// The packet, whose reset names the one before, which was answered long ago.
fn naming_none(packet: &[u8], reset: &Parameter) -> Bytes {
    packet::changed(packet, |packet| {
        let place = reset.at.checked_add(ANSWERED).and_then(|at| packet.get_mut(at..));
        if let Some(place) = place.and_then(|rest| rest.first_chunk_mut()) {
            *place = reset.second.wrapping_sub(1).to_be_bytes();
        }
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn reset(number: u32, answers: u32, last: u32) -> Vec<u8> {
        let numbers = [number, answers, last].map(u32::to_be_bytes).concat();
        [&[0, 13, 0, 18][..], &numbers, &[0, 5, 0, 0]].concat()
    }

    fn response(number: u32, result: u32) -> Vec<u8> {
        [&[0, 16, 0, 12][..], &number.to_be_bytes(), &result.to_be_bytes()].concat()
    }

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap().to_be_bytes();
        [&[kind, 0][..], &length, value].concat()
    }

    fn packet(chunks: &[Vec<u8>]) -> Bytes {
        packet::changed(&[&[7; 12][..], &chunks.concat()].concat(), |_| ())
    }

    fn re_config(parameters: &[Vec<u8>]) -> Bytes {
        packet(&[chunk(2, &[9; 8]), chunk(RE_CONFIG, &parameters.concat())])
    }

    pub(in super::super) fn sack(up_to: u32) -> Bytes {
        packet(&[chunk(SACK, &[&up_to.to_be_bytes()[..], &[0; 8]].concat())])
    }

    pub(in super::super) fn data(number: u32) -> Bytes {
        packet(&[chunk(DATA, &[&number.to_be_bytes()[..], &[0; 12]].concat())])
    }

    #[test]
    fn a_reset_that_waits_here_is_not_named_until_it_is_done() {
        let mut resets = Resets::default();
        let mut same = |packet: Bytes| assert_eq!(resets.send(packet.clone()), Some(packet));
        same(re_config(&[reset(40, 9, 100)]));
        same(re_config(&[response(9, IN_PROGRESS)]));
        // Another that was answered meanwhile.
        same(re_config(&[reset(41, 7, 100), response(6, 1)]));
        assert_eq!(resets.send(re_config(&[reset(42, 9, 100)])), Some(re_config(&[reset(42, 8, 100)])));
        let mut same = |packet: Bytes| assert_eq!(resets.send(packet.clone()), Some(packet));
        same(re_config(&[response(9, 1)]));
        same(re_config(&[reset(43, 9, 100)]));
    }

    #[test]
    fn a_reset_is_held_until_what_was_sent_before_is_acknowledged() {
        let mut resets = Resets::default();
        let begin = u32::MAX - 1;
        let last = begin.wrapping_add(3);
        let first = re_config(&[reset(40, 9, begin)]);
        assert_eq!(resets.send(first.clone()), Some(first), "there was nothing to be acknowledged");
        assert_eq!(resets.send(data(last)), Some(data(last)));
        assert_eq!(resets.send(re_config(&[reset(41, 9, last)])), None);
        // Again, as there was no answer.
        let second = re_config(&[reset(41, 10, last)]);
        assert_eq!(resets.send(second.clone()), None);
        for up_to in [begin, begin.wrapping_add(2), begin.wrapping_add(1)] {
            assert_eq!(resets.receive(&sack(up_to)), None);
        }
        assert_eq!(resets.receive(&sack(last.wrapping_add(5))), Some(second.clone()));
        assert_eq!(resets.receive(&sack(last.wrapping_add(6))), None);
        // Known to be there, also by an acknowledgement that comes too late.
        assert_eq!(resets.receive(&sack(begin)), None);
        assert_eq!(resets.send(second.clone()), Some(second));
    }

    #[test]
    fn broken_packets_change_nothing() {
        let whole = re_config(&[response(9, IN_PROGRESS), reset(41, 9, 100)]);
        for end in 0..whole.len() {
            let mut resets = Resets { sent: true, acknowledged: Some(100), ..Resets::default() };
            let part = whole.slice(..end);
            let sent = resets.send(part.clone()).unwrap();
            // What is changed is changed as a whole.
            assert!(sent == part || end >= whole.len() - 8, "{end}");
            assert_eq!(resets.receive(&part), None);
        }
        for length in 0..12 {
            let mut broken = whole.to_vec();
            // Of the first parameter.
            broken[12 + 12 + 4 + 3] = length;
            let mut resets = Resets { sent: true, acknowledged: Some(100), ..Resets::default() };
            assert_eq!(resets.send(broken.clone().into()).unwrap(), broken);
            assert_eq!(resets.waits, None);
        }
    }
}
