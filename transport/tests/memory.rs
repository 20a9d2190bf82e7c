//! The memory transport on a paused, single-threaded runtime.
#![allow(clippy::unwrap_used)]

use std::{io, time::Duration};

use futures::FutureExt;
use peerage_core::Multiaddr;
use peerage_transport::{
    DialOpts, Link, ListenError, ListenOpts, Listener, ListenerEvent, Raw, Transport, TransportError,
    memory::{ACCEPT_BACKLOG, Network, PIPE_CAPACITY},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

fn address(port: u64) -> Multiaddr {
    format!("/memory/{port}").parse().unwrap()
}

async fn listen(network: &Network, port: u64) -> Box<dyn Listener> {
    network.transport().listen(address(port), ListenOpts::default()).await.unwrap()
}

async fn dial(network: &Network, port: u64) -> Result<Raw, TransportError> {
    let opts = DialOpts::new(Instant::now() + Duration::from_secs(5));
    match network.transport().dial(address(port), opts).await? {
        Link::Raw(raw) => Ok(raw),
        other => panic!("{other:?}"),
    }
}

async fn accept(listener: &mut Box<dyn Listener>) -> Raw {
    match listener.next().await {
        ListenerEvent::Incoming(Link::Raw(raw)) => raw,
        other => panic!("{other:?}"),
    }
}

fn refused(result: Result<Raw, TransportError>) -> bool {
    matches!(result, Err(TransportError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_each_side_knows_the_other() {
    let network = Network::new();
    let mut listener = listen(&network, 7).await;
    let mut dialed = dial(&network, 7).await.unwrap();
    let mut accepted = accept(&mut listener).await;
    assert_eq!(dialed.remote, address(7));
    assert_eq!(accepted.local, address(7));
    assert_eq!(dialed.local, accepted.remote);
    assert!(!dialed.limited && !accepted.limited);

    dialed.io.write_all(b"there").await.unwrap();
    accepted.io.write_all(b"back").await.unwrap();
    dialed.io.shutdown().await.unwrap();
    dialed.io.read_exact(&mut [0; 4]).await.unwrap();
    let mut all = String::new();
    accepted.io.read_to_string(&mut all).await.unwrap();
    assert_eq!(all, "there");
}

#[tokio::test(start_paused = true)]
async fn what_it_dials_and_listens_on() {
    let transport = Network::new().transport();
    assert_eq!(transport.name(), "memory");
    for (text, dials, listens) in [
        ("/memory/1", true, true),
        ("/memory/0", false, true),
        ("/memory/1/p2p-circuit", false, false),
        ("/ip4/127.0.0.1/tcp/1", false, false),
    ] {
        let address: Multiaddr = text.parse().unwrap();
        assert_eq!(transport.dials(&address), dials, "{text}");
        assert_eq!(transport.listens(&address), listens, "{text}");
        let opts = DialOpts::new(Instant::now());
        let dialed = transport.dial(address.clone(), opts).await;
        assert_eq!(matches!(dialed, Err(TransportError::Unsupported(_))), !dials, "{text}");
        let listening = transport.listen(address, ListenOpts::default()).await;
        assert_eq!(matches!(listening, Err(ListenError::Unsupported(_))), !listens, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_a_refusal() {
    let network = Network::new();
    assert!(refused(dial(&network, 7).await));
    let elsewhere = Network::new();
    let _listener = listen(&elsewhere, 7).await;
    assert!(refused(dial(&network, 7).await), "networks do not share ports");
}

#[tokio::test(start_paused = true)]
async fn ports_are_picked_in_order_and_never_twice() {
    let network = Network::new();
    let _taken = listen(&network, 2).await;
    let mut picked = Vec::new();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let listener = listen(&network, 0).await;
        picked.extend(listener.addresses());
        listeners.push(listener);
    }
    assert_eq!(picked, [address(1), address(3), address(4)]);
    let again = network.transport().listen(address(3), ListenOpts::default()).await;
    assert!(
        matches!(again, Err(ListenError::Bind { source, .. }) if source.kind() == io::ErrorKind::AddrInUse)
    );
}

#[tokio::test(start_paused = true)]
async fn a_dropped_listener_frees_its_port_and_ends_what_it_did_not_take() {
    let network = Network::new();
    let listener = listen(&network, 7).await;
    let mut waiting = dial(&network, 7).await.unwrap();
    drop(listener);
    assert_eq!(waiting.io.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(refused(dial(&network, 7).await));
    let _again = listen(&network, 7).await;
    dial(&network, 7).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_backlog_makes_dials_wait() {
    let network = Network::new();
    let mut listener = listen(&network, 7).await;
    let mut links = Vec::new();
    for _ in 0..ACCEPT_BACKLOG {
        // Otherwise tokio's budget for one poll would run out with the backlog.
        tokio::task::yield_now().await;
        links.push(dial(&network, 7).now_or_never().expect("there is room").unwrap());
    }
    let mut one_more = Box::pin(dial(&network, 7));
    assert!((&mut one_more).now_or_never().is_none(), "the backlog is full");
    let first = accept(&mut listener).await;
    assert_eq!(first.remote, links[0].local);
    links.push(one_more.now_or_never().expect("room again").unwrap());

    let start = Instant::now();
    assert!(matches!(dial(&network, 7).await, Err(TransportError::Timeout)));
    assert_eq!(start.elapsed(), Duration::from_secs(5));

    let (ended, ()) = tokio::join!(dial(&network, 7), async { drop(listener) });
    assert!(refused(ended), "a dial that waits hears of the listener's end");
}

#[tokio::test(start_paused = true)]
async fn a_pipe_holds_its_capacity_and_not_a_byte_more() {
    let network = Network::new();
    let mut listener = listen(&network, 7).await;
    let mut near = dial(&network, 7).await.unwrap();
    let mut far = accept(&mut listener).await;
    near.io.write_all(&vec![0; PIPE_CAPACITY]).now_or_never().expect("room").unwrap();
    assert!(near.io.write(&[0]).now_or_never().is_none());
    far.io.read_exact(&mut [0]).await.unwrap();
    near.io.write_all(&[0]).now_or_never().expect("room again").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_end_is_an_end_of_file_and_a_broken_pipe() {
    let network = Network::new();
    let mut listener = listen(&network, 7).await;
    let mut near = dial(&network, 7).await.unwrap();
    drop(accept(&mut listener).await);
    assert_eq!(near.io.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(near.io.write(&[0]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}
