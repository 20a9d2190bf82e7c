use std::{
    cell::RefCell,
    convert::Infallible,
    future::pending,
    rc::Rc,
    sync::{Arc, OnceLock},
};

use peerage_muxer::{self as muxer, Driver};
use peerage_transport::{Unproven, UpgradeError};
use tokio::{sync::watch, task::JoinSet};
use tracing::{Instrument as _, debug_span};

use super::{Announced, Handle, inbound};
use crate::{actor::Port, hub::ConnInfo, limits::ConnectionLease, manager::Entered, node::Inner};

/// A connection on which streams can be served, before it has its actor, and before anybody is told of it.
pub(crate) struct Begun {
    pub(super) handle: Arc<Handle>,
    pub(super) entered: Entered,
    pub(super) handlers: JoinSet<()>,
    /// Those who wait for it hear that the peer has proven that it is there, and that it is wanted.
    told: Option<watch::Sender<bool>>,
}

impl Begun {
    pub(super) fn new(
        node: &Arc<Inner>,
        info: ConnInfo,
        worker: usize,
        connection: muxer::Connection,
        lease: &ConnectionLease,
    ) -> Self {
        Self::made(node, info, worker, connection, lease, Proven(None), None)
    }

    fn made(
        node: &Arc<Inner>,
        info: ConnInfo,
        worker: usize,
        connection: muxer::Connection,
        lease: &ConnectionLease,
        proven: Proven,
        told: Option<watch::Sender<bool>>,
    ) -> Self {
        let (activity, entered) = node.board.enter(info.id, &node.kernel.clock);
        let handle = Arc::new(Handle {
            port: Port::new(format!("connections/{worker}/{}", info.id)),
            announced: Announced::before(node.known.names(info.peer)),
            info,
            muxer: connection,
            memory: lease.memory().clone(),
            activity,
            proven,
            worker,
            ended: OnceLock::new(),
        });
        Self { handle, entered, handlers: JoinSet::new(), told }
    }

    /// It is admitted: whoever waited for the proof goes on.
    pub(super) fn admitted(&mut self) {
        if let Some(told) = self.told.take() {
            let _ = told.send(true);
        }
    }
}

/// Waits until the peer of an incoming connection has proven that it is there, and serves meanwhile what it sent early. Nobody is
/// told of the connection before that, and the handlers of protocols to which it could do harm are not called: somebody
/// may have recorded what comes. To be called on a worker.
pub(crate) async fn prove(
    node: &Arc<Inner>,
    info: &ConnInfo,
    worker: usize,
    proof: Unproven,
    (connection, driver): (muxer::Connection, &mut Driver),
    lease: &ConnectionLease,
    serve: bool,
) -> Result<Begun, UpgradeError> {
    let (told, proven) = watch::channel(false);
    let span = debug_span!("early", id = %info.id, peer = %info.peer);
    let begun = Begun::made(node, info.clone(), worker, connection, lease, Proven(Some(proven)), Some(told));
    let handlers = Rc::new(RefCell::new(JoinSet::new()));
    let serving = async {
        if serve {
            inbound::accept(node, &begun.handle, &handlers).await;
        }
        pending::<Infallible>().await
    };
    let driving = async {
        // The proof fails by the same.
        let _ = driver.await;
        pending::<Infallible>().await
    };
    let proof = async {
        tokio::select! {
            proof = proof => proof,
            never = serving => match never {},
            never = driving => match never {},
        }
    };
    proof.instrument(span).await?;
    let handlers = handlers.take();
    Ok(Begun { handlers, ..begun })
}

/// Whether the peer has proven that it is there, now or by and by. Without a channel it has.
#[derive(Clone)]
pub(crate) struct Proven(Option<watch::Receiver<bool>>);

impl Proven {
    pub(crate) fn is_known(&self) -> bool {
        self.0.as_ref().is_none_or(|proven| *proven.borrow())
    }

    /// Waits for it; `false` if it never will.
    pub(super) async fn known(&self) -> bool {
        match &self.0 {
            None => true,
            Some(proven) => proven.clone().wait_for(|proven| *proven).await.is_ok(),
        }
    }
}
