//! The whole way up to a connection, and messages on streams.

use std::{sync::LazyLock, time::Duration};

use peerage_core::{Keypair, frame};
use peerage_host::{
    fuzzing,
    request_response::{Codec, RequestResponse},
};
use peerage_transport::{
    Raw, UpgradeOpts, Upgrader,
    upgrade::{Config, Security},
};
use tokio::time::Instant;

use crate::{
    io::{Scripted, run},
    security::exchange,
    values::keypair,
};

static UPGRADER: LazyLock<Upgrader> = LazyLock::new(|| {
    let mut config = Config::default();
    config.security = vec![Security::Plaintext];
    Upgrader::new(&keypair(), config)
});

/// As a listener, without encryption, which no fuzzer gets through: a stranger's bytes from the first line to frames.
pub(crate) fn upgrade(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let io = Scripted::new(bytes, if how & 1 == 0 { 1 << 20 } else { 1 });
    let memory = || "/memory/1".parse().expect("an address");
    let raw = Raw { io: Box::new(io), local: memory(), remote: memory(), limited: false };
    run(async {
        let opts = UpgradeOpts::incoming(Instant::now() + Duration::from_secs(10));
        if let Ok(established) = UPGRADER.upgrade(raw, opts).await {
            let _ = established.muxed.driver.await;
        }
    });
}

pub(crate) fn upgrade_seeds() -> Vec<Vec<u8>> {
    let lines = |protocol: &str| {
        let mut bytes = Vec::new();
        frame::encode(b"/multistream/1.0.0\n", &mut bytes);
        frame::encode(format!("{protocol}\n").as_bytes(), &mut bytes);
        bytes
    };
    let exchange = exchange(&Keypair::from_ed25519_seed([8; 32]));
    let frames: &[u8] = &[0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0];
    [0, 1]
        .map(|how| {
            [&[how], &lines("/plaintext/2.0.0")[..], &exchange, &lines("/yamux/1.0.0"), frames].concat()
        })
        .into()
}

pub(crate) fn identify(data: &[u8]) {
    fuzzing::identify(keypair().peer_id(), data);
}

pub(crate) fn identify_seeds() -> Vec<Vec<u8>> {
    let addresses = ["/ip4/127.0.0.1/tcp/4001", "/dns/h/tcp/1"].map(|text| text.parse().expect("an address"));
    vec![fuzzing::identify_message(&keypair(), &addresses), fuzzing::identify_message(&keypair(), &[])]
}

type Message = (u32, Option<String>, Vec<(i64, bool)>, std::collections::BTreeMap<String, f64>);

pub(crate) fn cbor(data: &[u8]) {
    let codec = RequestResponse::cbor::<Message, ()>("/x").expect("a name").codec().clone();
    if let Ok(message) = codec.decode_request(data.to_vec()) {
        codec.encode_request(&message).expect("what was read is written");
    }
}

pub(crate) fn json(data: &[u8]) {
    let codec = RequestResponse::json::<Message, ()>("/x").expect("a name").codec().clone();
    if let Ok(message) = codec.decode_request(data.to_vec()) {
        codec.encode_request(&message).expect("what was read is written");
    }
}

fn message() -> Message {
    let numbers = [("one".to_owned(), 1.0)].into_iter().collect();
    (7, Some("text".into()), vec![(-1, true), (i64::MAX, false)], numbers)
}

pub(crate) fn cbor_seeds() -> Vec<Vec<u8>> {
    let codec = RequestResponse::cbor::<Message, ()>("/x").expect("a name").codec().clone();
    codec.encode_request(&message()).into_iter().collect()
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let codec = RequestResponse::json::<Message, ()>("/x").expect("a name").codec().clone();
    codec.encode_request(&message()).into_iter().collect()
}
