use std::{io, net::SocketAddr, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    RETRY_THRESHOLD, Shared, UnderWay, handshake,
    port::{Guest, Port},
};
use crate::{Link, Listener, ListenerEvent, Unfinished, address, quic::contained::contain};

/// Newcomers that are sent back for a token before others get a turn.
const RETRIES_AT_ONCE: usize = 64;

/// Accepts on one port.
pub(super) struct Bound {
    quic: Arc<Shared>,
    port: Arc<Port>,
}

impl Bound {
    pub(super) fn new(quic: Arc<Shared>, port: Arc<Port>) -> Self {
        Self { quic, port }
    }

    async fn accept(&self) -> ListenerEvent {
        let mut sent_back: usize = 0;
        loop {
            let incoming = tokio::select! {
                () = self.port.over() => None,
                incoming = self.port.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else {
                return ListenerEvent::Failed(io::Error::other("the QUIC endpoint has ended"));
            };
            if !incoming.remote_address_validated() && self.quic.under_way() >= RETRY_THRESHOLD {
                // Who cannot receive at the address costs no more than this packet.
                let _ = incoming.retry();
                sent_back = sent_back.saturating_add(1);
                if sent_back.is_multiple_of(RETRIES_AT_ONCE) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            return ListenerEvent::Incoming(self.link(incoming));
        }
    }

    fn link(&self, incoming: quinn::Incoming) -> Link {
        let ip = incoming.local_ip().unwrap_or(self.port.local.ip());
        let local = address::quic(SocketAddr::new(ip, self.port.local.port()));
        let remote = address::quic(incoming.remote_address());
        let guest = Guest::new(incoming, Arc::clone(&self.port));
        let counted = UnderWay::count(&self.quic);
        let quic = Arc::clone(&self.quic);
        let (here, there) = (local.clone(), remote.clone());
        Link::Unfinished(Unfinished::new(local, remote, move |opts| {
            handshake::welcome(quic, guest, here, there, opts, counted)
        }))
    }
}

impl Listener for Bound {
    fn addresses(&self) -> Vec<peerage_core::Multiaddr> {
        vec![address::quic(self.port.local)]
    }

    fn next(&mut self) -> BoxFuture<'_, ListenerEvent> {
        self.accept().boxed()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.port.is_over() {
            return;
        }
        contain(|| {
            self.port.stop_listening();
            // Those who wait in the queue wait in vain.
            while let Some(Some(incoming)) = self.port.endpoint.accept().now_or_never() {
                incoming.refuse();
            }
        });
    }
}
