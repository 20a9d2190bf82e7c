//! Peers that do it badly: nothing of theirs stays.

use super::*;

#[test]
fn a_receiver_that_never_says_anything_is_given_up() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "mute").await;
        let mute = node(&network, 2).await;
        let streams = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = streams.clone();
        mute.serve(PROTOCOL.as_str(), move |stream, _| {
            kept.lock().unwrap().push(stream);
            async {}
        })
        .unwrap();
        ada.node.connect(address(&mute)).await.unwrap();
        let path = ada.scratch.file("x", b"x");
        ada.files.send(mute.peer_id(), path).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "the receiver was silent for 130 s");
    });
}

#[test]
fn a_receiver_that_stops_reading_is_given_up() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "deaf").await;
        let deaf = node(&network, 2).await;
        let streams = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = streams.clone();
        deaf.serve(PROTOCOL.as_str(), move |mut stream, _| {
            let kept = kept.clone();
            async move {
                wire::read_offer(&mut stream).await.unwrap();
                wire::write(&mut stream, &Reply::Yes.encode()).await.unwrap();
                kept.lock().unwrap().push(stream);
            }
        })
        .unwrap();
        ada.node.connect(address(&deaf)).await.unwrap();
        let path = ada.scratch.file("x", &bytes(40 << 20));
        let id = ada.files.send(deaf.peer_id(), path.clone()).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        let moving: Vec<u32> = ada.files.transfers().map(|one| one.id).collect();
        assert_eq!(moving, [id]);
        assert_eq!(ada.failed().await, "the receiver was silent for 180 s");

        // And by the user, who is told so at once; the other side sees a reset.
        streams.lock().unwrap().clear();
        let id = ada.files.send(deaf.peer_id(), path).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        ada.files.cancel(id).unwrap();
        assert_eq!(ada.failed().await, "you cancelled it");
        let mut stream = streams.lock().unwrap().pop().unwrap();
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    });
}

/// How a sender does it badly, what it is told, and what the user is told.
async fn badly(test: &str, offered: &[u8], body: &[u8], refusal: Refusal, why: &str) {
    let (mut ada, raw) = with_raw(test, |_| {}).await;
    let mut stream = offering(&raw, &ada, &offer("x.bin", offered).encode()).await;
    let asked = ada.asked().await;
    ada.files.accept(asked.id).unwrap();
    assert_eq!(reply(&mut stream).await, Reply::Yes);
    stream.write_all(body).await.unwrap();
    stream.close_write().await.unwrap();
    assert_eq!(reply(&mut stream).await, Reply::No(refusal));
    assert_eq!(ada.failed().await, why);
    assert!(ada.scratch.received().is_empty(), "{:?}", ada.scratch.received());
}

#[test]
fn what_is_not_what_was_offered_is_removed() {
    run(async {
        let good = bytes(PIECE + 10);
        let mut other = good.clone();
        other[PIECE] ^= 1;
        let why = "what the sender sent is not what it announced: its SHA-256 is another one";
        badly("hash", &good, &other, Refusal::WrongHash, why).await;
        let longer = [&good[..], b"x"].concat();
        let why = "the sender sent more than the 262154 bytes that it announced";
        badly("longer", &good, &longer, Refusal::TooLong, why).await;
        let why = "the sender sent 262153 of 262154 bytes";
        badly("shorter", &good, &good[..good.len() - 1], Refusal::TooShort, why).await;
        badly("nothing", &good, b"", Refusal::TooShort, "the sender sent 0 of 262154 bytes").await;
        let why = "the sender sent more than the 0 bytes that it announced";
        badly("something", b"", b"x", Refusal::TooLong, why).await;
    });
}

#[test]
fn who_does_not_wait_to_be_asked_is_refused() {
    run(async {
        let (mut ada, raw) = with_raw("early", |_| {}).await;
        let mut stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        stream.write_all(b"x").await.unwrap();
        ada.asked().await;
        assert_eq!(ada.failed().await, "the sender did not wait for an answer");
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooLong));
        assert!(!ada.scratch.folder().exists());
    });
}

#[test]
fn a_sender_that_stalls_or_vanishes_leaves_no_file() {
    run(async {
        let (mut ada, raw) = with_raw("stalls", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        let since = Instant::now();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Stalled));
        assert_eq!(since.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
        drop(stream);
        assert_eq!(ada.failed().await, "the sender was silent for 30 s");
        assert!(ada.scratch.received().is_empty());

        // Its stream is reset.
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        drop(stream);
        let why = ada.failed().await;
        assert!(why.starts_with("the sender broke off"), "{why}");
        assert!(ada.scratch.received().is_empty());

        // It is gone.
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        raw.shutdown().await;
        let why = ada.failed().await;
        assert!(why.starts_with("the sender broke off"), "{why}");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn offers_that_are_none_reach_nobody() {
    run(async {
        let (mut ada, raw) = with_raw("none", |_| {}).await;
        let named = |name: &[u8]| {
            let hash = [&[0x1a, 0x20][..], &[7; 32]].concat();
            [&[0x0a, u8::try_from(name.len()).unwrap()][..], name, &[0x10, 1], &hash].concat()
        };
        for (message, why) in [
            (named(b"../x"), "a name with '/' in it"),
            (named(b".bashrc"), "a name that begins with '.'"),
            (named(b"a\x1b[2J"), "a name with '\\u{1b}' in it"),
            (named("a\u{202e}b".as_bytes()), "a name with '\\u{202e}' in it"),
            (named(b"NUL.txt"), "the name of a device"),
            (named(b""), "a name of 0 bytes; 1 to 200 are allowed"),
            (b"\x0a\x01x".to_vec(), "not an offer or a reply: a hash that is not of 32 bytes"),
            (vec![0; wire::MAX_OFFER + 1], "frame of 257 bytes, 256 allowed"),
        ] {
            let mut stream = offering(&raw, &ada, &message).await;
            assert_eq!(ada.turned_away().await, why);
            assert_eq!(reply(&mut stream).await, Reply::No(Refusal::BadOffer));
        }
        assert!(!ada.scratch.folder().exists());
    });
}

#[test]
fn who_opens_a_stream_and_offers_nothing_loses_it() {
    run(async {
        let (ada, raw) = with_raw("silent", |_| {}).await;
        let mut stream = raw.open(ada.node.peer_id(), PROTOCOL.as_str()).await.unwrap();
        // An offer that is never finished.
        stream.write_all(&[100, 0x0a]).await.unwrap();
        let since = Instant::now();
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
        assert_eq!(since.elapsed().as_secs(), OFFERING.as_secs());
    });
}

#[test]
fn who_hangs_up_before_an_offer_is_not_told_of() {
    run(async {
        let (mut ada, raw) = with_raw("hangs-up", |_| {}).await;
        for said in [&b""[..], &[100, 0x0a]] {
            let mut stream = raw.open(ada.node.peer_id(), PROTOCOL.as_str()).await.unwrap();
            stream.write_all(said).await.unwrap();
            stream.close_write().await.unwrap();
            let mut rest = Vec::new();
            tokio::select! {
                happened = ada.happened() => panic!("{happened:?}"),
                _ = stream.read_to_end(&mut rest) => {}
            }
        }
        let _stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        ada.asked().await;
    });
}

#[test]
fn a_flood_of_offers_is_not_one_of_lines() {
    run(async {
        let (mut ada, raw) = with_raw("flood", |_| {}).await;
        let (good, bad) = (offer("x", b"x").encode(), vec![0; wire::MAX_OFFER + 1]);
        for number in 0..MAX_OFFERS {
            if number % 2 == 0 {
                let stream = offering(&raw, &ada, &good).await;
                ada.asked().await;
                drop(stream);
                assert_eq!(ada.failed().await, "the offer was withdrawn");
            } else {
                let mut stream = offering(&raw, &ada, &bad).await;
                ada.turned_away().await;
                assert_eq!(reply(&mut stream).await, Reply::No(Refusal::BadOffer));
            }
        }
        let mut stream = offering(&raw, &ada, &good).await;
        let why = ada.turned_away().await;
        assert!(why.starts_with("too many offers of late"), "{why}");
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooMany));
        for message in [&good, &bad] {
            let mut stream = offering(&raw, &ada, message).await;
            tokio::select! {
                happened = ada.happened() => panic!("{happened:?}"),
                reply = reply(&mut stream) => assert_eq!(reply, Reply::No(Refusal::TooMany)),
            }
        }
        tokio::time::advance(PERIOD).await;
        let _stream = offering(&raw, &ada, &good).await;
        ada.asked().await;
    });
}

#[test]
fn who_is_refused_and_stays_holds_a_stream_for_a_moment_only() {
    run(async {
        let (mut ada, raw) = with_raw("stays", |_| {}).await;
        let mut refused = Vec::new();
        for _ in 0..MAX_PER_PEER + SPARE_PER_PEER {
            let mut stream = offering(&raw, &ada, &[]).await;
            ada.turned_away().await;
            assert_eq!(reply(&mut stream).await, Reply::No(Refusal::BadOffer));
            refused.push(stream);
        }
        assert!(!stays_open(&raw, &ada).await);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(stays_open(&raw, &ada).await);
    });
}
