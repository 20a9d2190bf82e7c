use std::sync::Arc;

use peerage_core::budget::Budget;
use peerage_muxer::ErrorCode;
use peerage_transport::{
    DialOpts, Established, Link, Progress, UpgradeError, Upgrader,
    upgrade::{TIMEOUT, UpgradeOpts},
};
use tokio::time::Instant;
use tracing::{Instrument as _, debug_span};

use super::{
    early,
    engine::{Action, Engine, How, Input, Job, Upgraded},
};
use crate::{
    actor::{Effects, Port, Spawn, Tasks},
    conn::Candidate,
    hub,
    limits::{Direction, NotAdmitted},
    node::Inner,
};

/// How to make the upgrades' actor of a worker.
pub(crate) fn spawn(node: &Arc<Inner>, upgrader: Upgrader, port: Port<Engine>) -> Spawn {
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
            Action::Run(job) => self.run(*job),
            Action::Answer { reply, result } => reply.send(result),
            Action::Admit(upgraded) => self.admit(upgraded),
            Action::AdmitProven(candidate) => present(&self.node, *candidate),
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
    fn run(&mut self, job: Job) {
        let Job { id: job, link, lease, berth, how } = job;
        let (upgrader, port) = (self.upgrader.clone(), self.port.clone());
        let remote = super::remote(&link);
        let span = match &how {
            How::AsListener => debug_span!("handshake", %remote, direction = %Direction::Inbound),
            How::AsDialer { span, .. } => {
                debug_span!(parent: span, "handshake", %remote, direction = %Direction::Outbound)
            }
        };
        let node = self.node.clone();
        let task = async move {
            let budget = lease.memory().budget();
            let result = match how {
                How::AsListener => listener(&upgrader, link, budget).await.map_err(Some),
                How::AsDialer { opts, progress, cancelled, .. } => tokio::select! {
                    () = cancelled.cancelled() => Err(None),
                    result = dialer(&upgrader, link, opts, progress, budget) => result.map_err(Some),
                },
            };
            let (peer, input) = match result {
                Ok(established) => {
                    let peer = established.peer;
                    let upgraded = Upgraded { established, lease, berth };
                    (Some(peer), early::settle(&node, job, upgraded).await)
                }
                Err(error) => (None, Input::Failed { job, error }),
            };
            port.post_input(peer, input);
        };
        let (node, port) = (self.node.clone(), self.port.clone());
        self.tasks.spawn(task.instrument(span), move |panic| {
            node.panicked(format!("{}/handshake", port.path()), panic, None);
            port.post_input(None, Input::Failed { job, error: None });
        });
    }

    fn admit(&self, upgraded: Upgraded) {
        if let Some(candidate) = seat(&self.node, upgraded) {
            present(&self.node, candidate);
        }
    }
}

/// Gives an incoming connection its place, or refuses it, if the program or a limit wants that.
pub(super) fn seat(node: &Arc<Inner>, Upgraded { established, lease, berth }: Upgraded) -> Option<Candidate> {
    let info = node.info(&established, Direction::Inbound);
    if let Err(gated) = node.gate(|gater| gater.secured(&info)) {
        node.incoming_failed(info.remote, gated.to_string());
        node.refuse(established.muxed, ErrorCode::GATED, lease.into_place());
        return None;
    }
    match lease.admit(info.peer, info.id) {
        Ok(lease) => Some(Candidate { info, established, lease, berth, begun: None }),
        Err(NotAdmitted { error, place }) => {
            let (remote, why) = (info.remote, error.to_string());
            tracing::debug!(%remote, why, "refused an incoming connection");
            node.incoming_failed(remote, why);
            node.refuse(established.muxed, ErrorCode::RESOURCE_LIMIT_EXCEEDED, place);
            None
        }
    }
}

/// Hands it to the host.
fn present(node: &Arc<Inner>, connection: Candidate) {
    let info = connection.info.clone();
    node.ports.hub.post_for(info.peer, hub::Command::Admit { info, connection, reply: None });
}

async fn listener(upgrader: &Upgrader, link: Link, budget: Budget) -> Result<Box<Established>, UpgradeError> {
    let now = Instant::now();
    let deadline = now.checked_add(TIMEOUT).unwrap_or(now);
    let opts = UpgradeOpts { budget, early: true, ..UpgradeOpts::incoming(deadline) };
    upgrader.finish(link, opts).await.map(Box::new)
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
