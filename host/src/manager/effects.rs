use std::sync::Arc;

use peerage_muxer::ErrorCode;

use super::{Action, Command, Engine};
use crate::{
    actor::{Effects, Spawn},
    hub::ConnectionEvent,
    node::{Inner, NodeRef, Subscribed},
};

/// How to make the manager's actor.
pub(crate) fn spawn(node: &Arc<Inner>) -> Spawn {
    let (own, subscriber) = (NodeRef::of(node), Some(node.manager_subscription));
    let node = node.clone();
    Spawn::new(node.ports.manager.clone(), move |_| {
        let engine = Engine::new(node.policy.clone(), node.board.clone());
        let effects = Performer { node: node.clone() };
        (engine, Subscribed { effects, node: own.clone(), subscriber })
    })
}

pub(crate) struct Performer {
    node: Arc<Inner>,
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        let Action::Close { id, why } = action;
        if let Some(handle) = self.node.directory.connection(id) {
            handle.close(ErrorCode::GARBAGE_COLLECTED, why);
        }
    }
}

/// What the manager makes of a connection's event.
pub(crate) fn on_connection(event: ConnectionEvent) -> Command {
    match event {
        ConnectionEvent::Opened { info, .. } => Command::Opened { info },
        ConnectionEvent::Closed { info, .. } => Command::Closed { id: info.id },
    }
}
