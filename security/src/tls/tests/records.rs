//! The stream after the handshake: sizes, ends, and what cannot be decrypted.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::{Error, Flip, TlsStream, both, config, config_of_2, connect, read_error};
use crate::Fault;

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

async fn streams() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>) {
    let ((a, _), (b, _)) = connect(&config(1), &config_of_2()).await;
    (a, b)
}

/// One side's stream, and the other's with what is under it.
async fn over_a_wire() -> (TlsStream<DuplexStream>, TlsStream<DuplexStream>, Wire) {
    let (near, inner) = duplex(256 * 1024);
    let (far, outer) = duplex(256 * 1024);
    let (mut inner, mut outer) = (inner, outer);
    let (one, two) = (config(1), config_of_2());
    let handshake = both((near, far), &one, &two);
    let ((one, two), ()) = {
        let relay = async { drop(tokio::io::copy_bidirectional(&mut inner, &mut outer).await) };
        tokio::select! {
            done = handshake => (done, ()),
            () = relay => unreachable!("both ends are open"),
        }
    };
    (one.unwrap().0, two.unwrap().0, Wire { from_a: inner, to_b: outer })
}

/// What lies between two streams.
struct Wire {
    from_a: DuplexStream,
    to_b: DuplexStream,
}

impl Wire {
    /// What `a` has sent.
    async fn take(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 256 * 1024];
        let len = self.from_a.read(&mut bytes).await.unwrap();
        bytes.truncate(len);
        bytes
    }
}

#[tokio::test]
async fn a_farewell_is_an_end_and_only_that() {
    let (mut a, mut b) = streams().await;
    a.write_all(b"last words").await.unwrap();
    a.shutdown().await.unwrap();
    let mut read = Vec::new();
    b.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"last words");
    assert_eq!(b.read(&mut [0; 1]).await.unwrap(), 0, "and stays one");
    // The other direction is still open.
    b.write_all(b"goodbye").await.unwrap();
    b.flush().await.unwrap();
    let mut read = [0; 7];
    a.read_exact(&mut read).await.unwrap();
    assert!(a.write_all(b"more").await.is_err(), "after the farewell nothing is sent");
}

#[tokio::test]
async fn a_socket_that_ends_is_no_end() {
    let (mut a, mut b) = streams().await;
    a.write_all(b"last words").await.unwrap();
    a.flush().await.unwrap();
    drop(a);
    let mut read = [0; 10];
    b.read_exact(&mut read).await.unwrap();
    for _ in 0..2 {
        let error = read_error(&mut b).await;
        assert!(matches!(error, Error::Truncated), "{error}");
        assert_eq!(error.fault(), Fault::Network);
    }
}

#[tokio::test]
async fn a_record_cut_at_any_byte_is_no_end_either() {
    let (mut a, _b, mut wire) = over_a_wire().await;
    a.write_all(b"words").await.unwrap();
    a.flush().await.unwrap();
    let whole = wire.take().await.len();
    for k in [1, 4, 5, 6, whole - 1] {
        let (mut a, mut b, mut wire) = over_a_wire().await;
        a.write_all(b"words").await.unwrap();
        a.flush().await.unwrap();
        let record = wire.take().await;
        wire.to_b.write_all(&record[..k]).await.unwrap();
        wire.to_b.shutdown().await.unwrap();
        let error = read_error(&mut b).await;
        assert!(matches!(error, Error::Truncated), "{k} of {whole}: {error}");
    }
}

#[tokio::test]
async fn a_record_that_does_not_open_ends_the_stream_for_good() {
    for at in [0, 5, 9, 20] {
        let (mut a, mut b, mut wire) = over_a_wire().await;
        a.write_all(b"words").await.unwrap();
        a.flush().await.unwrap();
        let mut record = wire.take().await;
        record[at] ^= 1;
        wire.to_b.write_all(&record).await.unwrap();
        record[at] ^= 1;
        wire.to_b.write_all(&record).await.unwrap();
        for _ in 0..2 {
            let error = read_error(&mut b).await;
            assert!(matches!(error, Error::Decrypt | Error::Protocol(_)), "{at}: {error}");
            assert_eq!(error.fault(), Fault::Remote);
        }
    }
}

#[tokio::test]
async fn replayed_dropped_and_swapped_records_do_not_open() {
    let order: [&[usize]; 3] = [&[0, 0], &[1], &[1, 0]];
    for order in order {
        let (mut a, mut b, mut wire) = over_a_wire().await;
        let mut records = Vec::new();
        for words in [b"one", b"two"] {
            a.write_all(words).await.unwrap();
            a.flush().await.unwrap();
            records.push(wire.take().await);
        }
        for which in order {
            wire.to_b.write_all(&records[*which]).await.unwrap();
        }
        // What came whole before it may be lost with it.
        let error = b.read_to_end(&mut Vec::new()).await.unwrap_err();
        let error = super::tls_error(error);
        assert!(matches!(error, Error::Decrypt), "{order:?}: {error}");
    }
}

#[tokio::test]
async fn four_megabytes() {
    let (mut a, mut b) = streams().await;
    let sent = pattern(4 << 20);
    let write = async {
        a.write_all(&sent).await.unwrap();
        a.shutdown().await.unwrap();
    };
    let mut read = Vec::new();
    let (_, ()) = tokio::join!(b.read_to_end(&mut read), write);
    assert!(read == sent, "{} bytes", read.len());
}

/// No tickets, which would let the client resume the session without proving anything.
#[tokio::test]
async fn after_the_handshake_a_server_says_nothing_unasked() {
    let (_a, mut b, mut wire) = over_a_wire().await;
    b.flush().await.unwrap();
    let said = tokio::select! {
        biased;
        len = wire.to_b.read_u8() => Some(len),
        () = tokio::task::yield_now() => None,
    };
    assert!(said.is_none());
}

#[tokio::test]
async fn nothing_of_the_handshake_depends_on_how_it_is_cut() {
    for at_once in [1, 2, 3, 7, 64, 1000] {
        let (near, far) = duplex(64);
        let pipe = (Flip::in_pieces_of(near, at_once), Flip::in_pieces_of(far, at_once));
        let (one, two) = both(pipe, &config(1), &config_of_2()).await;
        assert_eq!(one.unwrap().1.peer, super::key(2).peer_id(), "{at_once}");
        assert_eq!(two.unwrap().1.peer, super::key(1).peer_id(), "{at_once}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_sizes_in_both_directions(
        pipe in 64..5000usize,
        writes in proptest::collection::vec(1..40_000usize, 1..6),
        reads in proptest::collection::vec(1..40_000usize, 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (one, two) = both(duplex(pipe), &config_of_2(), &config_of_2()).await;
            let (mut a, mut b) = (one.unwrap().0, two.unwrap().0);
            pass(&mut a, &mut b, &writes, &reads).await;
            pass(&mut b, &mut a, &writes, &reads).await;
        });
    }
}

async fn pass(
    from: &mut TlsStream<DuplexStream>,
    to: &mut TlsStream<DuplexStream>,
    writes: &[usize],
    reads: &[usize],
) {
    let sent = pattern(writes.iter().sum());
    let write = async {
        let mut rest = &sent[..];
        for size in writes {
            let (piece, after) = rest.split_at(*size);
            from.write_all(piece).await.unwrap();
            rest = after;
        }
        from.flush().await.unwrap();
    };
    let mut got = Vec::new();
    let read = async {
        let mut sizes = reads.iter().cycle();
        while got.len() < sent.len() {
            let mut piece = vec![0; *sizes.next().unwrap()];
            let len = to.read(&mut piece).await.unwrap();
            assert!(len > 0);
            got.extend_from_slice(&piece[..len]);
        }
    };
    tokio::join!(write, read);
    assert!(got == sent);
}
