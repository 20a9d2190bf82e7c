use std::sync::Arc;

use futures::future::BoxFuture;
use peerage_core::{Multiaddr, PeerId};

use super::{Action, Command, Engine};
use crate::{
    actor::{Effects, Port, Spawn},
    node::{AddressSource, Inner, NodeRef, Subscribed},
};

/// How to make the peer book's actor.
pub(crate) fn spawn(node: &Arc<Inner>) -> Spawn<Engine, Subscribed<Performer>> {
    let (own, subscriber) = (NodeRef::of(node), Some(node.book_subscription));
    Spawn::new(node.ports.book.clone(), move |_| {
        (Engine::new(), Subscribed { effects: Performer, node: own.clone(), subscriber })
    })
}

pub(crate) struct Performer;

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::AnswerLookup { reply, addresses } => reply.send(addresses),
            Action::AnswerKnown { reply, info } => reply.send(info),
        }
    }
}

/// The book as a source of addresses, the first that every dial asks.
pub(crate) struct BookSource(pub(crate) Port<Engine>);

impl AddressSource for BookSource {
    fn name(&self) -> &'static str {
        "peer book"
    }

    /// What others say is weighed when it enters the book.
    fn is_hearsay(&self) -> bool {
        false
    }

    fn addresses(&self, peer: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>> {
        let port = self.0.clone();
        Box::pin(async move {
            port.ask(|reply| Command::Lookup { peer, reply }).await.map_err(|gone| gone.to_string())
        })
    }
}
