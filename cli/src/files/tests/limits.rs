//! Each limit, and one more.

use super::*;

#[test]
fn the_largest_file_and_one_byte_more() {
    run(async {
        let (mut ada, raw) = with_raw("largest", |config| config.max_size = 1000).await;
        let mut stream = offering(&raw, &ada, &offer("x", &bytes(1001)).encode()).await;
        assert_eq!(ada.turned_away().await, "x has 1001 bytes, 1000 are taken");
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
        for _ in 0..MAX_OUTGOING {
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        }
        assert_eq!(ada.files.send(bob.node.peer_id(), path), Err(CommandError::TooMany));
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
