//! The muxers, against a peer that says anything, while the user opens, reads, writes and drops streams.

use peerage_core::Budget;
use peerage_muxer::{ErrorCode, Muxed, mplex, yamux};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::io::{Scripted, run};

/// What one connection may take of memory: more than it should ever want.
const BUDGET: usize = 64 << 20;

pub(crate) fn yamux(data: &[u8]) {
    each(data, |io, client, budget| {
        let mode = if client { yamux::Mode::Client } else { yamux::Mode::Server };
        yamux::start(io, mode, yamux::Config::default(), budget)
    });
}

pub(crate) fn mplex(data: &[u8]) {
    each(data, |io, _, budget| mplex::start(io, mplex::Config::default(), budget));
}

/// The first byte says how: on which side, in which pieces, with which user, and whether the peer reads.
fn each(data: &[u8], start: impl Fn(Scripted, bool, Budget) -> Muxed) {
    let Some((how, bytes)) = data.split_first() else { return };
    let piece = [1, 7, 12, 1 << 20][usize::from(how & 3)];
    let io = Scripted::new(bytes, piece);
    let io = if how & 4 == 0 { io } else { io.taking(100) };
    let (client, lazy) = (how & 8 == 0, how & 16 == 0);
    let budget = Budget::limited(BUDGET);
    run(async {
        let Muxed { connection, driver } = start(io, client, budget.clone());
        let accepting = async {
            let mut kept = Vec::new();
            while let Ok(mut stream) = connection.accept().await {
                if lazy {
                    kept.push(stream);
                    continue;
                }
                let mut some = [0; 100];
                match stream.read(&mut some).await {
                    Ok(read) if read > 0 => drop(stream.write_all(&some[..read]).await),
                    Ok(_) => drop(stream.close_write().await),
                    Err(_) => {}
                }
            }
        };
        let opening = async {
            while let Ok(mut stream) = connection.open().await {
                if stream.write_all(b"hello").await.is_err() || stream.flush().await.is_err() {
                    break;
                }
                let mut some = [0; 10];
                if stream.read(&mut some).await.is_err() {
                    stream.reset(ErrorCode::NONE);
                    break;
                }
            }
        };
        // Whatever the peer said, it ends when the peer does.
        let (_end, (), ()) = tokio::join!(driver, accepting, opening);
        drop(connection);
    });
    assert!(budget.reserve(BUDGET).is_ok(), "not all memory was given back");
}

fn frame(kind: u8, flags: u16, stream: u32, length: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
    bytes
}

pub(crate) fn yamux_seeds() -> Vec<Vec<u8>> {
    const SYN: u16 = 1;
    const ACK: u16 = 2;
    const FIN: u16 = 4;
    const RST: u16 = 8;
    let sequences = [
        vec![frame(0, SYN, 1, 5, b"hello"), frame(0, FIN, 1, 0, b""), frame(3, 0, 0, 0, b"")],
        vec![
            frame(1, SYN, 2, 0, b""),
            frame(1, 0, 2, 1000, b""),
            frame(0, 0, 2, 3, b"abc"),
            frame(1, RST, 2, 0, b""),
        ],
        vec![frame(2, SYN, 0, 7, b""), frame(2, ACK, 0, 7, b""), frame(1, ACK, 1, 0xffff_0000, b"")],
        vec![frame(0, SYN, 1, 262_145, b"x")],
        vec![frame(0, ACK, 1, 3, b"abc"), frame(0, ACK, 2, 3, b"abc"), frame(1, FIN, 1, 0, b"")],
    ];
    let how = [0, 3, 8, 11, 16, 4, 27];
    sequences.iter().flat_map(|frames| how.map(|how| [vec![how], frames.concat()].concat())).collect()
}

pub(crate) fn mplex_seeds() -> Vec<Vec<u8>> {
    // New stream, message, close, reset, of both sides.
    let sequences: [&[u8]; 4] = [
        &[0x00, 1, b'a', 0x02, 3, b'a', b'b', b'c', 0x04, 0],
        &[0x08, 0, 0x0a, 1, b'x', 0x0e, 0],
        &[0x01, 2, b'h', b'i', 0x03, 0, 0x05, 0],
        &[0x02, 0xff, 0xff, 0xff, 0xff, 0x07],
    ];
    let how = [0, 3, 8, 11, 16, 4];
    sequences.iter().flat_map(|bytes| how.map(|how| [&[how], *bytes].concat())).collect()
}
