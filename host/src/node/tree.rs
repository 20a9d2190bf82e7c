use std::{sync::Arc, time::Duration};

use futures::future::LocalBoxFuture;
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Inner, TransportEntry,
    plan::{Planned, Where, spec},
};
use crate::{
    actor::{Exit, Group, Intensity, Nursery, OnSpent, Spec, Strategy, supervise},
    addresses, book, dial, hub, listen, manager, upgrade,
};

/// Failures that one supervisor forgives within [`PERIOD`] before it gives up.
const MAX_RESTARTS: usize = 5;
const PERIOD: Duration = Duration::from_secs(30);
/// Transports registered at run time that may wait for their supervisor.
const ARRIVALS: usize = 16;
/// How long closing the store may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the tree:
///
/// ```text
/// root (rest_for_one)
/// ├─ core (rest_for_one): book, host, dialer, manager; a task that follows the interfaces
/// ├─ transports (one_for_one): tcp, memory, ...; more may come at run time
/// ├─ upgrades (one_for_one): an actor for each worker
/// ├─ connections: a nursery for each worker
/// └─ protocols (one_for_one, each with its own budget, switched off when it is spent): identify, ping, ...
/// ```
pub(crate) fn start(node: &Arc<Inner>, protocols: Vec<Planned>) {
    let protocols = Arc::new(protocols);
    let (root, stop) = (node.clone(), node.stop.clone());
    node.kernel.workers.spawn(0, move || async move {
        let group = group("root", Strategy::RestForOne, OnSpent::Escalate, root_children(&root, &protocols));
        let exit = supervise(root.kernel.clone(), group, stop).await;
        if exit.is_abnormal() {
            tracing::error!(%exit, "the node has ended");
        }
        root.close_all();
        close_store(&root).await;
        root.ended.send_replace(Some(exit.to_string()));
    });
}

/// Who has waited for the node's end may open the store again, whatever handles of the old node there still are.
async fn close_store(node: &Inner) {
    let Some(store) = node.store.clone() else { return };
    if timeout(CLOSE_TIMEOUT, spawn_blocking(move || store.close())).await.is_err() {
        tracing::warn!("the store is left open: its disk does not answer");
    }
}

fn group(path: &str, strategy: Strategy, on_spent: OnSpent, children: Vec<Spec>) -> Group {
    let intensity = Intensity { max: MAX_RESTARTS, period: PERIOD };
    Group { path: path.to_owned(), strategy, intensity, on_spent, children, arrivals: None }
}

fn root_children(node: &Arc<Inner>, protocols: &Arc<Vec<Planned>>) -> Vec<Spec> {
    let protocols = protocols.clone();
    vec![
        supervisor(node, "core", |node| group("core", Strategy::RestForOne, OnSpent::Escalate, core(node))),
        supervisor(node, "transports", |node| {
            let (sender, receiver) = mpsc::channel(ARRIVALS);
            let mut arrivals = node.lock_arrivals();
            let children = node.all_transports().iter().map(|entry| transport(node, entry)).collect();
            *arrivals = Some(sender);
            let mut group = group("transports", Strategy::OneForOne, OnSpent::Escalate, children);
            group.arrivals = Some(receiver);
            group
        }),
        supervisor(node, "upgrades", |node| {
            let children = node.ports.upgrades.iter().enumerate().map(|(worker, port)| {
                let spawn = upgrade::spawn(node, node.upgrader.clone(), port.clone());
                spec(worker.to_string(), node, Where::At(worker), spawn)
            });
            group("upgrades", Strategy::OneForOne, OnSpent::Escalate, children.collect())
        }),
        supervisor(node, "connections", |node| {
            let children =
                node.nurseries.iter().enumerate().map(|(worker, nursery)| child(worker, nursery)).collect();
            group("connections", Strategy::OneForOne, OnSpent::Escalate, children)
        }),
        supervisor(node, "protocols", move |node| {
            let children = protocols.iter().map(|planned| planned(node.clone())).collect();
            group("protocols", Strategy::OneForOne, OnSpent::SwitchOff, children)
        }),
    ]
}

fn core(node: &Arc<Inner>) -> Vec<Spec> {
    vec![
        spec("book", node, Where::Core, book::spawn(node)),
        spec("host", node, Where::Core, hub::spawn(node)),
        spec("dialer", node, Where::Core, dial::spawn(node)),
        spec("manager", node, Where::Core, manager::spawn(node)),
        follower(node),
    ]
}

/// A task, and no actor: it decides nothing.
fn follower(node: &Arc<Inner>) -> Spec {
    let node = node.clone();
    Spec::permanent("interfaces", move |stop: CancellationToken| -> LocalBoxFuture<'static, Exit> {
        Box::pin(addresses::follow(node.clone(), stop))
    })
}

/// A child that is a supervisor; its description is made anew for each of its lives.
fn supervisor(
    node: &Arc<Inner>,
    name: &'static str,
    describe: impl Fn(&Arc<Inner>) -> Group + Send + 'static,
) -> Spec {
    let node = node.clone();
    Spec::permanent(name, move |stop: CancellationToken| -> LocalBoxFuture<'static, Exit> {
        Box::pin(supervise(node.kernel.clone(), describe(&node), stop))
    })
}

fn child(worker: usize, nursery: &Arc<Nursery>) -> Spec {
    let nursery = nursery.clone();
    Spec::permanent(worker.to_string(), move |stop| -> LocalBoxFuture<'static, Exit> {
        Box::pin(nursery.supervise(stop))
    })
}

/// A transport's actor.
pub(crate) fn transport(node: &Arc<Inner>, entry: &TransportEntry) -> Spec {
    let spawn = listen::spawn(node, entry.object.clone(), entry.port.clone(), entry.wanted.clone());
    spec(entry.object.name(), node, Where::Core, spawn)
}
