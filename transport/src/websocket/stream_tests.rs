//! The byte stream, against tungstenite and against peers that are scripted.

use std::{future::poll_fn, time::Duration};

use futures::{SinkExt as _, StreamExt as _, future::join};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream as Theirs,
    tungstenite::{
        Message,
        protocol::{Role, frame::coding::CloseCode},
    },
};

use super::{super::MAX_PAYLOAD_LEN, *};
use crate::websocket::Violation;

const PIPE: usize = 8 * 1024;
const HOUR: Duration = Duration::from_secs(3600);

async fn theirs(role: Role) -> (WebSocketStream<DuplexStream>, Theirs<DuplexStream>) {
    let (near, far) = duplex(PIPE);
    let ours = match role {
        Role::Server => WebSocketStream::client(near, Vec::new()),
        Role::Client => WebSocketStream::server(near, Vec::new()),
    };
    (ours, Theirs::from_raw_socket(far, role, None).await)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(len).collect()
}

/// On the server's side, of a client that says these bytes and then listens. What was read, how it ended, and what the
/// client was told.
async fn scripted(says: &[u8]) -> (Vec<u8>, io::Result<()>, Vec<u8>) {
    scripted_in(says, usize::MAX).await
}

async fn scripted_in(says: &[u8], piece: usize) -> (Vec<u8>, io::Result<()>, Vec<u8>) {
    let (near, mut far) = duplex(1 << 20);
    let mut ours = WebSocketStream::server(near, Vec::new());
    let mut got = Vec::new();
    let reading = async {
        let result = ours.read_to_end(&mut got).await.map(drop);
        let _ = ours.shutdown().await;
        drop(ours);
        result
    };
    let telling = async {
        for piece in says.chunks(piece.min(says.len().max(1))) {
            far.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut told = Vec::new();
        far.shutdown().await.unwrap();
        far.read_to_end(&mut told).await.unwrap();
        told
    };
    let (result, told) = timeout(HOUR, join(reading, telling)).await.unwrap();
    (got, result, told)
}

/// A client's frame, with a mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65536 => bytes.extend([&[0x80 | 126][..], &(len as u16).to_be_bytes()].concat()),
        len => bytes.extend([&[0x80 | 127][..], &(len as u64).to_be_bytes()].concat()),
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn violation(error: io::Error) -> Violation {
    match Error::from(error) {
        Error::Violation(violation) => violation,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn bytes_go_both_ways_with_tungstenite() {
    for role in [Role::Server, Role::Client] {
        let (ours, mut theirs) = theirs(role).await;
        let sent = bytes(1 << 20);
        let echo = async {
            while let Some(message) = theirs.next().await {
                match message.unwrap() {
                    Message::Binary(bytes) => {
                        assert!(bytes.len() <= MAX_PAYLOAD_LEN);
                        theirs.send(Message::Binary(bytes)).await.unwrap();
                    }
                    Message::Close(_) => break,
                    other => panic!("{other:?}"),
                }
            }
        };
        let (mut reader, mut writer) = tokio::io::split(ours);
        let mut got = vec![0; sent.len()];
        let both = async {
            join(async { writer.write_all(&sent).await.and(writer.flush().await).unwrap() }, async {
                reader.read_exact(&mut got).await.unwrap();
            })
            .await;
            writer.shutdown().await.unwrap();
        };
        timeout(HOUR, join(echo, both)).await.unwrap();
        assert!(got == sent);
    }
}

#[tokio::test]
async fn what_is_written_together_is_one_message() {
    let (mut ours, mut theirs) = theirs(Role::Server).await;
    for piece in ["a", "bc", "", "def"] {
        ours.write_all(piece.as_bytes()).await.unwrap();
    }
    ours.flush().await.unwrap();
    assert_eq!(theirs.next().await.unwrap().unwrap(), Message::binary("abcdef"));
    ours.flush().await.unwrap();
    ours.shutdown().await.unwrap();
    let Message::Close(Some(close)) = theirs.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(close.code, CloseCode::Normal);
}

#[tokio::test]
async fn fragments_and_pings_between_them() {
    let says = [
        frame(0x02, b"ab"),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x8a, b"unasked"),
        frame(0x80, b"c"),
        frame(0x82, &bytes(70_000)),
        frame(0x88, &1000_u16.to_be_bytes()),
    ]
    .concat();
    for piece in [1, 3, 4096, usize::MAX] {
        let (got, result, told) = scripted_in(&says, piece).await;
        result.unwrap();
        assert!(got == [b"abc", &bytes(70_000)[..]].concat());
        assert_eq!(told, b"\x8a\x0dare you there\x88\x02\x03\xe8", "in pieces of {piece}");
    }
}

#[tokio::test]
async fn masks_are_taken_off() {
    // RFC 6455, section 5.7, as binary.
    let says = b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x80\x37\xfa\x21\x3d";
    let (got, result, _) = scripted(says).await;
    result.unwrap();
    assert_eq!(got, b"Hello");
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_it_and_is_told() {
    for (says, error, status) in [
        (b"\x82\x01a".to_vec(), Violation::Unmasked, 1002_u16),
        (frame(0x81, b"text"), Violation::Text, 1003),
        (frame(0xc2, b"compressed"), Violation::ReservedBit, 1002),
        (frame(0x83, b"x"), Violation::UnknownOpcode, 1002),
        (frame(0x80, b"x"), Violation::Fragment, 1002),
        ([frame(0x02, b""), frame(0x82, b"x")].concat(), Violation::Fragment, 1002),
        (frame(0x09, b"x"), Violation::Control, 1002),
        (frame(0x89, &[0; 126]), Violation::Control, 1002),
        (frame(0x88, &[3]), Violation::Close, 1002),
        ([&[0x82, 0xff][..], &(256_u64 << 20).to_be_bytes()].concat(), Violation::TooLong(256 << 20), 1009),
    ] {
        let (got, result, told) = scripted(&[frame(0x82, b"before"), says].concat()).await;
        assert_eq!(violation(result.unwrap_err()), error);
        assert_eq!(got, b"before");
        assert_eq!(told, [&[0x88, 2][..], &status.to_be_bytes()].concat());
    }
}

#[tokio::test]
async fn a_server_that_masks_is_refused() {
    let (near, mut far) = duplex(PIPE);
    let mut ours = WebSocketStream::client(near, frame(0x82, b"x"));
    assert_eq!(violation(ours.read_u8().await.unwrap_err()), Violation::Masked);
    assert_eq!(violation(ours.read_u8().await.unwrap_err()), Violation::Masked, "it stays");
    assert_eq!(violation(ours.write_u8(1).await.unwrap_err()), Violation::Masked);
    let mut told = [0; 8];
    far.read_exact(&mut told).await.unwrap();
    assert_eq!(told[..2], [0x88, 0x82]);
}

#[tokio::test]
async fn the_largest_frame_needs_no_memory() {
    let (near, mut far) = duplex(PIPE);
    let mut ours = WebSocketStream::server(near, Vec::new());
    let header = [&[0x82, 0xff][..], &super::super::MAX_FRAME_LEN.to_be_bytes(), &[0; 4]].concat();
    far.write_all(&header).await.unwrap();
    far.write_all(&[7; 100]).await.unwrap();
    let mut got = vec![0; 1 << 20];
    assert_eq!(ours.read(&mut got).await.unwrap(), 100, "what has come is read before the rest");
    drop(far);
    let error = ours.read(&mut got).await.unwrap_err();
    assert!(matches!(Error::from(error), Error::Truncated));
}

#[tokio::test]
async fn an_end_between_frames_is_an_end_and_inside_one_is_not() {
    let says = [frame(0x02, b"ab"), frame(0x80, b"cd")].concat();
    for cut in 0..=says.len() {
        let (near, mut far) = duplex(PIPE);
        far.write_all(&says[..cut]).await.unwrap();
        drop(far);
        let mut got = Vec::new();
        let result = WebSocketStream::server(near, Vec::new()).read_to_end(&mut got).await;
        assert_eq!(result.is_ok(), [0, 8, 16].contains(&cut), "{cut}: {result:?}");
        assert!(b"abcd".starts_with(&got));
    }
}

#[tokio::test]
async fn a_million_pings_are_answered_with_little() {
    let (near, mut far) = duplex(PIPE);
    let mut ours = WebSocketStream::server(near, Vec::new());
    let pings = frame(0x89, b"?").repeat(1000);
    let telling = async {
        for _ in 0..1000 {
            far.write_all(&pings).await.unwrap();
        }
        far.write_all(&frame(0x82, b"x")).await.unwrap();
    };
    let (read, ()) = timeout(HOUR, join(ours.read_u8(), telling)).await.unwrap();
    assert_eq!(read.unwrap(), b'x');
}

/// Whoever sends nothing but frames without payload does not keep the thread for itself.
#[tokio::test]
async fn others_get_their_turn() {
    let (near, mut far) = duplex(1 << 20);
    far.write_all(&frame(0x82, b"").repeat(10_000)).await.unwrap();
    let mut ours = WebSocketStream::server(near, Vec::new());
    let mut turns = 0;
    let mut space = [0; 1];
    let polled = poll_fn(|cx| {
        turns += 1;
        let mut buf = ReadBuf::new(&mut space);
        let polled = Pin::new(&mut ours).poll_read(cx, &mut buf);
        if turns < 300 { polled.map(|_| ()) } else { Poll::Ready(()) }
    });
    polled.await;
    assert_eq!(turns, 300);
}

#[tokio::test]
async fn last_words_arrive_and_the_end_is_waited_for() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut theirs) = theirs(role).await;
        let sent = bytes(200_000);
        let ending = async {
            ours.write_all(&sent).await.unwrap();
            ours.shutdown().await.unwrap();
            assert_eq!(ours.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            // As `Leaving` does: everything that comes is read, until the other side has gone.
            let mut rest = Vec::new();
            ours.read_to_end(&mut rest).await.unwrap();
            rest
        };
        let peer = async {
            let mut got = Vec::new();
            // It speaks before it reads.
            theirs.send(Message::binary(vec![1; 1000])).await.unwrap();
            while let Some(Ok(message)) = theirs.next().await {
                if let Message::Binary(bytes) = message {
                    got.extend(bytes);
                }
            }
            drop(theirs);
            got
        };
        let (rest, got) = timeout(HOUR, join(ending, peer)).await.unwrap();
        assert!(got == sent);
        assert_eq!(rest, vec![1; 1000]);
    }
}

#[tokio::test]
async fn whoever_is_told_goodbye_reads_the_end_and_can_say_nothing() {
    for role in [Role::Server, Role::Client] {
        let (mut ours, mut theirs) = theirs(role).await;
        theirs.send(Message::binary("last")).await.unwrap();
        ours.write_all(b"too late").await.unwrap();
        theirs.close(None).await.unwrap();
        let mut got = Vec::new();
        ours.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last");
        assert_eq!(ours.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        ours.flush().await.unwrap();
        ours.shutdown().await.unwrap();
        drop(ours);
        let rest: Vec<_> = theirs.collect().await;
        assert!(matches!(rest.first(), Some(Ok(Message::Close(_)))), "{rest:?}");
    }
}

#[tokio::test]
async fn an_error_that_the_peer_closes_with_is_one() {
    for (status, error) in [(1000_u16, false), (1001, false), (1002, true), (1011, true), (4000, true)] {
        let (_, result, _) = scripted(&frame(0x88, &status.to_be_bytes())).await;
        assert_eq!(result.is_err(), error, "{status}");
        if let Err(found) = result {
            assert!(matches!(Error::from(found), Error::Closed(told) if told == status));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_waited_for() {
    let (near, far) = duplex(PIPE);
    let mut ours = WebSocketStream::client(near, Vec::new());
    let mut written = 0;
    while let Ok(taken) = timeout(Duration::from_secs(1), ours.write(&[0; 10_000])).await {
        written += taken.unwrap();
    }
    assert!(written <= PIPE + 2 * MAX_PAYLOAD_LEN, "{written}");
    assert!(timeout(HOUR, ours.flush()).await.is_err());
    assert!(timeout(HOUR, ours.shutdown()).await.is_err());
    drop(far);
    assert!(ours.flush().await.is_err());
}
