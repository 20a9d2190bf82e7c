//! Measuring a connection: what is counted, and what a server does not let itself be made to do.

mod common;

use common::*;
use peerage_host::{
    Node, StreamError,
    perf::{PROTOCOL, Perf, PerfError, Request, STALL_TIMEOUT, TIMEOUT},
};
use peerage_transport::memory::Network;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

async fn pair(max_download: u64) -> (Node, Node, peerage_host::perf::Handle) {
    let network = Network::new();
    let mut served = Perf::default();
    served.max_download = max_download;
    let (alice, _) = builder(&network, 1).with(served);
    let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
    let (bob, perf) = builder(&network, 2).with(Perf::default());
    let bob = bob.start().await.expect("it starts");
    bob.connect(address(&alice)).await.expect("connected");
    (alice, bob, perf)
}

#[test]
fn bytes_are_counted_each_way() {
    run(async {
        let (alice, _bob, perf) = pair(1 << 20).await;
        for (upload, download) in [(0, 0), (1, 0), (0, 1), (300_000, 1 << 20)] {
            let request = Request::new(upload, download);
            let progress = request.progress.clone();
            let measured = perf.measure(alice.peer_id(), request).await.expect("measured");
            assert_eq!((measured.uploaded, measured.downloaded), (upload, download));
            assert_eq!((progress.uploaded(), progress.downloaded()), (upload, download));
        }
    });
}

#[test]
fn one_byte_more_than_is_allowed_is_refused() {
    run(async {
        let (alice, bob, perf) = pair(1000).await;
        perf.measure(alice.peer_id(), Request::new(0, 1000)).await.expect("measured");
        let refused = perf.measure(alice.peer_id(), Request::new(0, 1001)).await.expect_err("too much");
        assert!(matches!(&refused, PerfError::Stream(why) if why.contains("resource limit")), "{refused}");
        let refused = perf.measure(alice.peer_id(), Request::new(0, u64::MAX)).await.expect_err("too much");
        assert!(matches!(refused, PerfError::Stream(_)), "{refused}");
        assert_eq!(bob.peers(), [alice.peer_id()], "the connection stays");
    });
}

#[test]
fn a_client_that_neither_sends_nor_takes_is_given_up() {
    run(async {
        let (alice, bob, _) = pair(u64::MAX).await;
        // It announces nothing, it announces and does not go on, it does not take what it asked for.
        for script in [&[][..], &[0, 0, 0], &[0; 8]] {
            let mut stream = bob.open(alice.peer_id(), PROTOCOL.as_str()).await.expect("open");
            stream.write_all(script).await.expect("written");
            stream.flush().await.expect("written");
            let since = Instant::now();
            let end = stream.read_u8().await.expect_err("given up");
            assert!(matches!(StreamError::of(&end), Some(StreamError::ResetByPeer(_))), "{end}");
            assert!(since.elapsed() <= STALL_TIMEOUT + Duration::from_secs(1));
        }
        let mut stream = bob.open(alice.peer_id(), PROTOCOL.as_str()).await.expect("open");
        stream.write_u64(u64::MAX).await.expect("written");
        stream.close_write().await.expect("closed");
        until("its handler has given up", || alice.usage().streams_inbound == 0).await;
    });
}

#[test]
fn a_server_that_sends_another_number_is_told_apart() {
    run(async {
        for (sends, wanted) in [(9_u64, 10_u64), (11, 10), (1, 0)] {
            let network = Network::new();
            let alice = node(&network, 1).await;
            alice
                .serve(PROTOCOL.as_str(), move |mut stream, _| async move {
                    let mut sink = Vec::new();
                    stream.read_to_end(&mut sink).await?;
                    stream.write_all(&vec![0; usize::try_from(sends).expect("small")]).await?;
                    stream.close_write().await
                })
                .expect("not served yet");
            // A node that measures without serving.
            let (bob, perf) = builder(&network, 2).with(Perf::default());
            let bob = bob.start().await.expect("it starts");
            bob.connect(address(&alice)).await.expect("connected");
            let error = perf.measure(alice.peer_id(), Request::new(5, wanted)).await.expect_err("wrong");
            assert_eq!(error, PerfError::WrongCount { wanted, came: sends });
        }
    });
}

#[test]
fn a_server_that_never_answers_costs_the_timeout() {
    run(async {
        let network = Network::new();
        let alice = node(&network, 1).await;
        alice
            .serve(PROTOCOL.as_str(), |stream, _| async move {
                let _stream = stream;
                std::future::pending::<()>().await;
            })
            .expect("not served yet");
        let (bob, perf) = builder(&network, 2).with(Perf::default());
        let bob = bob.start().await.expect("it starts");
        bob.connect(address(&alice)).await.expect("connected");
        let mut request = Request::new(1, 1);
        request.timeout = Duration::from_secs(7);
        let since = Instant::now();
        let error = perf.measure(alice.peer_id(), request).await.expect_err("no answer");
        assert_eq!(error, PerfError::Timeout(Duration::from_secs(7)));
        assert_eq!(since.elapsed().as_secs(), 7);
    });
}

#[test]
fn drips_do_not_keep_a_place_for_ever() {
    run(async {
        let (alice, bob, _) = pair(u64::MAX).await;
        let mut stream = bob.open(alice.peer_id(), PROTOCOL.as_str()).await.expect("open");
        stream.write_u64(0).await.expect("written");
        let since = Instant::now();
        // A byte before each timeout, until the server has had enough.
        while stream.write_u8(0).await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(STALL_TIMEOUT - Duration::from_secs(1)).await;
        }
        assert!(since.elapsed() <= TIMEOUT + STALL_TIMEOUT, "{:?}", since.elapsed());
        until("its handler is gone", || alice.usage().streams_inbound == 0).await;
    });
}
