use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use peerage_core::ProtocolId;
use peerage_muxer::{self as muxer, ErrorCode};
use peerage_transport::select::{self, Optimistic};
use tokio::{task::JoinSet, time::timeout};
use tracing::{Instrument as _, debug_span, instrument::Instrumented};

use super::{Handle, engine::Input};
use crate::{
    Stream,
    actor::panic_text,
    limits::{Direction, StreamLease},
    node::{Inner, STREAM_ACTOR},
    registry::Found,
};

/// What runs for each stream of a served protocol; the error's text is logged.
pub(crate) type Handler = Arc<dyn Fn(Stream) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How long agreeing on a stream's protocol may take, in either direction.
pub(crate) const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes the streams that the peer opens, until the connection ends.
pub(super) async fn accept(node: &Arc<Inner>, handle: &Arc<Handle>, handlers: &Rc<RefCell<JoinSet<()>>>) {
    let peer = handle.info.peer;
    while let Ok(stream) = handle.muxer.accept().await {
        match node.ledger.inbound_stream(handle.info.id, peer) {
            Ok(lease) => {
                let mut handlers = handlers.borrow_mut();
                while handlers.try_join_next().is_some() {}
                // In the span of the connection, which accepts.
                let serving = serve(node.clone(), handle.clone(), stream, lease).in_current_span();
                handlers.spawn_local(serving);
            }
            Err(limit) => {
                tracing::debug!(%peer, %limit, "refused a stream");
                stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
                // Waits while the connection's actor has much mail: a flood of streams slows itself down. In a box, since the
                // future around it is held as long as the connection.
                let _ = Box::pin(handle.port.input(Some(peer), Input::BadStream)).await;
            }
        }
    }
}

/// Agrees on a protocol and hands the stream to its handler. A future keeps room for all of its stages, and streams may
/// stay open for long: so the first stage is in a box of its own, which is gone when the handler runs.
fn serve(
    node: Arc<Inner>,
    handle: Arc<Handle>,
    stream: muxer::Stream,
    lease: StreamLease,
) -> impl Future<Output = ()> {
    let (reporting, id, peer) = (node.clone(), handle.info.id, handle.info.peer);
    let beginning = Box::pin(begin(node, handle, stream, lease));
    // What user code there is, runs inside: predicates of served names, and handlers, from their first call on.
    let run = std::panic::AssertUnwindSafe(async move {
        let Some((handling, protocol)) = beginning.await else { return };
        if let Err(error) = handling.await {
            tracing::debug!(%peer, %protocol, error, "a stream's handler failed");
        }
    });
    run.catch_unwind().map(move |ran| {
        if let Err(panic) = ran {
            reporting.panicked(format!("{STREAM_ACTOR}of {id}"), panic_text(panic.as_ref()), Some(peer));
        }
    })
}

/// A handler that runs, and for which protocol.
type Handling = (Instrumented<BoxFuture<'static, Result<(), String>>>, ProtocolId);

async fn begin(
    node: Arc<Inner>,
    handle: Arc<Handle>,
    stream: muxer::Stream,
    lease: StreamLease,
) -> Option<Handling> {
    // It shall not be closed as idle while its protocol is agreed on.
    let in_use = handle.activity.stream(Direction::Inbound);
    let Some((stream, lease, protocol, found)) = agree(&node, stream, lease, &handle).await else {
        let _ = handle.port.input(Some(handle.info.peer), Input::BadStream).await;
        return None;
    };
    // What comes early may be a recording.
    if !found.options.replay_safe && !handle.proven.known().await {
        return None;
    }
    let stream = Stream::new(Optimistic::agreed(stream), protocol.clone(), &handle, in_use, lease);
    let span = debug_span!("stream", %protocol);
    Some(((found.handler)(stream).instrument(span), protocol))
}

type Agreed = (muxer::Stream, StreamLease, ProtocolId, Found<Handler>);

async fn agree(
    node: &Inner,
    mut stream: muxer::Stream,
    mut lease: StreamLease,
    handle: &Handle,
) -> Option<Agreed> {
    let peer = handle.info.peer;
    let limited = handle.info.limited;
    let known = |name: &str| node.registry.find(name, limited).and_then(|_| ProtocolId::new(name).ok());
    let agreed = timeout(NEGOTIATION_TIMEOUT, select::listen(&mut stream, known)).await;
    let protocol = match agreed {
        Ok(Ok(protocol)) => protocol,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "no protocol was agreed on");
            stream.reset(ErrorCode::PROTOCOL_NEGOTIATION_FAILED);
            return None;
        }
        Err(_) => {
            tracing::debug!(%peer, "agreeing on a protocol took too long");
            stream.reset(ErrorCode::PROTOCOL_NEGOTIATION_FAILED);
            return None;
        }
    };
    // It may have been removed in the meantime.
    let Some(found) = node.registry.find(protocol.as_str(), limited) else {
        stream.reset(ErrorCode::PROTOCOL_NEGOTIATION_FAILED);
        return None;
    };
    if let Err(limit) = lease.assign(&protocol, found.options.limits) {
        tracing::debug!(%peer, %limit, "refused a stream");
        stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
        return None;
    }
    Some((stream, lease, protocol, found))
}
