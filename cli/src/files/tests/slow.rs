//! Links that are slow, which is fine; and peers that only seem to be.

use std::sync::atomic::AtomicU64;

use super::*;

/// Bytes a second of a link that is used by others, too. What is buffered on the way, 384 KiB, takes 96 s of it.
const SLOW: usize = 4 * 1024;

/// A node that takes a file, and does with it what a test wants.
async fn receiver<F>(network: &Network, body: impl Fn(Stream) -> F + Send + Sync + 'static) -> Node
where
    F: Future<Output = ()> + Send + 'static,
{
    let node = node(network, 2).await;
    let body = Arc::new(body);
    let serving = node.serve(PROTOCOL.as_str(), move |mut stream, _| {
        let body = body.clone();
        async move {
            wire::read_offer(&mut stream).await.unwrap();
            wire::write(&mut stream, &Reply::Yes.encode()).await.unwrap();
            body(stream).await;
        }
    });
    serving.unwrap();
    node
}

/// Reads to the end, so many bytes a second.
async fn read_slowly(stream: &mut Stream, rate: usize) {
    let mut piece = vec![0; rate];
    loop {
        match stream.read(&mut piece).await.unwrap() {
            0 => return,
            read => tokio::time::sleep(Duration::from_secs_f64(read as f64 / rate as f64)).await,
        }
    }
}

/// Offers a file, which is accepted.
async fn sending(ada: &mut Side, to: &Node, len: usize) {
    ada.node.connect(address(to)).await.unwrap();
    let path = ada.scratch.file("x", &bytes(len));
    ada.files.send(to.peer_id(), path).unwrap();
    assert!(matches!(ada.happened().await, Happened::Offered(_)));
    assert!(matches!(ada.happened().await, Happened::Accepted(_)));
}

#[test]
fn what_a_slow_link_has_still_to_deliver_is_waited_for() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "slow").await;
        let slow = receiver(&network, |mut stream| async move {
            read_slowly(&mut stream, SLOW).await;
            wire::write(&mut stream, &Reply::Yes.encode()).await.unwrap();
            stream.close_write().await.unwrap();
        })
        .await;
        sending(&mut ada, &slow, 1 << 20).await;
        ada.done().await;
    });
}

/// A file of which all was sent, and nobody said whether it is there.
async fn unconfirmed(ada: &mut Side) {
    match ada.happened().await {
        Happened::Failed { why, unconfirmed, .. } => {
            assert!(unconfirmed && why.starts_with("all of it was sent"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_may_be_there_if_the_last_word_is_lost() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "last-word").await;
        let broken = receiver(&network, |mut stream| async move {
            stream.read_to_end(&mut Vec::new()).await.unwrap();
        })
        .await;
        sending(&mut ada, &broken, 1000).await;
        unconfirmed(&mut ada).await;
    });
}

#[test]
fn a_last_word_that_never_comes_is_not_waited_for_for_ever() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "no-word").await;
        let mute = receiver(&network, |mut stream| async move {
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            std::future::pending().await
        })
        .await;
        sending(&mut ada, &mute, 1000).await;
        let since = Instant::now();
        unconfirmed(&mut ada).await;
        assert_eq!(since.elapsed().as_secs(), PATIENCE.as_secs());
    });
}

#[test]
fn a_sender_that_drips_is_given_up() {
    run(async {
        let (mut ada, raw) = with_raw("drips", |_| {}).await;
        let mut stream = offering(&raw, &ada, &offer("x", &bytes(PIECE)).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        let since = Instant::now();
        let (mut reading, mut writing) = tokio::io::split(stream);
        let drip = async {
            loop {
                writing.write_all(&[0]).await.unwrap();
                tokio::time::sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = drip => {}
            reply = wire::read_reply(&mut reading) => assert_eq!(reply.unwrap(), Reply::No(Refusal::Stalled)),
        }
        assert_eq!(since.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
        assert_eq!(ada.failed().await, "the sender was silent for 30 s");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn a_receiver_that_drips_is_given_up() {
    run(async {
        let scratch = Scratch::new("drips");
        let content = bytes(PIECE);
        let source = disk::Source::open(scratch.file("x", &content)).await.unwrap();
        // A muxer takes a window of bytes, whatever its user reads; this is one that takes as it likes.
        let (near, mut far) = tokio::io::duplex(64);
        let (config, moved) = (Config::new(scratch.folder()), AtomicU64::new(0));
        let told = async |_| {};
        let sending = send::exchange(near, source, offer("x", &content), &config, &moved, told);
        let receiving = async {
            wire::read_offer(&mut far).await.unwrap();
            wire::write(&mut far, &Reply::Yes.encode()).await.unwrap();
            loop {
                far.read_u8().await.unwrap();
                tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
            }
        };
        let since = Instant::now();
        tokio::select! {
            () = receiving => {}
            sent = sending => assert!(matches!(sent, Err(send::Error::Stalled(PATIENCE))), "{sent:?}"),
        }
        assert_eq!(since.elapsed().as_secs(), PATIENCE.as_secs());
    });
}
