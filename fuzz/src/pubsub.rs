//! What gossipsub's peers say.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use peerage_core::{
    Keypair,
    engine::{rng, sim::Sim},
    frame::Decoder,
};
use peerage_pubsub::{
    Author, Config, Signing, Topic, TopicConfig, Version,
    codec::{self, Control, Exchanged, Extensions, Limits, Prune, Subscription},
    default_id,
    engine::{Action, Command, Engine, Input},
    partial::{self, Have, Hearer, Holding, Mode, Pieces},
    verify,
};

use peerage_host::Reply;

use crate::values::keypair;

fn topic() -> Topic {
    Topic::new("t").expect("a topic")
}

/// An RPC: within limits, and its messages survive.
pub(crate) fn rpc(data: &[u8]) {
    let limits = Limits::default();
    let Ok(rpc) = codec::decode(&Bytes::copy_from_slice(data), &limits) else { return };
    assert!(rpc.subscriptions.len() <= limits.subscriptions);
    assert!(rpc.messages.len() <= codec::MAX_MESSAGES);
    let ids = rpc.ihave.iter().map(|ihave| ihave.ids.len()).sum::<usize>();
    assert!(ids.max(rpc.iwant.len()).max(rpc.idontwant.len()) <= codec::MAX_IDS);
    if let Some(partial) = rpc.partial {
        assert!((1..=codec::MAX_GROUP).contains(&partial.group.len()));
        assert!(partial.metadata.as_ref().is_none_or(|metadata| metadata.len() <= codec::MAX_METADATA));
        let again = codec::decode(&unframed(&partial.write()).remove(0), &Limits::default());
        assert_eq!(again.expect("what was read is written").partial, Some(partial));
    }
    for message in rpc.messages.iter().take(16) {
        let again = unframed(&codec::publish(message)).remove(0);
        let read = codec::decode(&again, &Limits::default()).expect("what was read is written");
        assert_eq!(read.messages, std::slice::from_ref(message));
    }
}

fn unframed(frames: &[u8]) -> Vec<Bytes> {
    let (mut decoder, mut input, mut out) = (Decoder::new(codec::MAX_RPC), frames, Vec::new());
    while let Ok(Some(frame)) = decoder.decode(&mut input) {
        out.push(frame);
    }
    out
}

const BEAT: Duration = Duration::from_secs(20);

/// All that a peer says on its stream, and a heartbeat passes after each: the engine keeps no more than it should, and nothing
/// once the peer is gone.
pub(crate) fn engine(data: &[u8]) {
    let peer = Keypair::from_ed25519_seed([8; 32]).peer_id();
    // Few heartbeats in a long time.
    let mut config = Config::default();
    config.heartbeat = BEAT;
    config.partial = Some(partial::Limits::default());
    config.other_topics = TopicConfig::default().partial(Mode::Requests);
    let mut sim = Sim::new(Engine::new(Arc::new(config), keypair().peer_id(), rng(1), 1));
    let id = 1.into();
    sim.command(Command::Subscribe(topic()));
    sim.command(Command::Connected { peer, id, ip: None, dialed: false });
    let have = Holding::from(Arc::new(pieces()) as Arc<dyn Have>);
    let (group, reply) = (Bytes::from_static(b"own"), Reply::new(|_| {}));
    sim.command(Command::PublishPartial { topic: topic(), group, have, reply });
    settle(&mut sim);
    for frame in unframed(data).into_iter().take(64) {
        let Ok(rpc) = codec::decode(&frame, &Limits::default()) else { break };
        sim.input(Input::Rpcs { peer, rpcs: vec![rpc], charge: None });
        settle(&mut sim);
        let sizes = sim.engine().sizes();
        assert!(sizes.topics <= 101 && sizes.backoffs <= 1 && sizes.promises <= 64, "{sizes:?}");
        assert!(sizes.unwanted <= 4000 && sizes.in_progress == 0, "{sizes:?}");
        // Its own eight, and ours.
        assert!(sizes.groups <= 9 && sizes.hearers <= 9, "{sizes:?}");
        sim.advance(BEAT);
    }
    sim.command(Command::Disconnected { peer, id });
    sim.command(Command::Unsubscribe(topic()));
    sim.advance(Duration::from_secs(3800));
    assert_eq!(sim.engine().sizes(), Default::default());
}

fn settle(sim: &mut Sim<Engine>) {
    loop {
        let actions = sim.actions();
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Open { peer, session, .. } => {
                    sim.input(Input::Opened { peer, session, version: Version::V13 });
                }
                Action::Verify { ticket, message, .. } => {
                    sim.input(Input::Verified { ticket, result: verify(&message) });
                }
                _ => {}
            }
        }
    }
}

fn pieces() -> Pieces {
    Pieces::cut(b"rain and snow", 4).expect("pieces")
}

/// Parts of a message and metadata of it: they are read or refused, and nothing but pieces comes of them. What is given then has
/// room, was not given before, and is read by others as what it is.
pub(crate) fn parts(data: &[u8]) {
    let (metadata, parts) = data.split_at(data.len().min(2));
    let (mut pieces, peer) = (Pieces::nothing(6).expect("pieces"), keypair().peer_id());
    let metadata = Bytes::copy_from_slice(metadata);
    let is_metadata = pieces.ask(peer, &metadata).is_ok();
    let (before, _) = pieces.count();
    if let Ok(new) = pieces.take(parts, |_, _| true) {
        assert_eq!(pieces.count().0, before + new);
    }
    // Some were given before, and there is room for some more.
    let given = Bytes::copy_from_slice(&parts[parts.len().saturating_sub(1)..]);
    let mut to = Hearer::new(peer, &given);
    (to.metadata, to.room) = (Some(&metadata), parts.len() / 2);
    let said = pieces.say(&to);
    assert_eq!(said.is_ok(), is_metadata);
    let Ok(said) = said else { return };
    assert!(said.parts.len() <= to.room);
    assert_eq!(said.metadata, pieces.metadata(&peer));
    let mut theirs = Pieces::nothing(6).expect("pieces");
    let new = theirs.take(&said.parts, |_, _| true).expect("what was written is read");
    for number in 0..6 {
        let was_given = given.first().is_some_and(|given| given >> number & 1 == 1);
        let piece = theirs.piece(number);
        assert!(piece.is_none() || (!was_given && piece == pieces.piece(number)));
        assert_eq!(said.given[0] >> number & 1 == 1, was_given || piece.is_some());
    }
    assert_eq!(theirs.count().0, new);
}

fn said() -> Vec<Bytes> {
    let author = Author::new(Keypair::from_ed25519_seed([8; 32]), 1);
    let message = author.write(topic(), Bytes::from_static(b"rain"), Signing::Strict);
    let ids = [default_id(&message)];
    let mut control = Control::default();
    let mut can = Extensions::default();
    can.partial_messages = true;
    control.extensions(can);
    control.ihave(&topic(), &ids);
    control.iwant([&b"other"[..]]);
    control.idontwant([&b"another"[..]]);
    control.graft(&topic());
    let named = Exchanged { peer: author.peer_id(), record: Some(Bytes::from_static(b"signed")) };
    control.prune(&Prune { topic: topic(), peers: vec![named], backoff: Some(u64::MAX) });
    let mut frames = control.finish();
    frames.extend(codec::subscriptions([Subscription::to(topic()).partial(Mode::Requests)]));
    for group in [&b"own"[..], b"theirs"] {
        let (group, metadata) = (Bytes::copy_from_slice(group), Some(Bytes::from_static(&[0, 0b1111])));
        let parts = Some(Bytes::from_static(b"\x00\x01a"));
        frames.push(codec::Partial { topic: topic(), group, parts, metadata }.write());
    }
    frames.push(codec::publish(&message));
    frames
}

pub(crate) fn rpc_seeds() -> Vec<Vec<u8>> {
    said().iter().flat_map(|frame| unframed(frame)).map(|rpc| rpc.to_vec()).collect()
}

pub(crate) fn parts_seeds() -> Vec<Vec<u8>> {
    vec![b"\x3f\x00\x00\x01a\x05\x02bc".to_vec(), b"\x00\x3f\x00\x01a\x05\x01b\x03\x02\xff\x00".to_vec()]
}

pub(crate) fn engine_seeds() -> Vec<Vec<u8>> {
    vec![said().concat(), [said(), said()].concat().concat()]
}
