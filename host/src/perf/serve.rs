use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::CHUNK;
use crate::{ErrorCode, Stream};

/// How long a peer may neither send nor take a byte in the middle of a measurement.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's side of one measurement. Neither silence nor a byte now and then keeps its place for longer than
/// `time`.
pub(super) async fn answer(stream: Stream, max: u64, time: Duration) -> io::Result<()> {
    timeout(time, serve(stream, max)).await?
}

async fn serve(mut stream: Stream, max: u64) -> io::Result<()> {
    let wanted = timeout(STALL_TIMEOUT, stream.read_u64()).await??;
    if wanted > max {
        tracing::debug!(peer = %stream.peer(), wanted, max, "refused a measurement");
        stream.reset(ErrorCode::RESOURCE_LIMIT_EXCEEDED);
        return Ok(());
    }
    let mut chunk = vec![0; CHUNK];
    while timeout(STALL_TIMEOUT, stream.read(&mut chunk)).await?? > 0 {}
    // What the peer sent is not sent back.
    chunk.fill(0);
    let mut left = wanted;
    while left > 0 {
        let part = chunk.get(..super::measure::part(left)).unwrap_or(&chunk);
        let written = timeout(STALL_TIMEOUT, stream.write(part)).await??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left = left.saturating_sub(u64::try_from(written).unwrap_or(left));
    }
    timeout(STALL_TIMEOUT, stream.close_write()).await?
}
