//! The perf protocol, https://github.com/libp2p/specs/blob/master/perf/perf.md. The crate of rust-libp2p speaks another.

use std::time::Instant;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{PeerId, Stream, StreamProtocol};
use serde_json::{Value, json};

use crate::{Result, behaviour::Control};

pub const PERF: StreamProtocol = StreamProtocol::new("/perf/1.0.0");

const BYTES: u64 = 10 << 20;
const ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Reads how much is wanted, then to the end, and writes as much.
pub async fn serve(mut stream: Stream) -> Result<()> {
    let mut wanted = [0; 8];
    stream.read_exact(&mut wanted).await?;
    read_to_end(&mut stream).await?;
    write(&mut stream, u64::from_be_bytes(wanted)).await?;
    Ok(stream.close().await?)
}

/// Uploads, half-closes and downloads, the same amount each way.
pub async fn perf(control: &Control, remote: PeerId) -> Result<Value> {
    let mut stream = control.open(remote, PERF).await?;
    let started = Instant::now();
    stream.write_all(&BYTES.to_be_bytes()).await?;
    write(&mut stream, BYTES).await?;
    stream.close().await?; // closes our half only
    // Its first byte says that the other side has all.
    stream.read_exact(&mut [0]).await?;
    let uploaded = Instant::now();
    let total = 1 + read_to_end(&mut stream).await?;
    if total != BYTES {
        return Err(format!("{total} of {BYTES} bytes came down").into());
    }
    let (up, down) = (uploaded - started, uploaded.elapsed());
    Ok(json!({ "bytes": BYTES, "up_ms": up.as_millis() as u64, "down_ms": down.as_millis() as u64 }))
}

async fn write(stream: &mut Stream, size: u64) -> Result<()> {
    let mut left = size;
    while left > 0 {
        let chunk = left.min(ZEROS.len() as u64);
        stream.write_all(&ZEROS[..chunk as usize]).await?;
        left -= chunk;
    }
    Ok(())
}

async fn read_to_end(stream: &mut Stream) -> Result<u64> {
    let mut buffer = vec![0; ZEROS.len()];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}
