//! What gossipsub's peers say.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use peerage_core::{
    Keypair,
    engine::{rng, sim::Sim},
    frame::Decoder,
};
use peerage_pubsub::{
    Author, Config, Signing, Topic, Version,
    codec::{self, Control, Exchanged, Extensions, Limits, Prune, Subscription},
    default_id,
    engine::{Action, Command, Engine, Input},
    verify,
};

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
    let mut sim = Sim::new(Engine::new(Arc::new(config), keypair().peer_id(), rng(1), 1));
    let id = 1.into();
    sim.command(Command::Subscribe(topic()));
    sim.command(Command::Connected { peer, id, ip: None, dialed: false });
    settle(&mut sim);
    for frame in unframed(data).into_iter().take(64) {
        let Ok(rpc) = codec::decode(&frame, &Limits::default()) else { break };
        sim.input(Input::Rpcs { peer, rpcs: vec![rpc], charge: None });
        settle(&mut sim);
        let sizes = sim.engine().sizes();
        assert!(sizes.topics <= 101 && sizes.backoffs <= 1 && sizes.promises <= 64, "{sizes:?}");
        assert!(sizes.unwanted <= 4000 && sizes.in_progress == 0, "{sizes:?}");
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

fn said() -> Vec<Bytes> {
    let author = Author::new(Keypair::from_ed25519_seed([8; 32]), 1);
    let message = author.write(topic(), Bytes::from_static(b"rain"), Signing::Strict);
    let ids = [default_id(&message)];
    let mut control = Control::default();
    control.extensions(Extensions::default());
    control.ihave(&topic(), &ids);
    control.iwant([&b"other"[..]]);
    control.idontwant([&b"another"[..]]);
    control.graft(&topic());
    let named = Exchanged { peer: author.peer_id(), record: Some(Bytes::from_static(b"signed")) };
    control.prune(&Prune { topic: topic(), peers: vec![named], backoff: Some(u64::MAX) });
    let mut frames = codec::subscriptions([Subscription::to(topic())]);
    frames.extend(control.finish());
    frames.push(codec::publish(&message));
    frames
}

pub(crate) fn rpc_seeds() -> Vec<Vec<u8>> {
    said().iter().flat_map(|frame| unframed(frame)).map(|rpc| rpc.to_vec()).collect()
}

pub(crate) fn engine_seeds() -> Vec<Vec<u8>> {
    vec![said().concat(), [said(), said()].concat().concat()]
}
