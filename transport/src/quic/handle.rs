use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use peerage_muxer::{ConnectionError, Control, ErrorCode, Stream};

use super::{shared::Shared, stream::Substream};

/// What [`Connection`](peerage_muxer::Connection) holds.
pub(super) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Control for Handle {
    fn open(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let halves = shared.unless_closing(shared.connection.open_bi()).await?;
            Ok(Stream::new(Substream::opened(Arc::clone(&shared), halves)))
        })
    }

    fn accept(&self) -> BoxFuture<'static, Result<Stream, ConnectionError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let halves = shared.unless_closing(shared.connection.accept_bi()).await?;
            Ok(Stream::new(Substream::accepted(Arc::clone(&shared), halves)))
        })
    }

    fn close(&self, code: ErrorCode) {
        self.shared.close(code);
    }

    fn rtt(&self) -> Option<Duration> {
        Some(self.shared.connection.rtt())
    }
}
