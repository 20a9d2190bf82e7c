use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use peerage_core::PeerId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};

use super::{CHUNK, PROTOCOL};
use crate::{NodeRef, OpenOptions, Stream};

/// How long opening the stream may take, a dial included.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a whole measurement may take, unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(300);

/// What to measure.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Bytes to send.
    pub upload: u64,
    /// Bytes to be sent.
    pub download: u64,
    /// How long all of it may take. Default: [`TIMEOUT`].
    pub timeout: Duration,
    /// Counts along, for whoever wants to look on.
    pub progress: Arc<Progress>,
}

impl Request {
    /// So many bytes each way.
    pub fn new(upload: u64, download: u64) -> Self {
        Self { upload, download, timeout: TIMEOUT, progress: Arc::default() }
    }
}

/// How far a measurement has come.
#[derive(Debug, Default)]
pub struct Progress {
    uploaded: AtomicU64,
    downloaded: AtomicU64,
}

impl Progress {
    /// Bytes that were handed to the stream.
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Bytes that came.
    pub fn downloaded(&self) -> u64 {
        self.downloaded.load(Ordering::Relaxed)
    }
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Measured {
    /// Bytes sent.
    pub uploaded: u64,
    /// From the opened stream to the first sign that the peer has read everything. A round trip is part of it.
    pub upload_time: Duration,
    /// Bytes that came.
    pub downloaded: u64,
    /// From there to the end of the stream.
    pub download_time: Duration,
}

/// Why there is no measurement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerfError {
    /// No stream could be opened.
    #[error("{0}")]
    Open(String),
    /// It took longer than was allowed.
    #[error("the measurement was not done within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The stream broke; it says whose fault it was.
    #[error("the stream broke: {0}")]
    Stream(String),
    /// The peer sent another number of bytes than was asked for; its fault.
    #[error("the peer sent {came} bytes or more where {wanted} were asked for")]
    WrongCount {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that had come when it was noticed.
        came: u64,
    },
    /// The node is not running.
    #[error("the node is not running")]
    Closed,
}

impl From<io::Error> for PerfError {
    fn from(error: io::Error) -> Self {
        Self::Stream(error.to_string())
    }
}

/// Makes measurements. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    node: NodeRef,
}

impl Handle {
    pub(super) fn new(node: NodeRef) -> Self {
        Self { node }
    }

    /// Measures once; connects first if there is no connection.
    ///
    /// # Errors
    /// [`PerfError`], by the request's timeout at the latest.
    pub async fn measure(&self, peer: PeerId, request: Request) -> Result<Measured, PerfError> {
        let limit = request.timeout;
        timeout(limit, self.run(peer, request)).await.unwrap_or(Err(PerfError::Timeout(limit)))
    }

    async fn run(&self, peer: PeerId, request: Request) -> Result<Measured, PerfError> {
        let node = self.node.get().ok_or(PerfError::Closed)?;
        let mut options = OpenOptions::new([PROTOCOL]);
        options.timeout = OPEN_TIMEOUT.min(request.timeout);
        let opened = node.open_with(peer, options).await;
        drop(node);
        let mut stream = opened.map_err(|error| PerfError::Open(error.to_string()))?;
        let Request { upload, download, progress, .. } = request;

        let start = Instant::now();
        let mut chunk = vec![0; CHUNK];
        send(&mut stream, &chunk, upload, download, &progress).await?;
        let mut came = 0_u64;
        let mut answered = None;
        loop {
            let read = stream.read(&mut chunk).await?;
            let answered = *answered.get_or_insert_with(Instant::now);
            if read == 0 {
                if came != download {
                    return Err(PerfError::WrongCount { wanted: download, came });
                }
                return Ok(Measured {
                    uploaded: upload,
                    upload_time: answered.duration_since(start),
                    downloaded: came,
                    download_time: answered.elapsed(),
                });
            }
            came = came.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
            progress.downloaded.store(came, Ordering::Relaxed);
            // Not at the end only: else it could go on for ever.
            if came > download {
                return Err(PerfError::WrongCount { wanted: download, came });
            }
        }
    }
}

async fn send(
    stream: &mut Stream,
    chunk: &[u8],
    upload: u64,
    download: u64,
    progress: &Progress,
) -> Result<(), PerfError> {
    stream.write_u64(download).await?;
    let mut left = upload;
    while left > 0 {
        let written = stream.write(chunk.get(..part(left)).unwrap_or(chunk)).await?;
        if written == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        left = left.saturating_sub(u64::try_from(written).unwrap_or(left));
        progress.uploaded.store(upload.saturating_sub(left), Ordering::Relaxed);
    }
    stream.close_write().await?;
    Ok(())
}

/// How much of a chunk is still to go.
pub(super) fn part(left: u64) -> usize {
    usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
}
