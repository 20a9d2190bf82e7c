//! multistream-select between our two sides, and against what a peer may send.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use peerage_core::multistream::{
    Dialer, Error, Fault, HEADER, Listener, MAX_LINES, MAX_MESSAGE_LEN, MAX_PROPOSALS,
};
use peerage_core::{ProtocolId, frame, varint};
use proptest::prelude::*;

const A: ProtocolId = ProtocolId::from_static("/a/1");
const B: ProtocolId = ProtocolId::from_static("/b/1");

fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        frame::encode(format!("{line}\n").as_bytes(), &mut out);
    }
    out
}

fn only_b(name: &str) -> Option<ProtocolId> {
    (name == B.as_str()).then_some(B)
}

fn dialer() -> Dialer {
    let mut dialer = Dialer::new(vec![A, B]).unwrap();
    dialer.poll_transmit().unwrap();
    dialer
}

#[test]
fn the_bytes_of_the_spec() {
    assert_eq!(lines(&["na"]), [0x03, 0x6e, 0x61, 0x0a]);
    let mut dialer = Dialer::new(vec![A]).unwrap();
    assert_eq!(dialer.poll_transmit().unwrap(), b"\x13/multistream/1.0.0\n\x05/a/1\n");
    assert_eq!(dialer.poll_transmit(), None);
}

#[test]
fn one_round_trip_when_the_first_is_taken() {
    let mut dialer = Dialer::new(vec![B]).unwrap();
    let mut listener = Listener::new();
    let request = dialer.poll_transmit().unwrap();
    assert_eq!(listener.handle_input(&request, only_b), Ok(request.len()));
    assert_eq!(listener.outcome(), Some(&B));
    let answer = listener.poll_transmit().unwrap();
    assert_eq!(answer, lines(&[HEADER, "/b/1"]));
    assert_eq!(dialer.handle_input(&answer), Ok(answer.len()));
    assert_eq!(dialer.outcome(), Some(&B));
    assert_eq!((dialer.poll_transmit(), listener.poll_transmit()), (None, None));
    assert_eq!((dialer.handle_end(), listener.handle_end()), (Ok(()), Ok(())));
}

#[test]
fn the_next_is_proposed_after_na() {
    let mut dialer = dialer();
    assert!(dialer.handle_input(&lines(&[HEADER, "na"])).is_ok());
    assert_eq!(dialer.outcome(), None);
    assert_eq!(dialer.poll_transmit().unwrap(), lines(&["/b/1"]));
    assert!(dialer.handle_input(&lines(&["na"])).is_err());
    let error = dialer.handle_input(&[]).unwrap_err();
    assert_eq!((error.clone(), error.fault()), (Error::NoneSupported, Fault::Neither));
    assert_eq!(dialer.handle_end(), Err(Error::NoneSupported));
}

/// The listener's header may come before it has read anything: both sides may send it at once.
#[test]
fn headers_cross() {
    let mut dialer = dialer();
    assert!(dialer.handle_input(&lines(&[HEADER])).is_ok());
    assert_eq!(dialer.poll_transmit(), None);
    assert!(dialer.handle_input(&lines(&["/a/1"])).is_ok());
    assert_eq!(dialer.outcome(), Some(&A));

    // And a dialer may wait for the listener's header before it proposes.
    let mut listener = Listener::new();
    assert!(listener.handle_input(&lines(&[HEADER]), only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), lines(&[HEADER]));
    assert!(listener.handle_input(&lines(&["/a/1"]), only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), lines(&["na"]));
    assert!(listener.handle_input(&lines(&["/b/1"]), only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), lines(&["/b/1"]));
}

#[test]
fn what_follows_the_agreement_is_not_taken() {
    let tail = lines(&["/b/1", "na"]);
    let mut dialer = dialer();
    let agreed = lines(&[HEADER, "/a/1"]);
    assert_eq!(dialer.handle_input(&[&agreed[..], &tail].concat()), Ok(agreed.len()));
    assert_eq!(dialer.handle_input(&tail), Ok(0));

    let mut listener = Listener::new();
    let agreed = lines(&[HEADER, "/a/1", "/b/1"]);
    assert_eq!(listener.handle_input(&[&agreed[..], &tail].concat(), only_b), Ok(agreed.len()));
    assert_eq!(listener.handle_input(&tail, only_b), Ok(0));
    assert_eq!(listener.poll_transmit().unwrap(), lines(&[HEADER, "na", "/b/1"]));
}

#[test]
fn ls() {
    let ask = lines(&[HEADER, "ls"]);
    let mut listener = Listener::new();
    assert!(listener.handle_input(&ask, only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), lines(&[HEADER, "na"]));

    let mut listener = Listener::listing(&[A, B]);
    assert!(listener.handle_input(&ask, only_b).is_ok());
    let answer = [&lines(&[HEADER])[..], b"\x0d\x05/a/1\n\x05/b/1\n\n"].concat();
    assert_eq!(listener.poll_transmit().unwrap(), answer);
    // It is a question, not an end.
    assert!(listener.handle_input(&lines(&["/b/1"]), only_b).is_ok());
    assert_eq!(listener.outcome(), Some(&B));

    let mut listener = Listener::listing(&[]);
    assert!(listener.handle_input(&ask, only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), [&lines(&[HEADER])[..], b"\x01\n"].concat());
}

/// A list of exactly the longest message is sent, of one byte more is refused.
#[test]
fn a_list_up_to_one_message() {
    // Each entry is its name, a line feed and a length of two bytes; the list has a line feed more.
    let names = |last: usize| {
        let long = |len: usize| ProtocolId::new("x".repeat(len)).unwrap();
        [long(253), long(253), long(253), long(last)]
    };
    let fits = 3 * 256 + 252 + 3 + 1;
    assert_eq!(fits, MAX_MESSAGE_LEN);
    for (last, is_listed) in [(252, true), (253, false)] {
        let mut listener = Listener::listing(&names(last));
        listener.handle_input(&lines(&[HEADER, "ls"]), only_b).unwrap();
        let answer = listener.poll_transmit().unwrap();
        let listed = answer.len() == lines(&[HEADER]).len() + varint::len(1024) + MAX_MESSAGE_LEN;
        assert_eq!(listed, is_listed);
        assert_eq!(answer == lines(&[HEADER, "na"]), !is_listed);
    }
}

#[test]
fn what_the_remote_may_not_send() {
    let dial = |input: &[u8]| dialer().handle_input(input).unwrap_err();
    let listen = |input: &[u8]| Listener::new().handle_input(input, only_b).unwrap_err();
    let header = lines(&[HEADER]);
    let after = |input: &[u8]| [&header[..], input].concat();

    for error in [dial(&lines(&["/multistream/2.0.0"])), listen(&lines(&["na"])), listen(b"\x05GET /")] {
        assert_eq!(error.fault(), Fault::Remote);
        assert!(matches!(error, Error::NoHeader | Error::NotALine), "{error}");
    }
    // A proposal that was not made, or was not made yet.
    assert_eq!(dial(&lines(&[HEADER, "/c/1"])), Error::UnexpectedAnswer);
    assert_eq!(dial(&lines(&[HEADER, "/b/1"])), Error::UnexpectedAnswer);
    assert_eq!(dial(&lines(&[HEADER, HEADER])), Error::UnexpectedAnswer);
    for not_a_line in [&b"\x00"[..], b"\x01a", b"\x04na\r\t", b"\x03\xff\xfe\n", b"\x04a\nb\n", b"\x02\n\n"] {
        assert_eq!(dial(&after(not_a_line)), Error::NotALine);
        assert_eq!(listen(&after(not_a_line)), Error::NotALine);
    }
    assert!(matches!(listen(&after(&[0x80, 0x00])), Error::Frame(frame::Error::Length(_))));
}

#[test]
fn the_longest_message_and_one_byte_more() {
    let proposal = |len: usize| {
        let mut out = lines(&[HEADER]);
        frame::encode(&[&vec![b'x'; len - 1][..], b"\n"].concat(), &mut out);
        out
    };
    let mut listener = Listener::new();
    assert!(listener.handle_input(&proposal(MAX_MESSAGE_LEN), only_b).is_ok());
    assert_eq!(listener.poll_transmit().unwrap(), lines(&[HEADER, "na"]));
    let error = listener.handle_input(&[0x81, 0x08], only_b).unwrap_err();
    let too_long = frame::Error::TooLong { len: 1025, max: MAX_MESSAGE_LEN };
    assert_eq!((error.clone(), error.fault()), (Error::Frame(too_long), Fault::Remote));
    assert_eq!(listener.handle_input(&lines(&["/b/1"]), only_b), Err(error));
    assert_eq!(listener.poll_transmit(), None);
}

#[test]
fn the_last_line_and_one_more() {
    for question in ["/a/1", "ls"] {
        let mut asked = vec![HEADER];
        asked.resize(MAX_LINES, question);
        let mut listener = Listener::listing(&[B]);
        assert!(listener.handle_input(&lines(&asked), only_b).is_ok());
        assert_eq!(listener.handle_input(&lines(&["/b/1"]), only_b), Err(Error::TooManyLines));
    }
}

#[test]
fn the_most_proposals_and_one_more() {
    let many =
        |count: usize| (0..count).map(|n| ProtocolId::new(format!("/{n}")).unwrap()).collect::<Vec<_>>();
    assert_eq!(Dialer::new(vec![]).unwrap_err().fault(), Fault::Local);
    let error = Dialer::new(many(MAX_PROPOSALS + 1)).unwrap_err();
    assert_eq!((error.clone(), error.fault()), (Error::TooManyProposals { count: 64 }, Fault::Local));

    // All of them fit one negotiation with a listener like ours, the last one taken.
    let all = many(MAX_PROPOSALS);
    let last = all.last().unwrap().clone();
    let mut dialer = Dialer::new(all).unwrap();
    let mut listener = Listener::new();
    while let Some(request) = dialer.poll_transmit() {
        listener.handle_input(&request, |name| (last == name).then(|| last.clone())).unwrap();
        dialer.handle_input(&listener.poll_transmit().unwrap()).unwrap();
    }
    assert_eq!((dialer.outcome(), listener.outcome()), (Some(&last), Some(&last)));
}

#[test]
fn an_early_end() {
    let whole = lines(&[HEADER, "/a/1"]);
    for cut in 0..whole.len() {
        let mut dialer = dialer();
        assert_eq!(dialer.handle_input(&whole[..cut]), Ok(cut));
        assert_eq!(dialer.handle_end(), Err(Error::Ended));
        assert_eq!(dialer.handle_input(&whole[cut..]), Err(Error::Ended));
        let mut listener = Listener::new();
        listener.handle_input(&whole[..cut], only_b).unwrap();
        assert_eq!(listener.handle_end(), Err(Error::Ended));
        assert_eq!(listener.poll_transmit(), None);
    }
}

/// What a side took, said and agreed on, when `stream` came in chunks that end at `cuts`.
#[derive(Debug, PartialEq)]
struct Run {
    result: Result<usize, Error>,
    said: Vec<u8>,
    outcome: Option<ProtocolId>,
}

fn chunks<'a>(stream: &'a [u8], cuts: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let ends = cuts.iter().copied().chain([stream.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(from, to)| &stream[from..to])
}

fn run_listener(stream: &[u8], cuts: &[usize]) -> Run {
    let mut listener = Listener::listing(&[A, B]);
    let (mut taken, mut said) = (0, Vec::new());
    let mut result = Ok(());
    for chunk in chunks(stream, cuts) {
        match listener.handle_input(chunk, only_b) {
            Ok(used) => {
                assert!(used == chunk.len() || listener.outcome().is_some());
                taken += used;
            }
            Err(error) => {
                // What was said before depends on when it was asked for.
                said.clear();
                result = Err(error);
                break;
            }
        }
        said.extend(listener.poll_transmit().unwrap_or_default());
    }
    Run { result: result.map(|()| taken), said, outcome: listener.outcome().cloned() }
}

fn run_dialer(stream: &[u8], cuts: &[usize]) -> Run {
    let mut dialer = dialer();
    let (mut taken, mut said) = (0, Vec::new());
    let mut result = Ok(());
    for chunk in chunks(stream, cuts) {
        match dialer.handle_input(chunk) {
            Ok(used) => {
                assert!(used == chunk.len() || dialer.outcome().is_some());
                taken += used;
            }
            Err(error) => {
                said.clear();
                result = Err(error);
                break;
            }
        }
        said.extend(dialer.poll_transmit().unwrap_or_default());
    }
    Run { result: result.map(|()| taken), said, outcome: dialer.outcome().cloned() }
}

/// Streams that get somewhere: lines that mean something, with bytes between and after them that may not.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => prop::sample::select(vec!["na", "ls", "/a/1", "/b/1", "/c/1", HEADER]).prop_map(|line| lines(&[line])),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    let rest = proptest::collection::vec(line, 0..6).prop_map(|parts| parts.concat());
    (prop::bool::weighted(0.9), rest).prop_map(
        |(header, rest)| {
            if header { [lines(&[HEADER]), rest].concat() } else { rest }
        },
    )
}

proptest! {
    #[test]
    fn chunks_do_not_matter(stream in any_stream(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let singly: Vec<_> = (1..stream.len()).collect();
        for run in [run_listener, run_dialer] {
            let whole = run(&stream, &[]);
            prop_assert_eq!(&run(&stream, &cuts), &whole);
            prop_assert_eq!(&run(&stream, &singly), &whole);
        }
    }

    #[test]
    fn strangers_bytes(stream: Vec<u8>) {
        run_listener(&stream, &[]);
        run_dialer(&stream, &[]);
    }

    #[test]
    fn both_sides_agree_on_the_first_in_common(
        proposed in proptest::collection::vec(0..20_u8, 1..10),
        supported in proptest::collection::btree_set(0..20_u8, 0..6),
    ) {
        let id = |n: &u8| ProtocolId::new(format!("/{n}")).unwrap();
        let supported: Vec<_> = supported.iter().map(id).collect();
        let proposed: Vec<_> = proposed.iter().map(id).collect();
        let expected = proposed.iter().find(|protocol| supported.contains(protocol)).cloned();
        let mut dialer = Dialer::new(proposed).unwrap();
        let mut listener = Listener::new();
        let mut result = Ok(0);
        while let Some(request) = dialer.poll_transmit() {
            let used = listener
                .handle_input(&request, |name| supported.iter().find(|protocol| **protocol == name).cloned());
            prop_assert_eq!(used, Ok(request.len()));
            result = dialer.handle_input(&listener.poll_transmit().unwrap());
        }
        prop_assert_eq!(result.is_ok(), expected.is_some());
        prop_assert_eq!(dialer.outcome(), expected.as_ref());
        prop_assert_eq!(listener.outcome(), expected.as_ref());
    }
}
