use std::{cell::RefCell, convert::Infallible, fmt, pin::pin, rc::Rc, sync::Arc, time::Duration};

use futures::FutureExt as _;
use peerage_muxer::{self as muxer, Driver, ErrorCode, Muxed};
use peerage_transport::Established;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug_span};

use super::{
    Begun, Handle,
    engine::{Action, Engine, Input},
    inbound,
};
use crate::{
    actor::{Berth, Effects, Exit, Intensity, Spawn, panic_text},
    hub::{self, ConnInfo},
    limits::ConnectionLease,
    node::Inner,
};

/// A connection that the host has not admitted yet. Dropping it ends it.
pub(crate) struct Candidate {
    pub(crate) info: ConnInfo,
    pub(crate) established: Box<Established>,
    pub(crate) lease: ConnectionLease,
    /// Where it will live.
    pub(crate) berth: Berth,
    /// What there is of it, if something was served before its peer was proven.
    pub(crate) begun: Option<Begun>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("info", &self.info).finish_non_exhaustive()
    }
}

/// What a stopping node gives its connections to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// What stream handlers may take to notice that their connection has ended, before they are dropped.
const HANDLERS_GRACE: Duration = Duration::from_secs(5);

/// Brings an admitted connection to life on a worker: its actor, its driver, and the acceptance of streams are
/// linked; when one ends, all end.
pub(crate) fn start(node: &Arc<Inner>, candidate: Candidate) {
    let Candidate { info, established, lease, berth, begun } = candidate;
    let worker = berth.worker();
    let Muxed { connection, driver } = established.muxed;
    let (id, peer) = (info.id, info.peer);
    let span = debug_span!("connection", %id, %peer, direction = %info.direction);
    if let Some(security) = info.negotiated_security() {
        node.known.secured(peer, security);
    }
    let mut begun = begun.unwrap_or_else(|| Begun::new(node, info, worker, connection, &lease));
    begun.admitted();
    let Begun { handle, entered, handlers, .. } = begun;
    // There is one for each worker.
    let Some(nursery) = node.nursery(worker) else { return };
    // Entered before the host speaks of it: who hears `Connected` can open a stream.
    node.directory.enter(handle.clone());
    let (reason, ended) = (Arc::new(std::sync::Mutex::new(None)), node.clone());
    let (own, noted) = (node.clone(), reason.clone());
    nursery.spawn(
        peer,
        move |stop| live(own, handle, handlers, driver, worker, stop, noted).instrument(span),
        move |exit| {
            drop((lease, entered, berth));
            let why = reason.lock().ok().and_then(|mut reason| reason.take());
            let why = why.unwrap_or_else(|| exit.to_string());
            ended.directory.end(id, &why);
            ended.ports.hub.post_for(peer, hub::Command::Closed { id, reason: why });
        },
    );
}

async fn live(
    node: Arc<Inner>,
    handle: Arc<Handle>,
    handlers: JoinSet<()>,
    driver: Driver,
    worker: usize,
    stop: CancellationToken,
    reason: Arc<std::sync::Mutex<Option<String>>>,
) -> Exit {
    let path = handle.port.path().to_owned();
    let _place = node.kernel.tree.place(path.clone());
    let (finish, finished) = oneshot::channel::<String>();
    // Pinned where they are made, here and below: a future keeps room for what was moved on, too, and this one is held for
    // as long as the connection.
    let mut actor = pin!(actor(&node, &handle, worker, finish, CancellationToken::new()));
    // From here on the actor hears what it is told; what came before is noted.
    if let Some((code, why)) = handle.ended.get().cloned() {
        handle.close(code, why);
    }

    let peer = handle.info.peer;
    let port = handle.port.clone();
    let mut driving = pin!(async {
        let end = std::panic::AssertUnwindSafe(driver).catch_unwind().await;
        let why = match end {
            Ok(Ok(())) => "closed by this node".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                let text = panic_text(panic.as_ref());
                node.panicked(format!("{path}/driver"), text.clone(), Some(peer));
                format!("its driver panicked: {text}")
            }
        };
        port.post_input(Some(peer), Input::DriverEnded { why });
        std::future::pending::<Infallible>().await
    });
    let handlers = Rc::new(RefCell::new(handlers));
    let mut accepting = pin!(async {
        inbound::accept(&node, &handle, &handlers).await;
        std::future::pending::<Infallible>().await
    });

    let mut work = pin!(async {
        tokio::select! {
            why = finished => (why.unwrap_or_else(|_| "its actor is gone".into()), Exit::Normal),
            exit = &mut actor => (exit.to_string(), exit),
            never = &mut driving => match never {},
            never = &mut accepting => match never {},
        }
    });
    let (why, exit) = tokio::select! {
        ended = &mut work => ended,
        () = stop.cancelled() => {
            handle.close(ErrorCode::SHUTDOWN, "the node stops");
            timeout(GOODBYE, &mut work).await.unwrap_or(("the node stops".into(), Exit::Shutdown))
        }
    };
    if let Ok(mut reason) = reason.lock() {
        *reason = Some(why);
    }
    // The driver is dropped right after this: every stream of the connection now fails, and its handlers end by that.
    let mut handlers = handlers.take();
    tokio::task::spawn_local(async move {
        let _ = timeout(HANDLERS_GRACE, async { while handlers.join_next().await.is_some() {} }).await;
    });
    exit
}

fn actor(
    node: &Arc<Inner>,
    handle: &Handle,
    worker: usize,
    finish: oneshot::Sender<String>,
    stop: CancellationToken,
) -> impl Future<Output = Exit> + use<> {
    let finish = Arc::new(std::sync::Mutex::new(Some(finish)));
    let muxer = handle.muxer.clone();
    let mut spawn = Spawn::new(handle.port.clone(), move |_| {
        let effects = Performer { muxer: muxer.clone(), finish: finish.clone() };
        (Engine::default(), effects)
    });
    // A connection that lost its mind is not worth keeping: a panic that is not the peer's doing ends it.
    spawn.intensity = Intensity { max: 0, period: Duration::from_secs(1) };
    let ended = stop.clone().drop_guard();
    let exit = spawn.start(&node.kernel, worker, stop);
    // Dropping the connection's future stops its actor, too.
    async move {
        let _ended = ended;
        exit.await
    }
}

struct Performer {
    muxer: muxer::Connection,
    finish: Arc<std::sync::Mutex<Option<oneshot::Sender<String>>>>,
}

impl Effects<Action> for Performer {
    fn perform(&mut self, action: Action) {
        match action {
            Action::Close(code) => self.muxer.close(code),
            Action::Finish { why } => {
                let finish = self.finish.lock().ok().and_then(|mut finish| finish.take());
                if let Some(finish) = finish {
                    let _ = finish.send(why);
                }
            }
        }
    }
}
