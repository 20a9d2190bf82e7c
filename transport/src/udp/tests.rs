use std::{future::poll_fn, io::IoSliceMut, net::SocketAddr, sync::Arc, time::Duration};

use futures::FutureExt as _;
use quinn::AsyncUdpSocket as _;
use quinn::udp::{RecvMeta, Transmit};
use tokio::time::timeout;

use super::{Kind, MAX_QUEUED, QuicSocket, Socket, Sockets};

const LONG: Duration = Duration::from_secs(20);

fn socket(address: &str) -> Socket {
    Sockets::new().bind(address.parse().expect("an address")).expect("loopback")
}

/// What quinn does, for one datagram.
async fn read(quic: &Arc<QuicSocket>) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 64 * 1024];
    poll_fn(|cx| {
        loop {
            let mut metas = [RecvMeta::default()];
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let count = std::task::ready!(quic.poll_recv(cx, &mut slices, &mut metas)).expect("it lives");
            // What was not QUIC leaves nothing.
            if count > 0 && metas[0].len > 0 {
                let len = metas[0].stride.min(metas[0].len);
                return std::task::Poll::Ready((slices[0][..len].to_vec(), metas[0].addr));
            }
        }
    })
    .await
}

#[tokio::test]
async fn each_gets_what_is_meant_for_it() {
    for loopback in ["127.0.0.1:0", "[::1]:0"] {
        let ours = socket(loopback);
        let (quic, mut receiver) = (ours.quic().expect("none yet"), ours.receiver().expect("none yet"));
        let theirs = socket(loopback);
        for datagram in [&b"\x85rtp"[..], b"", b"\x01stun", b"\x16dtls", b"\x0ajunk", b"\xc3quic"] {
            theirs.send_to(datagram, ours.local_addr(), None).await.expect("sent");
        }
        // The endpoint reads for both.
        let (datagram, source) = timeout(LONG, read(&quic)).await.expect("it comes");
        assert_eq!((&datagram[..], source), (&b"\xc3quic"[..], theirs.local_addr()));
        for (kind, bytes) in [(Kind::Stun, &b"\x01stun"[..]), (Kind::Dtls, b"\x16dtls")] {
            let datagram = receiver.recv().now_or_never().expect("it waits there").expect("it lives");
            assert_eq!((datagram.kind, &datagram.bytes[..]), (kind, bytes));
            assert_eq!((datagram.source, datagram.local), (theirs.local_addr(), ours.local_addr()));
        }
        assert_eq!(ours.counts().junk, 2, "the empty one has nothing to tell it by, nor to be counted");
    }
}

#[tokio::test]
async fn the_receiver_reads_where_there_is_no_endpoint() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let mut receiver = ours.receiver().expect("none yet");
    let send = async |datagram: &[u8]| theirs.send_to(datagram, ours.local_addr(), None).await.expect("sent");
    send(b"\xc3quic").await;
    send(b"\x01one").await;
    let datagram = timeout(LONG, receiver.recv()).await.expect("it comes").expect("it lives");
    assert_eq!(&datagram.bytes[..], b"\x01one");
    assert_eq!(ours.counts().junk, 1, "nobody is there for QUIC");

    // One comes: it reads for both. It goes: the receiver, which waits, reads again.
    let quic = ours.quic().expect("none yet");
    assert!(ours.quic().is_err() && ours.receiver().is_err(), "one of each");
    let waiting = tokio::spawn(async move {
        let first = receiver.recv().await.expect("it lives");
        (first, receiver.recv().await.expect("it lives"))
    });
    send(b"\x01two").await;
    send(b"\xc3quic").await;
    timeout(LONG, read(&quic)).await.expect("it comes");
    tokio::task::yield_now().await;
    drop(quic);
    send(b"\x01three").await;
    let (two, three) = timeout(LONG, waiting).await.expect("they come").expect("no panic");
    assert_eq!((&two.bytes[..], &three.bytes[..]), (&b"\x01two"[..], &b"\x01three"[..]));
}

#[tokio::test]
async fn an_endpoint_that_retired_leaves_the_socket_to_the_next() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let old = ours.quic().expect("none yet");
    old.retire();
    let new = ours.quic().expect("the place is free");
    // It retires again, by its end, and takes nothing from the next.
    drop(old);
    assert!(ours.quic().is_err());
    theirs.send_to(b"\x40", ours.local_addr(), None).await.expect("sent");
    timeout(LONG, read(&new)).await.expect("it comes");
}

#[tokio::test]
async fn a_full_queue_loses_what_comes_then_and_counts_it() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let (quic, mut receiver) = (ours.quic().expect("none yet"), ours.receiver().expect("none yet"));
    let more = 10;
    for sent in 1..=MAX_QUEUED + more {
        theirs.send_to(b"\x01", ours.local_addr(), None).await.expect("sent");
        if sent % 50 == 0 || sent == MAX_QUEUED + more {
            // So that the kernel loses nothing.
            theirs.send_to(b"\xc3", ours.local_addr(), None).await.expect("sent");
            timeout(LONG, read(&quic)).await.expect("it comes");
        }
    }
    assert_eq!(ours.counts().overflown, more as u64);
    for _ in 0..MAX_QUEUED {
        receiver.recv().now_or_never().expect("it waits there").expect("it lives");
    }
    assert!(receiver.recv().now_or_never().is_none());
}

/// The kernel reports "port unreachable" of what was sent before.
#[tokio::test]
async fn word_that_nobody_is_there_ends_nothing() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let nobody = socket("127.0.0.1:0").local_addr();
    let mut receiver = ours.receiver().expect("none yet");
    for _ in 0..100 {
        ours.send_to(b"\x01", nobody, None).await.expect("no error of the socket's");
    }
    theirs.send_to(b"\x01", ours.local_addr(), None).await.expect("sent");
    timeout(LONG, receiver.recv()).await.expect("it comes").expect("it lives");
}

#[tokio::test]
async fn a_long_datagram_is_lost_and_ends_nothing() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let mut receiver = theirs.receiver().expect("none yet");
    ours.send_to(&vec![1; 100_000], theirs.local_addr(), None).await.expect("lost");
    ours.send_to(&vec![1; 60_000], theirs.local_addr(), None).await.expect("sent");
    assert_eq!(
        timeout(LONG, receiver.recv()).await.expect("it comes").expect("it lives").bytes.len(),
        60_000
    );
}

/// GSO on one side, GRO on the other: several datagrams in one go, of which one is not QUIC.
#[tokio::test]
async fn merged_datagrams_are_told_apart() {
    let (ours, theirs) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let (quic, mut receiver) = (ours.quic().expect("none yet"), ours.receiver().expect("none yet"));
    let sender = theirs.quic().expect("none yet");
    let contents = [[0x40_u8; 1200], [0x01; 1200], [0x41; 1200]].concat();
    let size = if sender.max_transmit_segments() > 1 { contents.len() } else { 1200 };
    let mut poller = Arc::clone(&sender).create_io_poller();
    for contents in contents.chunks(size) {
        let transmit = Transmit {
            destination: ours.local_addr(),
            ecn: None,
            contents,
            segment_size: Some(1200),
            src_ip: None,
        };
        timeout(LONG, poll_fn(|cx| poller.as_mut().poll_writable(cx)))
            .await
            .expect("at once")
            .expect("it lives");
        sender.try_send(&transmit).expect("there is room");
    }
    assert_eq!(timeout(LONG, read(&quic)).await.expect("it comes").0, [0x40; 1200]);
    let other = timeout(LONG, async {
        loop {
            tokio::select! {
                biased;
                datagram = receiver.recv() => break datagram,
                _ = read(&quic) => {}
            }
        }
    });
    assert_eq!(&other.await.expect("it comes").expect("it lives").bytes[..], [1; 1200]);
}
