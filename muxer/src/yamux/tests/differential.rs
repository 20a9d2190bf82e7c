//! This yamux and the crate's, against each other in both roles, over sockets that tear everything apart.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Config, Mode,
    rough::{Dice, Rough},
    start_linked,
    suite::{assert_reset, pattern, read_to_end},
};
use crate::{Connection, ConnectionError, ErrorCode, Muxed, Stream, StreamError, yamux_crate};

/// Ours, and the crate's.
fn pair(ours: Mode, seed: u64) -> (Muxed, Muxed) {
    let theirs = match ours {
        Mode::Client => Mode::Server,
        Mode::Server => Mode::Client,
    };
    let (a, b) = tokio::io::duplex(1 + usize::try_from(Dice::new(seed).below(100_000)).unwrap());
    let config = Config {
        max_frame: 1 + u32::try_from(Dice::new(seed + 7).below(65_536)).unwrap(),
        ..Config::default()
    };
    let (a, _) = start_linked(Rough::new(a, seed, u64::MAX), ours, config);
    (a, yamux_crate::start(Rough::new(b, seed + 1, u64::MAX), theirs, Config::default()))
}

/// Answers each stream as its first byte says.
async fn serve(connection: Connection) {
    while let Ok(stream) = connection.accept().await {
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let mut kind = [0; 1];
    stream.read_exact(&mut kind).await?;
    match kind[0] {
        0 => {
            let all = read_to_end(&mut stream).await?;
            stream.write_all(&all).await?;
            stream.close_write().await
        }
        1 => {
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        }
        2 => {
            stream.write_all(b"half").await?;
            stream.reset(ErrorCode::RATE_LIMITED);
            Ok(())
        }
        _ => {
            // Says all it has to say, and listens to nothing.
            stream.write_all(b"all").await?;
            stream.close_write().await
        }
    }
}

async fn ask(connection: Connection, kind: u8, len: usize) {
    let mut stream = connection.open().await.unwrap();
    stream.write_all(&[kind]).await.unwrap();
    match kind {
        0 | 1 => {
            let (mut read, mut write) = tokio::io::split(stream);
            let send = async move {
                write.write_all(&pattern(len)).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut all = Vec::new();
            let (_, read) = tokio::join!(send, read.read_to_end(&mut all));
            read.unwrap();
            assert!(all == pattern(len));
        }
        2 => {
            let mut all = Vec::new();
            assert_reset(stream.read_to_end(&mut all).await, ErrorCode::RATE_LIMITED);
            // A reset may overtake what was not yet sent.
            assert!(b"half".starts_with(&all));
        }
        _ => {
            stream.close_write().await.unwrap();
            assert_eq!(read_to_end(&mut stream).await.unwrap(), b"all");
        }
    }
}

#[tokio::test]
async fn ours_and_the_crates_understand_each_other() {
    for seed in 0..16 {
        let mode = if seed % 2 == 0 { Mode::Client } else { Mode::Server };
        let (ours, theirs) = pair(mode, seed);
        let (our_driver, their_driver) = (tokio::spawn(ours.driver), tokio::spawn(theirs.driver));
        let servers = [ours.connection.clone(), theirs.connection.clone()].map(|c| tokio::spawn(serve(c)));
        let mut dice = Dice::new(seed + 99);
        let mut asking = Vec::new();
        for i in 0..24u8 {
            let connection = if i % 2 == 0 { &ours.connection } else { &theirs.connection };
            let len = [0, 1, 5000, 70_000, 400_000][usize::try_from(dice.below(5)).unwrap()];
            asking.push(tokio::spawn(ask(connection.clone(), i / 2 % 4, len)));
        }
        for one in asking {
            one.await.unwrap();
        }
        let (closing, code) = if seed % 4 < 2 {
            (&ours.connection, ErrorCode::SHUTDOWN)
        } else {
            (&theirs.connection, ErrorCode::GATED)
        };
        closing.close(code);
        let ends = [our_driver.await.unwrap(), their_driver.await.unwrap()];
        let (own, other) = if seed % 4 < 2 { (&ends[0], &ends[1]) } else { (&ends[1], &ends[0]) };
        assert!(own.is_ok(), "{own:?}");
        assert!(matches!(other, Err(ConnectionError::ClosedByPeer(c)) if *c == code), "{other:?}");
        for server in servers {
            server.await.unwrap();
        }
    }
}

#[tokio::test]
async fn limits_refuse_the_crates_streams_one_by_one() {
    let (a, b) = tokio::io::duplex(64 * 1024);
    let config = Config { max_inbound_streams: 2, ..Config::default() };
    let (ours, _) = start_linked(a, Mode::Server, config);
    let theirs = yamux_crate::start(b, Mode::Client, Config::default());
    tokio::spawn(ours.driver);
    tokio::spawn(theirs.driver);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = theirs.connection.open().await.unwrap();
        stream.write_all(b"?").await.unwrap();
        streams.push(stream);
    }
    let error = streams[2].read(&mut [0; 1]).await.expect_err("refused");
    let refused = StreamError::ResetByPeer(ErrorCode::RESOURCE_LIMIT_EXCEEDED).to_string();
    assert_eq!(error.to_string(), refused);
    for stream in &mut streams[..2] {
        let mut accepted = ours.connection.accept().await.unwrap();
        accepted.write_all(b"!").await.unwrap();
        stream.read_exact(&mut [0; 1]).await.unwrap();
        accepted.close_write().await.unwrap();
    }
}
