//! What is offered, answered, sent and given up, by nodes that do it well.

use super::*;

#[test]
fn a_file_arrives_and_one_of_its_name_beside_it() {
    run(async {
        let (mut ada, mut bob) = pair("arrives").await;
        let content = bytes(3 * PIECE + 7);
        let path = ada.scratch.file("10:30 report.pdf", &content);
        for expected in ["10_30 report.pdf", "10_30 report (1).pdf"] {
            let id = ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
            let Happened::Offered(offered) = ada.happened().await else { panic!() };
            assert_eq!((offered.id, offered.size, offered.state), (id, content.len() as u64, State::Offered));
            let asked = bob.asked().await;
            assert_eq!((asked.peer, asked.name.as_str()), (ada.node.peer_id(), "10_30 report.pdf"));
            assert_eq!((asked.size, asked.direction), (content.len() as u64, Direction::In));
            assert!(bob.scratch.received().len() < 2, "nothing is written before it is accepted");
            bob.files.accept(asked.id).unwrap();
            assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown), "once");
            let (done, path) = bob.done().await;
            assert_eq!((done.moved(), path), (done.size, Some(bob.scratch.folder().join(expected))));
            assert_eq!(fs::read(bob.scratch.folder().join(expected)).unwrap(), content);
            assert!(matches!(ada.happened().await, Happened::Accepted(_)));
            let (done, path) = ada.done().await;
            assert_eq!((done.moved(), path), (done.size, None));
        }
        assert_eq!(bob.scratch.received().len(), 2);
        assert_eq!(ada.files.transfers().count() + bob.files.transfers().count(), 0);
    });
}

#[test]
fn an_empty_file_is_a_file() {
    run(async {
        let (mut ada, mut bob) = pair("empty").await;
        let path = ada.scratch.file("empty", b"");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.accept(asked.id).unwrap();
        bob.done().await;
        assert_eq!(bob.scratch.received(), ["empty"]);
    });
}

#[test]
fn who_declines_has_no_file() {
    run(async {
        let (mut ada, mut bob) = pair("decline").await;
        let path = ada.scratch.file("x", b"x");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.decline(asked.id).unwrap();
        assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown), "the answer stands");
        assert_eq!(bob.failed().await, "you declined it");
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "it was declined");
        assert!(!bob.scratch.folder().exists());
    });
}

#[test]
fn who_can_answer_no_more_declines_all() {
    run(async {
        let (mut ada, raw) = with_raw("closed", |_| {}).await;
        let mut before = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        ada.asked().await;
        ada.files.close();
        assert_eq!(reply(&mut before).await, Reply::No(Refusal::Declined));
        drop(before);
        assert_eq!(ada.failed().await, "you declined it");
        let mut after = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        assert_eq!(ada.turned_away().await, "nobody is here to answer");
        assert_eq!(reply(&mut after).await, Reply::No(Refusal::Declined));
    });
}

#[test]
fn an_offer_that_nobody_answers_expires() {
    run(async {
        let (mut ada, mut bob) = pair("expires").await;
        let path = ada.scratch.file("x", b"x");
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        let since = Instant::now();
        assert_eq!(bob.failed().await, "it was not answered within 120 s");
        assert_eq!(since.elapsed().as_secs(), OFFER_TIMEOUT.as_secs());
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "nobody answered in time");
        assert_eq!(bob.files.accept(asked.id), Err(CommandError::Unknown));
    });
}

#[test]
fn an_offer_can_be_withdrawn() {
    run(async {
        let (mut ada, mut bob) = pair("withdrawn").await;
        let path = ada.scratch.file("x", b"x");
        let id = ada.files.send(bob.node.peer_id(), path).unwrap();
        bob.asked().await;
        ada.files.cancel(id).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert_eq!(ada.failed().await, "you cancelled it");
        assert_eq!(bob.failed().await, "the offer was withdrawn");
    });
}

#[test]
fn the_receiver_can_cancel_midway() {
    run(async {
        let (mut ada, raw) = with_raw("cancel", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        while asked.moved() < 1000 {
            task::yield_now().await;
        }
        assert_eq!(ada.scratch.received(), [".x.0.part"]);
        assert_eq!(ada.files.decline(asked.id), Err(CommandError::UnderWay));
        ada.files.cancel(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Cancelled));
        drop(stream);
        assert_eq!(ada.failed().await, "you cancelled it");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn a_sender_hears_at_once_that_the_receiver_has_had_enough() {
    run(async {
        let (mut ada, mut bob) = pair("enough").await;
        let path = ada.scratch.file("x", &bytes(40 << 20));
        ada.files.send(bob.node.peer_id(), path).unwrap();
        let asked = bob.asked().await;
        bob.files.accept(asked.id).unwrap();
        assert!(matches!(ada.happened().await, Happened::Offered(_)));
        assert!(matches!(ada.happened().await, Happened::Accepted(_)));
        while asked.moved() == 0 {
            task::yield_now().await;
        }
        bob.files.cancel(asked.id).unwrap();
        assert_eq!(bob.failed().await, "you cancelled it");
        assert_eq!(ada.failed().await, "it was cancelled there");
        assert!(bob.scratch.received().is_empty());
    });
}

#[test]
fn the_end_of_the_chat_removes_what_is_not_complete() {
    run(async {
        let (mut ada, raw) = with_raw("stop", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        assert_eq!(ada.scratch.received(), [".x.0.part"]);
        ada.files.stop().await;
        assert!(ada.scratch.received().is_empty());
        assert!(wire::read_reply(&mut stream).await.is_err());
    });
}

#[test]
fn the_end_of_the_chat_waits_for_the_disk() {
    run(async {
        let (mut ada, raw) = with_raw("disk-at-end", |_| {}).await;
        for patient in [true, false] {
            let _stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
            let asked = ada.asked().await;
            let disk = StuckDisk::new();
            ada.files.accept(asked.id).unwrap();
            while ada.files.folder.incomplete() == 0 {
                task::yield_now().await;
            }
            {
                let mut stop = pin!(ada.files.stop());
                cannot_be_done(stop.as_mut()).await;
                if patient {
                    drop(disk);
                } else {
                    // A disk that never answers does not hold up the end for ever.
                    tokio::time::advance(SETTLING).await;
                }
                stop.await;
            }
            assert!(ada.scratch.folder().exists(), "the disk has done what it was told");
            assert!(ada.scratch.received().is_empty());
        }
    });
}

#[test]
fn what_is_given_up_is_removed_by_a_thread_that_may_block() {
    run(async {
        let (mut ada, raw) = with_raw("removed", |_| {}).await;
        let content = bytes(PIECE);
        let mut stream = offering(&raw, &ada, &offer("x", &content).encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&content[..1000]).await.unwrap();
        while asked.moved() < 1000 {
            task::yield_now().await;
        }
        let disk = StuckDisk::new();
        let partial = ada.scratch.folder().join(".x.0.part");
        drop(stream);
        let why = {
            let mut failed = pin!(ada.failed());
            cannot_be_done(failed.as_mut()).await;
            assert!(partial.exists(), "it is not removed on the way");
            drop(disk);
            failed.await
        };
        assert!(why.starts_with("the sender broke off"), "{why}");
        assert!(ada.scratch.received().is_empty());
    });
}

#[test]
fn a_file_that_changes_while_it_is_offered_does_not_arrive_as_another_one() {
    run(async {
        let (mut ada, mut bob) = pair("changes").await;
        let content = bytes(1000);
        for (changed, why_ada, why_bob) in [
            (bytes(999), "the file has changed since it was offered", "the sender broke off"),
            (vec![0; 1000], "what arrived is not what was offered", "what the sender sent is not"),
        ] {
            let path = ada.scratch.file("x", &content);
            ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
            assert!(matches!(ada.happened().await, Happened::Offered(_)));
            let asked = bob.asked().await;
            fs::write(&path, changed).unwrap();
            bob.files.accept(asked.id).unwrap();
            let why = bob.failed().await;
            assert!(why.starts_with(why_bob), "{why}");
            assert!(matches!(ada.happened().await, Happened::Accepted(_)));
            let why = ada.failed().await;
            assert!(why.starts_with(why_ada), "{why}");
            assert!(bob.scratch.received().is_empty());
        }
        // What is appended was not offered.
        let path = ada.scratch.file("x", &content);
        ada.files.send(bob.node.peer_id(), path.clone()).unwrap();
        let asked = bob.asked().await;
        fs::write(&path, bytes(2000)).unwrap();
        bob.files.accept(asked.id).unwrap();
        bob.done().await;
        assert_eq!(fs::read(bob.scratch.folder().join("x")).unwrap(), content);
    });
}

#[test]
fn what_cannot_be_read_is_not_offered() {
    run(async {
        let (mut ada, bob) = pair("unreadable").await;
        let folder = ada.scratch.0.clone();
        for path in [folder.join("missing"), folder] {
            ada.files.send(bob.node.peer_id(), path).unwrap();
            let why = ada.failed().await;
            assert!(why.starts_with("the file cannot be read"), "{why}");
        }
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_said_to_both() {
    run(async {
        let (mut ada, raw) = with_raw("disk", |_| {}).await;
        // A file where the folder should be.
        ada.scratch.file("in", b"");
        let mut stream = offering(&raw, &ada, &offer("x", b"x").encode()).await;
        let asked = ada.asked().await;
        ada.files.accept(asked.id).unwrap();
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Disk));
        drop(stream);
        let why = ada.failed().await;
        assert!(why.starts_with("it cannot be written"), "{why}");
    });
}
