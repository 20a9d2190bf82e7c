//! Incoming connections that can be used before their handshake is done, because they resume a session.

use std::sync::Arc;

use super::{
    effects,
    engine::{Input, Upgraded},
};
use crate::{conn, node::Inner};

/// Waits for the proof that is still to come, if there is one, and serves meanwhile what came early. What the program and the
/// limits have to say is asked before that.
pub(super) async fn settle(node: &Arc<Inner>, job: u64, mut upgraded: Upgraded) -> Input {
    let peer = upgraded.established.peer;
    let Some(proof) = upgraded.established.resumption.unproven.take() else {
        return Input::Done { job, upgraded };
    };
    // Who is banned is refused by the host, once it is proven who is banned.
    let banned = node.accounts.banned(&peer, node.kernel.clock.now()).is_some();
    let Some(mut candidate) = effects::seat(node, upgraded) else {
        return Input::Refused { job };
    };
    let muxed = &mut candidate.established.muxed;
    let ends = (muxed.connection.clone(), &mut muxed.driver);
    match conn::prove(node, &candidate.info, candidate.berth.worker(), proof, ends, &candidate.lease, !banned)
        .await
    {
        Ok(begun) => {
            Input::Proven { job, candidate: Box::new(conn::Candidate { begun: Some(begun), ..candidate }) }
        }
        Err(error) => Input::Failed { job, error: Some(error) },
    }
}
