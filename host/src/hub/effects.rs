use std::sync::Arc;

use peerage_muxer::ErrorCode;

use super::{Action, CloseReason, Command, ConnectionEvent, Engine, HubEvent, SubscriberId};
use crate::{
    Event,
    actor::{Effects, Spawn},
    conn::{self, Candidate},
    node::Inner,
};

/// How to make the host's actor. A later life learns from the directory who is connected, and from there also the
/// ends that the former one was told of and did not pass on.
pub(crate) fn spawn(node: &Arc<Inner>) -> Spawn {
    let node = node.clone();
    let accounts = node.accounts.clone();
    Spawn::new(node.ports.hub.clone(), move |_| {
        let now = node.kernel.clock.now();
        let mut engine = Engine::new(node.local, accounts.clone());
        let (infos, ends): (Vec<_>, Vec<_>) = node.directory.all().into_iter().unzip();
        let ended: Vec<_> = infos.iter().zip(ends).filter_map(|(info, end)| Some((info.id, end?))).collect();
        peerage_core::Engine::handle_command(&mut engine, Command::Present { infos }, now);
        for (id, reason) in ended {
            peerage_core::Engine::handle_command(&mut engine, Command::Closed { id, reason }, now);
        }
        (engine, Performer { node: node.clone() })
    })
}

pub(crate) struct Performer {
    node: Arc<Inner>,
}

impl Effects<Action<Candidate>> for Performer {
    fn born(&mut self, _generation: u64) {
        // A former life may have ended between starting a connection and telling of it.
        for subscriber in &self.node.subscribers {
            self.node.ports.hub.post(Command::Replay { subscriber: subscriber.id });
        }
    }

    fn perform(&mut self, action: Action<Candidate>) {
        match action {
            Action::Start { info, connection, reply } => {
                let id = info.id;
                conn::start(&self.node, connection);
                if let Some(reply) = reply {
                    reply.send(Ok(id));
                }
            }
            Action::Refuse { info, connection, why, reply } => {
                tracing::debug!(peer = %info.peer, %why, "refused a connection");
                let Candidate { established, lease, .. } = connection;
                self.node.refuse(established.muxed, ErrorCode::GATED, lease.into_place());
                match reply {
                    Some(reply) => reply.send(Err(why)),
                    None => self.node.incoming_failed(info.remote, why.to_string()),
                }
            }
            Action::Forget { id } => self.node.directory.remove(id),
            Action::Notify { subscriber, event } => self.notify(subscriber, &event),
            Action::CloseConnection { id, why } => self.close(id, why),
            Action::Emit(event) => self.node.emit(public(event)),
            Action::AnswerDisconnect { reply, closed } => reply.send(closed),
        }
    }
}

impl Performer {
    fn notify(&self, subscriber: Option<SubscriberId>, event: &ConnectionEvent) {
        let chosen = |id| subscriber.is_none_or(|only| only == id);
        for subscriber in self.node.subscribers.iter().filter(|subscriber| chosen(subscriber.id)) {
            (subscriber.tell)(event.clone());
        }
    }

    fn close(&self, id: crate::ConnectionId, why: CloseReason) {
        let Some(handle) = self.node.directory.connection(id) else {
            return;
        };
        let code = match why {
            CloseReason::ShuttingDown => ErrorCode::SHUTDOWN,
            CloseReason::Banned => ErrorCode::GATED,
            CloseReason::Blamed => ErrorCode::PROTOCOL_VIOLATION,
            CloseReason::Disconnected => ErrorCode::NONE,
        };
        handle.close(code, why.to_string());
    }
}

fn public(event: HubEvent) -> Event {
    match event {
        HubEvent::Connected { info, first } => Event::Connected { connection: info, first },
        HubEvent::Disconnected { info, last, reason } => {
            Event::Disconnected { connection: info, last, why: reason }
        }
        HubEvent::PeerBanned { peer, period, reason } => {
            Event::PeerBanned { peer, duration: period, why: reason }
        }
    }
}
