//! What every yamux promises, whoever implements it: the tests of each implementation include this module. Two sides of
//! it over a pipe, which first do what every muxer does; `scripted` and `unread` have one end played by hand.

mod connection;
pub(super) mod scripted;
pub(super) mod unread;

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Link, start_linked};
pub(super) use crate::testing::{assert_reset, pattern, read_to_end, settle, stream_between, stream_error};
use crate::{
    Muxed, testing,
    yamux::{Config, Mode},
};

pub(super) type Side = testing::Side<Arc<Link>>;

struct Yamux;

impl testing::Muxer for Yamux {
    type Link = Arc<Link>;

    async fn pair() -> (Side, Side) {
        pair()
    }
}

crate::conformance!(Yamux);

pub(super) fn side(io: DuplexStream, mode: Mode, config: Config) -> Side {
    let (Muxed { connection, driver }, link) = start_linked(io, mode, config);
    Side::new(connection, driver, link)
}

pub(super) fn pair_with(config: Config) -> (Side, Side) {
    let (a, b) = tokio::io::duplex(64 * 1024);
    (side(a, Mode::Client, config.clone()), side(b, Mode::Server, config))
}

pub(super) fn pair() -> (Side, Side) {
    pair_with(Config::default())
}

#[tokio::test]
async fn nothing_lingers_of_a_stream_that_nobody_reads_any_more() {
    let (a, b) = pair();
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    ours.close_write().await.unwrap();
    drop(ours);
    assert_eq!(read_to_end(&mut theirs).await.unwrap(), b"");
    theirs.write_all(&pattern(1024 * 1024)).await.expect_err("nobody gives credit");
    settle(&a, &b).await;
    assert!(!a.link.anyone_lingers());
}

#[tokio::test]
async fn a_stream_that_nothing_was_done_with_is_no_business_of_the_peers() {
    let (a, b) = pair();
    drop(a.connection.open().await.unwrap());
    let (mut ours, mut theirs) = stream_between(&a, &b).await;
    theirs.write_all(b"z").await.unwrap();
    ours.read_exact(&mut [0; 1]).await.unwrap();
    assert_eq!(b.link.inbound(), 1, "nobody told the peer of the idle one");
}
