//! Requests and responses: what is exchanged, and what is refused on either side.

mod common;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use common::*;
use peerage_host::{
    Limits, Node, StreamError,
    request_response::{Config, Handle, Raw, RequestError, RequestResponse},
};
use peerage_transport::memory::Network;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

const NAME: &str = "/ask/1";

fn config() -> Config {
    let mut config = Config::default();
    config.max_request = 1000;
    config.max_response = 2000;
    config
}

/// Answers with as many bytes as the request says.
async fn repeat(request: Bytes) -> Result<Bytes, Infallible> {
    let len: usize = String::from_utf8_lossy(&request).trim_end_matches('.').parse().unwrap_or_default();
    Ok(vec![7; len].into())
}

async fn pair() -> (Node, Node, Handle<Raw>) {
    let network = Network::new();
    let serving = RequestResponse::raw(NAME).expect("a name").serve(|_, request| repeat(request));
    let mut serving_config = config();
    serving_config.max_response = usize::MAX;
    let (alice, _) = builder(&network, 1).with(serving.config(serving_config));
    let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
    let (bob, handle) =
        builder(&network, 2).with(RequestResponse::raw(NAME).expect("a name").config(config()));
    let bob = bob.start().await.expect("it starts");
    bob.connect(address(&alice)).await.expect("connected");
    (alice, bob, handle)
}

#[test]
fn typed_messages_go_there_and_back() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Divide(i64, i64);

    run(async {
        let network = Network::new();
        let divide = |_, Divide(a, b): Divide| async move { a.checked_div(b).ok_or("undefined") };
        let cbor = RequestResponse::cbor::<Divide, i64>("/divide/cbor").expect("a name").serve(divide);
        let json = RequestResponse::json::<Divide, i64>("/divide/json").expect("a name").serve(divide);
        // Two of the same kind on one node.
        let (alice, _) = builder(&network, 1).with(cbor);
        let (alice, _) = alice.with(json);
        let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
        let ask = RequestResponse::cbor::<Divide, i64>("/divide/cbor").expect("a name");
        let (bob, cbor) = builder(&network, 2).with(ask);
        let ask = RequestResponse::json::<Divide, i64>("/divide/json").expect("a name");
        let (bob, json) = bob.with(ask);
        let bob = bob.start().await.expect("it starts");
        bob.connect(address(&alice)).await.expect("connected");
        assert_eq!(cbor.request(alice.peer_id(), &Divide(84, 2)).await, Ok(42));
        assert_eq!(json.request(alice.peer_id(), &Divide(-84, 2)).await, Ok(-42));
        // The handler's error is the peer's reset, and costs nothing else.
        let refused = cbor.request(alice.peer_id(), &Divide(1, 0)).await.expect_err("no answer");
        assert!(matches!(&refused, RequestError::Stream(why) if why.contains("reset")), "{refused}");
        assert_eq!(cbor.request(alice.peer_id(), &Divide(9, 3)).await, Ok(3));
    });
}

#[test]
fn the_longest_messages_pass_and_one_byte_more_does_not() {
    run(async {
        let (alice, bob, handle) = pair().await;
        let ask = async |text: String| handle.request(alice.peer_id(), &text.into()).await;
        let longest = format!("3{}", ".".repeat(999));
        assert_eq!(ask(longest.clone()).await.expect("answered").len(), 3);
        assert_eq!(ask(longest.clone() + ".").await, Err(RequestError::TooLong { len: 1001, max: 1000 }));
        assert_eq!(ask("2000".into()).await.expect("answered").len(), 2000);
        assert_eq!(ask("2001".into()).await, Err(RequestError::ResponseTooLong { max: 2000 }));
        assert_eq!(ask("900000".into()).await, Err(RequestError::ResponseTooLong { max: 2000 }));
        assert_eq!(ask("0".into()).await, Ok(Bytes::new()), "an empty message is one");

        // A peer that does not keep to the limit.
        let mut stream = bob.open(alice.peer_id(), NAME).await.expect("open");
        stream.write_all((longest + ".").as_bytes()).await.expect("written");
        stream.flush().await.expect("written");
        let error = stream.read_u8().await.expect_err("refused");
        assert!(matches!(StreamError::of(&error), Some(StreamError::ResetByPeer(_))), "{error}");
        until("its handler is gone", || alice.usage().streams_inbound == 0).await;
    });
}

#[test]
fn broken_messages_and_half_ones_are_no_messages() {
    run(async {
        let network = Network::new();
        let serving = RequestResponse::json::<u64, u64>(NAME).expect("a name");
        let (alice, _) =
            builder(&network, 1).with(serving.serve(|_, n| async move { Ok::<_, Infallible>(n) }));
        let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
        let bob = node(&network, 2).await;
        bob.connect(address(&alice)).await.expect("connected");
        let mut stream = bob.open(alice.peer_id(), NAME).await.expect("open");
        stream.write_all(b"1,").await.expect("written");
        stream.close_write().await.expect("closed");
        let error = stream.read_u8().await.expect_err("refused");
        assert!(matches!(StreamError::of(&error), Some(StreamError::ResetByPeer(_))), "{error}");

        // What a server gives up in the middle is an error, though what came is a whole value.
        bob.serve("/half/1", |mut stream, _| async move {
            stream.write_all(b"12").await?;
            stream.flush().await
        })
        .expect("not served yet");
        let ask = RequestResponse::json::<u64, u64>("/half/1").expect("a name");
        let (carol, half) = builder(&network, 3).with(ask);
        let carol = carol.start().await.expect("it starts");
        carol.connect(address(&bob)).await.expect("connected");
        let error = half.request(bob.peer_id(), &1).await.expect_err("half");
        assert!(matches!(error, RequestError::Stream(_)), "{error}");
    });
}

#[test]
fn silence_on_either_side_costs_the_timeout() {
    run(async {
        let (alice, bob, handle) = pair().await;
        bob.serve("/silent/1", |stream, _| async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        })
        .expect("not served yet");
        let since = Instant::now();
        // A peer that begins a request and does not end it.
        let mut stream = bob.open(alice.peer_id(), NAME).await.expect("open");
        stream.write_all(b"5").await.expect("written");
        stream.flush().await.expect("written");
        stream.read_u8().await.expect_err("given up");
        assert_eq!(since.elapsed().as_secs(), config().timeout.as_secs());

        let network = Network::new();
        let silent = node(&network, 3).await;
        silent
            .serve(NAME, |stream, _| async move {
                let _stream = stream;
                std::future::pending::<()>().await;
            })
            .expect("not served yet");
        let mut short = config();
        short.timeout = Duration::from_secs(3);
        let (carol, ask) =
            builder(&network, 4).with(RequestResponse::raw(NAME).expect("a name").config(short));
        let carol = carol.start().await.expect("it starts");
        carol.connect(address(&silent)).await.expect("connected");
        let since = Instant::now();
        let error = ask.request(silent.peer_id(), &Bytes::new()).await.expect_err("no answer");
        assert_eq!((error, since.elapsed().as_secs()), (RequestError::Timeout(Duration::from_secs(3)), 3));
        // Whoever does not want to wait any longer gives the stream back at both sides.
        drop(handle);
        until("nothing is open", || carol.usage().streams_outbound == 0).await;
    });
}

#[test]
fn messages_take_their_memory_from_the_nodes_budget() {
    run(async {
        let network = Network::new();
        let mut limits = Limits::default();
        limits.memory_per_stream = 64 * 1024;
        let echo = |_, request: Bytes| async move { Ok::<_, Infallible>(request) };
        let serving = RequestResponse::raw(NAME).expect("a name").serve(echo);
        let (alice, _) = builder(&network, 1).limits(limits).with(serving);
        let alice = alice.listen("/memory/0").expect("an address").start().await.expect("it starts");
        let (bob, ask) = builder(&network, 2).with(RequestResponse::raw(NAME).expect("a name"));
        let bob = bob.start().await.expect("it starts");
        bob.connect(address(&alice)).await.expect("connected");
        let small: Bytes = vec![1; 10_000].into();
        assert_eq!(ask.request(alice.peer_id(), &small).await, Ok(small));
        // Within the protocol's limit, and over what a stream may have of the node's memory.
        let large: Bytes = vec![1; 500_000].into();
        let refused = ask.request(alice.peer_id(), &large).await.expect_err("no memory");
        assert!(matches!(&refused, RequestError::Stream(why) if why.contains("resource limit")), "{refused}");
        bob.shutdown().await;
        idle(&alice).await;
    });
}
