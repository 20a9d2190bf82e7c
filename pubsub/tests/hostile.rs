//! Peers that send nonsense, too much, or read nothing.

mod common;

use common::*;
use peerage_core::frame;
use peerage_host::{Node, OpenOptions, Optimism, Stream};
use peerage_pubsub::{Config, MAX_INBOUND_STREAMS, Misdeed, Version, WRITE_TIMEOUT, codec};
use peerage_transport::memory::Network;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A node that does as it likes: it has no gossip of its own.
async fn mallory(network: &Network, alice: &Peer) -> Node {
    let mallory = builder(network, 66).start().await.expect("it starts");
    mallory.connect(alice.node.addresses().swap_remove(0)).await.expect("connected");
    mallory
}

async fn stream(mallory: &Node, alice: &Peer) -> Stream {
    let mut options = OpenOptions::new([Version::V11.protocol()]);
    options.optimism = Optimism::Never;
    mallory.open_with(alice.id(), options).await.expect("open")
}

async fn is_reset(stream: &mut Stream) -> bool {
    stream.read(&mut [0; 1]).await.is_err()
}

#[test]
fn what_is_no_rpc_or_too_long_ends_the_stream_and_is_charged() {
    run(async {
        let network = Network::new();
        let alice = peer(&network, 1).await;
        let mallory = mallory(&network, &alice).await;
        let long = |len: u64| {
            let mut prefix = Vec::new();
            peerage_core::varint::encode(len, &mut prefix);
            prefix
        };
        let mut garbage = Vec::new();
        frame::encode(&[0xff; 100], &mut garbage);
        let mut subscriptions = Vec::new();
        frame::encode(&[0x0a, 0x00].repeat(101), &mut subscriptions);
        let bad = [long(1 << 31), long(codec::MAX_RPC as u64 + 1), vec![0xff; 11], garbage, subscriptions];
        let mut count = 0;
        for bytes in bad {
            let mut stream = stream(&mallory, &alice).await;
            stream.write_all(&bytes).await.expect("written");
            stream.flush().await.expect("written");
            assert!(is_reset(&mut stream).await, "{:?}", &bytes[..bytes.len().min(12)]);
            count += 1;
        }
        sleep(1100).await;
        assert_eq!(alice.gossip.stats().misdeeds.get(&Misdeed::Malformed), Some(&count));
        assert_eq!(alice.node.usage().memory, 0);
        // A length that fits, and a body that never comes, takes no memory for it.
        let mut stream = stream(&mallory, &alice).await;
        stream.write_all(&long(codec::MAX_RPC as u64)).await.expect("written");
        stream.flush().await.expect("written");
        sleep(100).await;
        assert!(alice.node.usage().memory < 64 << 10);
    });
}

#[test]
fn only_the_newest_of_many_streams_is_listened_to() {
    run(async {
        let network = Network::new();
        let alice = peer(&network, 1).await;
        let mallory = mallory(&network, &alice).await;
        let mut streams = Vec::new();
        for _ in 0..MAX_INBOUND_STREAMS * 3 {
            streams.push(stream(&mallory, &alice).await);
            sleep(10).await;
        }
        let wants = codec::subscriptions([codec::Subscription::to(topic())]).remove(0);
        let (newest, older) = streams.split_last_mut().expect("there are some");
        for stream in older {
            assert!(is_reset(stream).await);
        }
        newest.write_all(&wants).await.expect("written");
        newest.flush().await.expect("written");
        until("it was heard", async || alice.gossip.peers(&topic()).await == [mallory.peer_id()]).await;
        newest.close_write().await.expect("closed");
        until("it wants nothing any more", async || alice.gossip.peers(&topic()).await.is_empty()).await;
    });
}

#[test]
fn a_peer_that_reads_nothing_costs_what_its_queue_holds_and_nobody_else_notices() {
    run(async {
        let network = Network::new();
        let mut config = Config::default();
        config.queue.bytes = 1 << 20;
        let (alice, bob) = (peer_with(&network, 1, config).await, peer(&network, 2).await);
        let mut bobs = bob.gossip.subscribe("weather").expect("a topic");
        bob.connect(&alice).await;
        let mallory = mallory(&network, &alice).await;
        mallory
            .serve(Version::V11.protocol().as_str(), |stream: Stream, _| async move {
                // Takes it, and leaves it there.
                std::future::pending::<()>().await;
                drop(stream);
            })
            .expect("not served yet");
        let mut talking = stream(&mallory, &alice).await;
        let wants = codec::subscriptions([codec::Subscription::to(topic())]).remove(0);
        talking.write_all(&wants).await.expect("written");
        talking.flush().await.expect("written");
        until("both are there", async || alice.gossip.peers(&topic()).await.len() == 2).await;
        until("both are spoken with", async || alice.gossip.all_peers().await.len() == 2).await;

        let (mut took, mut full) = (0, 0);
        for _ in 0..200 {
            let published = alice.gossip.publish("weather", vec![7; 32 << 10]).await.expect("published");
            (took, full) = (took + published.peers, full + published.full);
            next(&mut bobs).await;
        }
        assert_eq!(took + full, 400);
        assert!(full > 100, "{full} had no room");
        assert_eq!(bobs.missed(), 0);
        // It is given up, and may begin anew.
        sleep(u64::try_from(WRITE_TIMEOUT.as_millis()).expect("short") + 500).await;
        assert_eq!(alice.gossip.all_peers().await, [bob.id()]);
        until("there is another stream", async || alice.gossip.all_peers().await.len() == 2).await;
    });
}
