use std::sync::Arc;

use peerage_transport::{
    DialOpts, Established, Link, Progress, UpgradeError, Upgrader,
    upgrade::{TIMEOUT, UpgradeOpts},
};
use tokio::time::Instant;

use super::engine::{Action, Engine, How, Input};
use crate::{
    Event,
    actor::{Effects, Port, Spawn, Tasks},
    conn::Candidate,
    hub,
    limits::Direction,
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
            Action::Admit(established) => self.admit(established),
            Action::InboundFailed { remote, error } => {
                let why =
                    error.map_or_else(|| "its handshake panicked".to_owned(), |error| error.to_string());
                tracing::debug!(%remote, why, "an incoming connection failed");
                self.node.emit(Event::IncomingFailed { remote, why });
            }
        }
    }
}

impl Performer {
    fn run(&mut self, job: u64, link: Link, how: How, lease: impl Sized + 'static) {
        let (upgrader, port) = (self.upgrader.clone(), self.port.clone());
        let task = async move {
            let result = match how {
                How::AsListener => listener(&upgrader, link).await.map_err(Some),
                How::AsDialer { opts, progress, cancelled } => tokio::select! {
                    () = cancelled.cancelled() => Err(None),
                    result = dialer(&upgrader, link, opts, progress) => result.map_err(Some),
                },
            };
            drop(lease);
            match result {
                Ok(established) => {
                    port.post_input(Some(established.peer), Input::Done { job, established });
                }
                Err(error) => port.post_input(None, Input::Failed { job, error }),
            }
        };
        let (node, port) = (self.node.clone(), self.port.clone());
        self.tasks.spawn(task, move |panic| {
            node.panicked(format!("{}/handshake", port.path()), panic, None);
            port.post_input(None, Input::Failed { job, error: None });
        });
    }

    fn admit(&self, established: Box<Established>) {
        match self.node.ledger.connection(established.peer, Direction::Inbound) {
            Ok(lease) => {
                let info = self.node.info(&established, Direction::Inbound);
                let connection = Candidate { established, lease };
                self.node
                    .ports
                    .hub
                    .post_for(info.peer, hub::Command::Admit { info, connection, reply: None });
            }
            Err(limit) => {
                let (remote, why) = (established.remote.clone(), limit.to_string());
                tracing::debug!(%remote, why, "refused an incoming connection");
                self.node.emit(Event::IncomingFailed { remote, why });
                self.node.refuse(established.muxed, peerage_muxer::ErrorCode::RESOURCE_LIMIT_EXCEEDED);
            }
        }
    }
}

async fn listener(upgrader: &Upgrader, link: Link) -> Result<Box<Established>, UpgradeError> {
    let now = Instant::now();
    let deadline = now.checked_add(TIMEOUT).unwrap_or(now);
    upgrader.finish(link, UpgradeOpts::incoming(deadline)).await.map(Box::new)
}

async fn dialer(
    upgrader: &Upgrader,
    link: Link,
    opts: DialOpts,
    progress: Arc<Progress>,
) -> Result<Box<Established>, UpgradeError> {
    let opts = UpgradeOpts { progress: Some(progress), ..UpgradeOpts::from(&opts) };
    upgrader.finish(link, opts).await.map(Box::new)
}
