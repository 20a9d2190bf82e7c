//! Each limit, and one more.

use super::*;

#[test]
fn the_largest_file_and_one_byte_more() {
    run(async {
        let (mut ada, raw) = with_raw("largest", |config| config.max_size = 1000).await;
        let mut stream = offering(&raw, &ada, &offer("x", &bytes(1001)).encode()).await;
        assert_eq!(ada.turned_away().await, "\"x\" is larger than 1000 B; --max-file-size takes more");
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooLarge { max: 1000 }));
        let _open = offering(&raw, &ada, &offer("x", &bytes(1000)).encode()).await;
        assert_eq!(ada.asked().await.size, 1000);
    });
}

#[test]
fn so_many_offers_are_open_and_not_one_more() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "many").await;
        let message = offer("x", b"x").encode();
        let mut open = Vec::new();
        for seed in 0..=(MAX_INCOMING / MAX_PER_PEER) as u8 {
            let raw = node(&network, 10 + seed).await;
            raw.connect(address(&ada.node)).await.unwrap();
            let room = (MAX_INCOMING - open.len()).min(MAX_PER_PEER);
            for _ in 0..room {
                let stream = offering(&raw, &ada, &message).await;
                ada.asked().await;
                open.push((raw.clone(), stream));
            }
            let mut stream = offering(&raw, &ada, &message).await;
            assert_eq!(ada.turned_away().await, "too many files are offered already");
            assert_eq!(reply(&mut stream).await, Reply::No(Refusal::TooMany));
        }
        assert_eq!(open.len(), MAX_INCOMING);
        // One that is answered makes room for the next.
        let id = ada.files.transfers().next().unwrap().id;
        ada.files.decline(id).unwrap();
        let (raw, mut stream) = open.remove(0);
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Declined));
        drop(stream);
        ada.failed().await;
        let _stream = offering(&raw, &ada, &message).await;
        ada.asked().await;
    });
}

#[test]
fn so_many_files_are_sent_and_not_one_more() {
    run(async {
        let (mut ada, bob) = pair("outgoing").await;
        let path = ada.scratch.file("x", b"x");
        let other = |seed| Keypair::from_ed25519_seed([seed; 32]).peer_id();
        for _ in 0..MAX_PER_PEER {
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        }
        assert_eq!(ada.files.send(bob.node.peer_id(), path.clone()), Err(CommandError::TooManyToOne));
        for seed in 0..MAX_OUTGOING - MAX_PER_PEER {
            ada.files.send(other(100 + seed as u8), path.clone()).unwrap();
        }
        assert_eq!(ada.files.send(other(200), path), Err(CommandError::TooMany));
    });
}

#[test]
fn all_that_may_be_sent_to_one_is_asked_about_there() {
    run(async {
        let (mut ada, mut bob) = pair("all-to-one").await;
        let path = ada.scratch.file("x", b"x");
        for _ in 0..MAX_PER_PEER {
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        }
        for _ in 0..MAX_PER_PEER {
            let asked = bob.asked().await;
            bob.files.accept(asked.id).unwrap();
        }
        for _ in 0..MAX_PER_PEER {
            bob.done().await;
        }
    });
}

#[test]
fn so_many_streams_are_open_and_not_one_more() {
    run(async {
        let network = Network::new();
        let ada = Side::new(&network, 1, "streams").await;
        let (of_peer, of_all) = (MAX_PER_PEER + SPARE_PER_PEER, MAX_INCOMING + SPARE);
        let mut open = Vec::new();
        for seed in 0..of_all.div_ceil(of_peer) as u8 {
            let raw = node(&network, 10 + seed).await;
            raw.connect(address(&ada.node)).await.unwrap();
            for _ in 0..of_peer.min(of_all - open.len()) {
                open.push((raw.clone(), waiting(&raw, &ada).await.unwrap()));
            }
            assert!(!stays_open(&raw, &ada).await, "of {} streams", open.len());
        }
        assert_eq!(open.len(), of_all);
        let raw = node(&network, 100).await;
        raw.connect(address(&ada.node)).await.unwrap();
        assert!(!stays_open(&raw, &ada).await, "of somebody else");
    });
}

#[test]
fn strangers_offer_nothing_unless_they_are_known_in_a_moment() {
    run(async {
        let (mut ada, raw) = with_raw("strangers", |_| {}).await;
        let message = offer("x", b"x").encode();
        let mut stream = offering(&raw, &ada, &message).await;
        let event = ada.files.next().await;
        assert!(ada.files.handle(event, |_| false).is_none());
        assert!(ada.files.sweep(|_| false).is_empty());
        assert!(matches!(ada.files.sweep(|_| true)[..], [Happened::Asked(_)]));
        drop(stream);
        assert_eq!(ada.failed().await, "the offer was withdrawn");

        stream = offering(&raw, &ada, &message).await;
        let event = ada.files.next().await;
        assert!(ada.files.handle(event, |_| false).is_none());
        tokio::time::advance(ACQUAINTANCE).await;
        assert!(ada.files.sweep(|_| false).is_empty());
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
        drop(stream);
        assert!(ada.files.sweep(|_| true).is_empty());
    });
}

#[test]
fn so_many_strangers_wait_and_not_one_more() {
    run(async {
        let network = Network::new();
        let mut ada = Side::new(&network, 1, "crowd").await;
        let message = offer("x", b"x").encode();
        let mut waiting = Vec::new();
        for number in 0..=MAX_STRANGERS {
            let raw = node(&network, 10 + number as u8).await;
            raw.connect(address(&ada.node)).await.unwrap();
            let mut stream = offering(&raw, &ada, &message).await;
            let event = ada.files.next().await;
            assert!(ada.files.handle(event, |_| false).is_none());
            if number == MAX_STRANGERS {
                assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
            }
            waiting.push((raw, stream));
        }
        assert_eq!(ada.files.strangers.len(), MAX_STRANGERS);
    });
}

#[test]
fn one_stranger_leaves_room_for_others() {
    run(async {
        let (mut ada, raw) = with_raw("stranger", |_| {}).await;
        let message = offer("x", b"x").encode();
        let mut waiting = Vec::new();
        for number in 0..=MAX_OF_STRANGER {
            let mut stream = offering(&raw, &ada, &message).await;
            let event = ada.files.next().await;
            assert!(ada.files.handle(event, |_| false).is_none());
            if number == MAX_OF_STRANGER {
                assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
            }
            waiting.push(stream);
        }
        assert_eq!(ada.files.strangers.len(), MAX_OF_STRANGER);
    });
}
