//! Resets of streams that must wait, which sctp-proto takes for answered.
//!
//! A reset says up to where its sender had sent; who has not received all of that yet answers "in progress", and once
//! more when it is done (RFC 6525, section 5.2.2). Each request also names the last request that was *received*, which
//! counts as its answer (section 5.2.2, E1), although that may be one that waits. Whoever believes it sends its next
//! request too early, is told that the first is still in progress, and has used a number that the other side has not
//! counted: from then on all its resets are refused, and no channel ends any more. That happens once a datagram with
//! data was lost just before a reset.
//!
//! So, of the requests, those that this side sends name none that waits, as usrsctp (libdatachannel) believes it too;
//! and what those of the other side name is not believed, as the answer itself always comes, or is repeated.

use bytes::Bytes;

use super::packet;

const RE_CONFIG: u8 = 130;

/// Parameters of a RE-CONFIG chunk (RFC 6525, sections 4.1 and 4.4), and where in them is what.
const OUTGOING_RESET: u16 = 13;
const RESPONSE: u16 = 16;
const HEADER: usize = 4;
const SECOND: usize = HEADER + 4;

const IN_PROGRESS: u32 = 6;

#[derive(Default)]
pub(super) struct Resets {
    /// The last request of this side.
    asked: Option<u32>,
    /// The other side's request that waits here.
    waits: Option<u32>,
}

impl Resets {
    /// To be told of each packet that is sent, which it may change.
    pub(super) fn send(&mut self, packet: Bytes) -> Bytes {
        let mut answers = None;
        for parameter in parameters(&packet) {
            match parameter.kind {
                OUTGOING_RESET => {
                    self.asked = Some(parameter.first);
                    answers = Some(parameter).filter(|parameter| Some(parameter.second) == self.waits);
                }
                RESPONSE if parameter.second == IN_PROGRESS => self.waits = Some(parameter.first),
                RESPONSE if self.waits == Some(parameter.first) => self.waits = None,
                _ => {}
            }
        }
        answering_none(packet, answers)
    }

    /// To be told of each packet that comes, which it may change.
    pub(super) fn receive(&self, packet: Bytes) -> Bytes {
        let believed =
            |parameter: &Parameter| parameter.kind == OUTGOING_RESET && Some(parameter.second) == self.asked;
        let answers = parameters(&packet).find(believed);
        answering_none(packet, answers)
    }
}

/// A parameter with two numbers: of a request its own and the one that it answers, of a response the one that it
/// answers and the result.
struct Parameter {
    kind: u16,
    first: u32,
    second: u32,
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
            let (first, rest) = numbers.split_first_chunk::<4>()?;
            let (first, second) = (u32::from_be_bytes(*first), u32::from_be_bytes(*rest.first_chunk()?));
            Some(Parameter { kind: u16::from_be_bytes(kind), first, second, at })
        })
    })
}

/// The same packet, whose request answers the one before, which was answered long ago.
fn answering_none(packet: Bytes, request: Option<Parameter>) -> Bytes {
    let Some(Parameter { at, second, .. }) = request else { return packet };
    packet::changed(&packet, |packet| {
        let place = at.checked_add(SECOND).and_then(|at| packet.get_mut(at..));
        if let Some(place) = place.and_then(|rest| rest.first_chunk_mut::<4>()) {
            *place = second.wrapping_sub(1).to_be_bytes();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(number: u32, answers: u32) -> Vec<u8> {
        let numbers = [number, answers, 77].map(u32::to_be_bytes).concat();
        [&[0, 13, 0, 18][..], &numbers, &[0, 5, 0, 0]].concat()
    }

    fn response(number: u32, result: u32) -> Vec<u8> {
        [&[0, 16, 0, 12][..], &number.to_be_bytes(), &result.to_be_bytes()].concat()
    }

    fn packet(parameters: &[Vec<u8>]) -> Bytes {
        let parameters = parameters.concat();
        let length = u16::try_from(parameters.len() + 4).unwrap().to_be_bytes();
        let sack = [&[3, 0, 0, 16][..], &[9; 12]].concat();
        let plain = [&[7; 12][..], &sack, &[RE_CONFIG, 0], &length, &parameters].concat();
        packet::changed(&plain, |_| ())
    }

    #[test]
    fn what_waits_here_is_not_named_until_it_is_done() {
        let mut resets = Resets::default();
        let request = packet(&[reset(40, 9)]);
        assert_eq!(resets.send(request.clone()), request);
        let waits = packet(&[response(9, IN_PROGRESS)]);
        assert_eq!(resets.send(waits.clone()), waits);
        assert_eq!(resets.send(request.clone()), packet(&[reset(40, 8)]));
        // One that was answered meanwhile.
        let other = packet(&[reset(41, 7), response(6, 1)]);
        assert_eq!(resets.send(other.clone()), other);
        resets.send(packet(&[response(9, 1)]));
        assert_eq!(resets.send(request.clone()), request);
    }

    #[test]
    fn what_the_other_side_names_is_not_believed() {
        let mut resets = Resets::default();
        let request = packet(&[reset(9, 40)]);
        assert_eq!(resets.receive(request.clone()), request);
        resets.send(packet(&[reset(40, 8)]));
        assert_eq!(resets.receive(request), packet(&[reset(9, 39)]));
        let answer = packet(&[response(40, 1)]);
        assert_eq!(resets.receive(answer.clone()), answer);
        let numbers = packet(&[response(1, 1), reset(0, 40)]);
        assert_eq!(resets.receive(numbers), packet(&[response(1, 1), reset(0, 39)]));
    }

    #[test]
    fn broken_packets_stay_as_they_are() {
        let mut resets = Resets::default();
        resets.send(packet(&[reset(40, 8)]));
        let whole = packet(&[reset(9, 41), reset(9, 40)]);
        for end in 0..whole.len() - 12 {
            let part = whole.slice(..end);
            assert_eq!(resets.receive(part.clone()), part);
            assert_eq!(resets.send(part.clone()), part);
            resets.asked = Some(40);
        }
        for length in 0..12 {
            let mut broken = whole.to_vec();
            // Of the first parameter.
            broken[12 + 16 + 4 + 3] = length;
            assert_eq!(resets.receive(broken.clone().into()), broken);
        }
    }
}
