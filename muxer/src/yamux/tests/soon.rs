//! When the driver's thread is told that an answer may come soon.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, split},
    task::{spawn, yield_now},
};

use super::{Config, Mode, start_linked};
use crate::{Muxed, Stream, soon};

/// Asks, waits for the answer, and until both drivers have nothing more to do; says whether one of them expects something.
async fn expects_after(stream: &mut Stream, len: usize) -> bool {
    soon::take();
    stream.write_all(&vec![7; len]).await.expect("written");
    stream.read_exact(&mut vec![0; len]).await.expect("read");
    for _ in 0..10 {
        yield_now().await;
    }
    soon::take()
}

/// The clock stands still, so that the round trip is none.
#[tokio::test(start_paused = true)]
async fn of_short_messages_of_a_near_peer_on_few_streams() {
    let (ours, theirs) = duplex(1 << 20);
    let (Muxed { connection, driver }, _) = start_linked(ours, Mode::Client, Config::default());
    let (Muxed { connection: echoing, driver: their_driver }, _) =
        start_linked(theirs, Mode::Server, Config::default());
    spawn(driver);
    spawn(their_driver);
    spawn(async move {
        while let Ok(stream) = echoing.accept().await {
            spawn(async move {
                let (mut reader, mut writer) = split(stream);
                copy(&mut reader, &mut writer).await
            });
        }
    });
    let mut stream = connection.open().await.expect("open");
    assert!(!expects_after(&mut stream, 32).await, "nobody knows how far the peer is");
    expects_after(&mut stream, 20_000).await;
    assert!(connection.rtt().is_some_and(|rtt| rtt.is_zero()));
    assert!(expects_after(&mut stream, 32).await);

    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = connection.open().await.expect("open");
        expects_after(&mut other, 32).await;
        others.push(other);
    }
    assert!(!expects_after(&mut stream, 32).await, "what many say is better taken together");
}
