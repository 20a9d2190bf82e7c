//! Whole nodes that publish and subscribe.

mod common;

use common::*;
use peerage_pubsub::Published;
use peerage_transport::memory::Network;

#[test]
fn a_message_reaches_a_subscriber_with_all_that_is_to_be_known_of_it() {
    run(async {
        let network = Network::new();
        let (alice, bob) = (peer(&network, 1).await, peer(&network, 2).await);
        let mut weather = bob.gossip.subscribe("weather").expect("a topic");
        alice.connect(&bob).await;
        until("alice knows what bob wants", async || alice.gossip.peers(&topic()).await == [bob.id()]).await;

        let published = alice.gossip.publish("weather", "rain").await.expect("published");
        let Published { id, peers, full, .. } = published;
        assert_eq!((peers, full), (1, 0));
        let message = next(&mut weather).await;
        assert_eq!(message.id, id);
        assert_eq!(message.topic, topic());
        assert_eq!(message.data, "rain");
        assert_eq!(message.author, Some(alice.id()));
        assert_eq!(message.received_from, alice.id());
        let first = message.sequence_number().expect("eight bytes");
        alice.gossip.publish("weather", "snow").await.expect("published");
        assert_eq!(next(&mut weather).await.sequence_number(), Some(first + 1));
        assert_eq!(weather.missed(), 0);

        bob.node.shutdown().await;
        assert_eq!(weather.next().await, None);
        alice.node.shutdown().await;
    });
}
