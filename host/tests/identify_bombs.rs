//! S9 and S10: peers that say too much of themselves, too often, or of others. What is kept stays within its limits, and
//! the connection with everything else on it goes on.

mod common;

use std::time::Duration;

use common::{
    bombs::{AGENT, Bomb, Says, bombs, field, one_message},
    *,
};
use peerage_host::{
    ErrorCode, Event, Node, StreamError,
    identify::{self, Identify, IdentifyError},
};
use peerage_transport::memory::Network;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep},
};

#[test]
fn bombs_in_answers_and_in_pushes() {
    run(async {
        let network = Network::new();
        let (alice, identify) = builder(&network, 1).with(Identify::default());
        let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
        serve_echo(&alice);
        for Bomb { name, bytes, ends, expected } in bombs() {
            let (eve, ()) = builder(&network, 7).with(Says { bytes: bytes.clone(), ends });
            let eve = eve.start().await.expect("it starts");
            eve.connect(address(&alice)).await.expect("connected");
            let begin = Instant::now();
            let said = identify.info(eve.peer_id()).await;
            assert!(expected(said.as_ref().map(std::convert::AsRef::as_ref)), "{name}: {said:?}");
            if said != Err(IdentifyError::Timeout) {
                assert!(begin.elapsed() < Duration::from_secs(1), "{name}: it is seen when it comes");
            }

            // The same as a push: refused by a reset, or taken; and by the timeout in any case.
            let mut push = eve.open(alice.peer_id(), identify::PUSH.as_str()).await.expect("open");
            let _ = push.write_all(&bytes).await;
            let _ = push.flush().await;
            if ends {
                let _ = push.close_write().await;
            }
            let _ = push.read_u8().await;
            assert!(begin.elapsed() < 2 * identify::TIMEOUT + Duration::from_secs(1), "{name}");

            let known = alice.peer(eve.peer_id()).await;
            if let Some(known) = known {
                assert!(known.addresses.len() <= identify::MAX_ADDRESSES + 1, "{name}");
                assert!(known.protocols.len() <= identify::MAX_PROTOCOLS, "{name}");
            }
            for other in 9..69 {
                assert!(alice.peer(peer(other)).await.is_none(), "{name}: hearsay is kept");
            }
            check_echo(eve.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
            eve.shutdown().await;
            idle(&alice).await;
            // So that the next one may push, too.
            sleep(Duration::from_secs(60)).await;
        }
        assert!(alice.tree().0.iter().all(|actor| actor.panics == 0));
    });
}

/// One push; whether it was taken.
async fn push(eve: &Node, alice: &Node, n: u32) -> bool {
    let mut stream = eve.open(alice.peer_id(), identify::PUSH.as_str()).await.expect("the connection lives");
    let said = one_message([field(AGENT, format!("agent/{n}").as_bytes())]);
    // It may be refused while it is written.
    let _ = stream.write_all(&said).await;
    let _ = stream.close_write().await;
    match stream.read_u8().await {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => true,
        Err(error) => {
            let why = StreamError::of(&error).expect("an error of the stream");
            assert!(matches!(why, StreamError::ResetByPeer(ErrorCode::RATE_LIMITED)), "{why:?}");
            false
        }
        Ok(_) => panic!("nothing is said on a push"),
    }
}

#[test]
fn ten_thousand_pushes_in_a_second() {
    run(async {
        let network = Network::new();
        let (alice, eve) = (node(&network, 1).await, node(&network, 7).await);
        eve.connect(address(&alice)).await.expect("connected");
        // What it tells by itself, after it has started to serve, is told; and counts no more.
        sleep(Duration::from_secs(60)).await;
        let mut events = alice.events();
        let mut taken = 0;
        for n in 0..10_000 {
            taken += u32::from(push(&eve, &alice, n).await);
            sleep(Duration::from_micros(100)).await;
        }
        // The timer's grain makes more of the pauses than they are.
        assert!((identify::PUSH_BURST..identify::PUSH_BURST + 4).contains(&taken), "{taken}");
        check_echo(eve.open(alice.peer_id(), ECHO).await.expect("open"), 1000).await;
        sleep(identify::PUSH_EVERY).await;
        assert!(push(&eve, &alice, 77_777).await, "it may tell again");
        let mut heard = 0;
        loop {
            let Event::Identified { info, .. } = events.next().await.expect("it runs") else { continue };
            heard += 1;
            if info.agent_version == "agent/77777" {
                break;
            }
        }
        assert_eq!(heard, taken + 1, "nobody hears of the others");
        eve.disconnect(alice.peer_id()).await;
        idle(&alice).await;
        idle(&eve).await;
    });
}
