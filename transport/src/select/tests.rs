use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures::FutureExt;
use multistream::{HEADER, MAX_LINES, MAX_MESSAGE_LEN, MAX_PROPOSALS};
use peerage_core::frame;
use proptest::prelude::*;
use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;

const A: ProtocolId = ProtocolId::from_static("/a/1");
const B: ProtocolId = ProtocolId::from_static("/b/1");

fn lines(lines: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in lines {
        frame::encode(format!("{line}\n").as_bytes(), &mut out);
    }
    out
}

fn only(protocol: ProtocolId) -> impl FnMut(&str) -> Option<ProtocolId> {
    move |name| (protocol == *name).then(|| protocol.clone())
}

/// Without tokio's budget, by which a task that has done much waits although it could go on.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    tokio::task::unconstrained(future).now_or_never().expect("it does not wait")
}

/// Both sides of a stream whose other end says `said` and nothing more.
async fn hearing(said: &[u8]) -> (DuplexStream, DuplexStream) {
    let (near, mut far) = duplex(64 * 1024);
    far.write_all(said).await.unwrap();
    (near, far)
}

#[tokio::test]
async fn they_agree_and_what_follows_is_still_there() {
    let (mut near, mut far) = duplex(1024);
    let ours = async {
        assert_eq!(dial(&mut near, vec![A, B]).await.unwrap(), B);
        near.write_all(b"question").await.unwrap();
        let mut answer = [0; 6];
        near.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    };
    let theirs = async {
        assert_eq!(listen(&mut far, only(B)).await.unwrap(), B);
        far.write_all(b"answer").await.unwrap();
        let mut question = [0; 8];
        far.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
    };
    tokio::join!(ours, theirs);
}

#[tokio::test]
async fn not_a_byte_of_what_was_sent_along_is_read() {
    let mut said = lines(&[HEADER, "/a/1"]);
    said.extend_from_slice(b"\x04more");
    let (mut near, _far) = hearing(&said).await;
    assert_eq!(listen(&mut near, only(A)).await.unwrap(), A);
    let (mut other, _far) = hearing(&said).await;
    assert_eq!(dial(&mut other, vec![A]).await.unwrap(), A);
    for io in [&mut near, &mut other] {
        let mut rest = [0; 5];
        io.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"\x04more");
    }
}

/// Notes each write, and refuses them from the `refuse`th on.
struct Writes {
    io: DuplexStream,
    writes: Vec<Vec<u8>>,
    refuse: usize,
}

impl AsyncRead for Writes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Writes {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes.len() >= self.refuse {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.writes.push(buf.to_vec());
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn header_and_proposal_leave_in_one_write() {
    let (io, _far) = hearing(&lines(&[HEADER, "na", "/b/1"])).await;
    let mut io = Writes { io, writes: Vec::new(), refuse: usize::MAX };
    assert_eq!(dial(&mut io, vec![A, B]).await.unwrap(), B);
    assert_eq!(io.writes, [lines(&[HEADER, "/a/1"]), lines(&["/b/1"])]);
}

#[tokio::test]
async fn an_agreement_that_nobody_reads_counts() {
    let (io, _far) = hearing(&lines(&[HEADER, "/a/1"])).await;
    // The header is answered when it is there, the proposal when that is.
    let mut io = Writes { io, writes: Vec::new(), refuse: 1 };
    assert_eq!(listen(&mut io, only(A)).await.unwrap(), A);

    let (io, _far) = hearing(&lines(&[HEADER, "/a/1"])).await;
    let mut io = Writes { io, writes: Vec::new(), refuse: 0 };
    assert!(matches!(listen(&mut io, only(A)).await, Err(Error::Io(_))));
}

#[tokio::test]
async fn lengths_beyond_the_limit_are_refused_without_their_bodies() {
    for length in [MAX_MESSAGE_LEN as u64 + 1, (1 << 31) - 1, 1 << 31, u64::from(u32::MAX), varint::MAX] {
        let mut said = Vec::new();
        varint::encode(length, &mut said);
        for said in [said.clone(), [lines(&[HEADER]), said].concat()] {
            let (mut near, _far) = hearing(&said).await;
            let refused = at_once(listen(&mut near, only(A))).unwrap_err();
            assert_eq!(refused.fault(), Fault::Remote);
            let (mut near, _far) = hearing(&said).await;
            let refused = at_once(dial(&mut near, vec![A])).unwrap_err();
            assert_eq!(refused.fault(), Fault::Remote);
        }
    }
    for endless in [&[0xff; 9][..], &[0xff; 10], &[0xff; 11], &[0x80, 0x00]] {
        let (mut near, _far) = hearing(endless).await;
        let refused = at_once(listen(&mut near, only(A))).unwrap_err();
        assert_eq!(refused.fault(), Fault::Remote);
    }
}

#[tokio::test]
async fn the_longest_message_is_read_in_pieces() {
    // A name of that length is no protocol of ours, but it is a line, and refused as any other.
    let name = "x".repeat(MAX_MESSAGE_LEN - 1);
    let (mut near, _far) = hearing(&lines(&[HEADER, &name, "/a/1"])).await;
    assert_eq!(listen(&mut near, only(A)).await.unwrap(), A);
}

#[tokio::test]
async fn as_many_lines_as_the_limit_and_one_more() {
    for (refusals, agreed) in [(MAX_LINES - 2, true), (MAX_LINES - 1, false)] {
        for question in ["ls", "/b/1"] {
            let mut said = vec![HEADER];
            said.extend(std::iter::repeat_n(question, refusals));
            said.push("/a/1");
            let (mut near, _far) = hearing(&lines(&said)).await;
            assert_eq!(listen(&mut near, only(A)).await.is_ok(), agreed);
        }
    }
    let many = |count| (0..count).map(|n| ProtocolId::new(format!("/{n}")).unwrap()).collect::<Vec<_>>();
    for (count, fault) in [(MAX_PROPOSALS, Fault::Remote), (MAX_PROPOSALS + 1, Fault::Local)] {
        let mut said = vec![HEADER];
        said.extend(std::iter::repeat_n("na", count));
        let (mut near, _far) = hearing(&lines(&said)).await;
        assert_eq!(dial(&mut near, many(count)).await.unwrap_err().fault(), fault);
    }
}

#[tokio::test]
async fn nothing_in_common() {
    let (mut near, mut far) = duplex(1024);
    let (ours, theirs) = tokio::join!(async move { dial(&mut near, vec![A]).await }, async {
        listen(&mut far, only(B)).await
    });
    assert!(matches!(ours, Err(Error::Negotiation(multistream::Error::NoneSupported))));
    assert!(matches!(theirs, Err(Error::Negotiation(multistream::Error::Ended))));
}

#[tokio::test]
async fn an_end_at_any_byte_is_an_error() {
    let said = lines(&[HEADER, "/a/1"]);
    for end in 0..said.len() {
        let (mut near, far) = hearing(&said[..end]).await;
        drop(far);
        let error = dial(&mut near, vec![A]).await.unwrap_err();
        // The other end is gone already when the header is written.
        assert!(matches!(error, Error::Io(_)), "{error}");
        let (mut near, mut far) = hearing(&said[..end]).await;
        far.shutdown().await.unwrap();
        for error in
            [listen(&mut near, only(A)).await.unwrap_err(), dial(&mut near, vec![A]).await.unwrap_err()]
        {
            assert!(matches!(error, Error::Negotiation(multistream::Error::Ended)), "{error}");
        }
    }
}

proptest! {
    /// Whatever a peer says, and in whatever pieces it comes: there is an end to it, nothing of what follows an
    /// agreement is lost, and an agreement is on what was offered.
    #[test]
    fn anything_may_be_said(
        words in prop::collection::vec(
            prop_oneof![
                Just(lines(&[HEADER])),
                Just(lines(&["/a/1"])),
                Just(lines(&["/b/1"])),
                Just(lines(&["na"])),
                Just(lines(&["ls"])),
                prop::collection::vec(any::<u8>(), 0..300),
            ],
            0..8,
        ),
        greets in any::<bool>(),
        pipe in 1_usize..600,
    ) {
        let mut said = if greets { lines(&[HEADER]) } else { Vec::new() };
        said.extend(words.concat());
        for dials in [true, false] {
            let (mut near, mut far) = duplex(pipe);
            let ours = async {
                let agreed = match dials {
                    true => dial(&mut near, vec![A, B]).await,
                    false => listen(&mut near, only(A)).await,
                };
                let mut rest = Vec::new();
                if agreed.is_ok() {
                    near.read_to_end(&mut rest).await.unwrap();
                }
                drop(near);
                agreed.map(|agreed| (agreed, rest))
            };
            let theirs = async {
                // An answer that nobody reads must not hold up the peer's words.
                let (mut read, mut write) = tokio::io::split(&mut far);
                let mut heard = Vec::new();
                let talk = async {
                    let _ = write.write_all(&said).await;
                    let _ = write.shutdown().await;
                };
                let _ = tokio::join!(talk, read.read_to_end(&mut heard));
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (agreed, ()) = runtime.block_on(async { tokio::join!(ours, theirs) });
            if let Ok((protocol, rest)) = agreed {
                prop_assert!(protocol == A || (dials && protocol == B));
                let name = lines(&[protocol.as_str()]);
                let before = said.len() - rest.len();
                prop_assert_eq!(&said[before..], &rest);
                prop_assert!(said[..before].ends_with(&name), "the agreement is what was read last");
            }
        }
    }
}
