use std::sync::Arc;

use peerage_core::budget::Budget;
use peerage_muxer::ErrorCode;
use peerage_transport::{
    DialOpts, Established, Link, Progress, UpgradeError, Upgrader,
    upgrade::{TIMEOUT, UpgradeOpts},
};
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};

use super::engine::{Action, Engine, How, Input, Upgraded};
use crate::{
    actor::{Effects, Port, Spawn, Tasks},
    conn::Candidate,
    hub,
    limits::{Direction, HandshakeLease, NotAdmitted},
    node::Inner,
};

/// How to make the upgrades' actor.
pub(crate) fn spawn(node: &Arc<Inner>, upgrader: Upgrader, port: Port<Engine>) -> Spawn<Engine, Performer> {
    let node = node.clone();
    Spawn::new(port, move |birth| {
        let tasks = Tasks::default();
        let (node, upgrader, port) = (node.clone(), upgrader.clone(), birth.port.clone());
        (Engine::new(birth.first_id()), Performer { node, upgrader, port, tasks })
    })
}

pub(crate) struct Performer {
    node: Arc<Inner>,
    upgrader: Upgrader,
    port: Port<Engine>,
    tasks: Tasks,
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Run { job, link, lease, how } => self.run(job, link, how, lease),
            Action::Answer { reply, result } => reply.send(result),
            Action::Admit(upgraded) => self.admit(upgraded),
            Action::InboundFailed { remote, error } => {
                let why =
                    error.map_or_else(|| "its handshake panicked".to_owned(), |error| error.to_string());
                tracing::debug!(%remote, why, "an incoming connection failed");
                self.node.incoming_failed(remote, why);
            }
        }
    }
}

impl Performer {
    fn run(&mut self, job: u64, link: Link, how: How, lease: HandshakeLease) {
        let (upgrader, port) = (self.upgrader.clone(), self.port.clone());
        let remote = super::remote(&link);
        let span = match &how {
            How::AsListener => debug_span!("handshake", %remote, direction = %Direction::Inbound),
            How::AsDialer { span, .. } => {
                debug_span!(parent: span, "handshake", %remote, direction = %Direction::Outbound)
            }
        };
        let task = async move {
            let budget = lease.memory().budget();
            let result = match how {
                How::AsListener => listener(&upgrader, link, budget).await.map_err(Some),
                How::AsDialer { opts, progress, cancelled, .. } => tokio::select! {
                    () = cancelled.cancelled() => Err(None),
                    result = dialer(&upgrader, link, opts, progress, budget) => result.map_err(Some),
                },
            };
            match result {
                Ok(established) => {
                    let peer = established.peer;
                    let upgraded = Upgraded { established, lease };
                    port.post_input(Some(peer), Input::Done { job, upgraded });
                }
                Err(error) => port.post_input(None, Input::Failed { job, error }),
            }
        };
        let (node, port) = (self.node.clone(), self.port.clone());
        self.tasks.spawn(task.instrument(span), move |panic| {
            node.panicked(format!("{}/handshake", port.path()), panic, None);
            port.post_input(None, Input::Failed { job, error: None });
        });
    }

    fn admit(&self, Upgraded { established, lease }: Upgraded) {
        let info = self.node.info(&established, Direction::Inbound);
        let peer = info.peer;
        if let Err(gated) = self.node.gate(|gater| gater.secured(&info)) {
            self.node.incoming_failed(info.remote, gated.to_string());
            return self.node.refuse(established.muxed, ErrorCode::GATED, lease.into_place());
        }
        match lease.admit(peer, info.id) {
            Ok(lease) => {
                let connection = Candidate { info: info.clone(), established, lease };
                let admit = hub::Command::Admit { info, connection, reply: None };
                self.node.ports.hub.post_for(peer, admit);
            }
            Err(NotAdmitted { error, place }) => {
                let (remote, why) = (info.remote, error.to_string());
                tracing::debug!(%remote, why, "refused an incoming connection");
                self.node.incoming_failed(remote, why);
                let code = ErrorCode::RESOURCE_LIMIT_EXCEEDED;
                self.node.refuse(established.muxed, code, place);
            }
        }
    }
}

async fn listener(upgrader: &Upgrader, link: Link, budget: Budget) -> Result<Box<Established>, UpgradeError> {
    let now = Instant::now();
    let deadline = now.checked_add(TIMEOUT).unwrap_or(now);
    upgrader.finish(link, UpgradeOpts { budget, ..UpgradeOpts::incoming(deadline) }).await.map(Box::new)
}

async fn dialer(
    upgrader: &Upgrader,
    link: Link,
    opts: DialOpts,
    progress: Arc<Progress>,
    budget: Budget,
) -> Result<Box<Established>, UpgradeError> {
    let opts = UpgradeOpts { progress: Some(progress), budget, ..UpgradeOpts::from(&opts) };
    upgrader.finish(link, opts).await.map(Box::new)
}
