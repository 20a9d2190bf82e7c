//! What a node knows of others outlives it, when it is told where to keep it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails there, and says where")]

mod common;

use std::{fs, path::PathBuf};

use common::{address, builder, event, node, peer, run};
use peerage_host::{Event, StartError, store::OpenError};
use peerage_transport::memory::Network;

fn file(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("peerage-store-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory.join("book")
}

#[test]
fn a_node_that_comes_back_knows_whom_it_met() {
    run(async {
        let (network, file) = (Network::default(), file("met"));
        let bob = node(&network, 2).await;
        let alice = builder(&network, 1).store(&file).start().await.unwrap();
        let mut events = alice.events();
        alice.connect(address(&bob)).await.unwrap();
        event(&mut events, |event| matches!(event, Event::Identified { .. }).then_some(())).await;
        alice.shutdown().await;
        drop((alice, events));

        let alice = builder(&network, 1).store(&file).start().await.unwrap();
        let mut known = None;
        for _ in 0..1000 {
            known = alice.peer(peer(2)).await;
            if known.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let known = known.expect("it was kept");
        assert!(!known.connected && known.addresses.iter().any(|known| known.worked));
        assert!(
            known.record.is_some() && known.protocols.iter().any(|protocol| protocol.as_str() == "/echo/1")
        );
        // The address comes from the file.
        alice.open(peer(2), "/echo/1").await.unwrap();
        alice.shutdown().await;
    });
}

#[test]
fn a_damaged_file_is_set_aside_and_the_user_is_told() {
    run(async {
        let (network, file) = (Network::default(), file("damaged"));
        fs::write(&file, "this is no store").unwrap();
        let alice = builder(&network, 1).store(&file).start().await.unwrap();
        let mut events = alice.events();
        let Some(Event::StoreDamaged { moved_to, .. }) = events.next().await else { panic!("not told") };
        assert_eq!(fs::read_to_string(moved_to).unwrap(), "this is no store");
        let other = builder(&network, 2).store(&file).start().await;
        assert!(matches!(other, Err(StartError::Store { why: OpenError::InUse, .. })));
        alice.shutdown().await;
    });
}

#[test]
fn after_shutdown_the_file_is_free_whoever_still_holds_the_node() {
    run(async {
        let (network, file) = (Network::default(), file("free"));
        let first = builder(&network, 1).store(&file).start().await.unwrap();
        first.shutdown().await;
        let second = builder(&network, 1).store(&file).start().await.unwrap();
        second.shutdown().await;
        drop(first);
    });
}
