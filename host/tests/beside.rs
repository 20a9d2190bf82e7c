//! What a program runs on a connection's thread.

mod common;

use std::{future::pending, rc::Rc, thread};

use common::*;
use peerage_host::{BesideError, Event, Node};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
};

async fn node_with_threads(seed: u8) -> Node {
    let builder = Node::builder(keypair(seed)).workers(2).listen("/ip4/127.0.0.1/tcp/0").expect("an address");
    builder.start().await.expect("it starts")
}

#[tokio::test]
async fn a_task_runs_where_the_streams_handlers_do() {
    let (alice, bob) = (node_with_threads(1).await, node_with_threads(2).await);
    serve_echo(&alice);
    let (tell, told) = oneshot::channel();
    let tell = std::sync::Mutex::new(Some(tell));
    bob.serve("/where/1", move |_, _| {
        let tell = tell.lock().expect("no panic").take();
        async move {
            let _ = tell.expect("one stream").send(thread::current().id());
            Ok::<_, std::io::Error>(())
        }
    })
    .expect("served");
    bob.connect(address(&alice)).await.expect("connected");
    let mut stream = bob.open(alice.peer_id(), ECHO).await.expect("open");
    let connection = stream.connection();
    let ran = bob.run_beside(connection, move || {
        // What is not `Send` stays there.
        let bytes = Rc::new(*b"hello");
        async move {
            let mut echo = [0; 5];
            stream.write_all(&*bytes).await?;
            stream.read_exact(&mut echo).await?;
            Ok::<_, std::io::Error>((echo, thread::current().id()))
        }
    });
    let (echo, here) = ran.await.expect("it ran").expect("echoed");
    assert_eq!(&echo, b"hello");
    assert_ne!(here, thread::current().id());
    let mut stream = alice.open(bob.peer_id(), "/where/1").await.expect("open");
    // What is first said on it. The handler drops it.
    let _ = stream.close_write().await;
    assert_eq!(told.await, Ok(here), "where a stream of that connection is served");
}

#[tokio::test]
async fn a_panic_is_told_and_harms_nobody() {
    let (alice, bob) = (node_with_threads(1).await, node_with_threads(2).await);
    serve_echo(&alice);
    let connection = bob.connect(address(&alice)).await.expect("connected").connection;
    for when in ["making", "running"] {
        let ran = bob.run_beside(connection, move || {
            assert!(when != "making", "panic while {when}");
            async move { panic!("panic while {when}") }
        });
        assert_eq!(ran.await, Err::<(), _>(BesideError::Panicked(format!("panic while {when}"))));
    }
    check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10).await;
    let mut events = bob.events();
    alice.shutdown().await;
    event(&mut events, |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    let ran = bob.run_beside(connection, || async {});
    assert_eq!(ran.await, Err(BesideError::NotConnected(connection)));
}

#[tokio::test]
async fn a_task_ends_with_its_node_and_with_who_waits_for_it() {
    let (alice, bob) = (node_with_threads(1).await, node_with_threads(2).await);
    let connection = bob.connect(address(&alice)).await.expect("connected").connection;
    // It tells when it begins, and when it is dropped.
    let endless = || {
        let ((begun, has_begun), (gone, is_gone)) = (oneshot::channel(), oneshot::channel::<()>());
        let ran = bob.run_beside(connection, move || async move {
            let _ = begun.send(());
            pending::<()>().await;
            drop(gone);
        });
        (ran, has_begun, is_gone)
    };
    let (ran, has_begun, is_gone) = endless();
    tokio::select! {
        _ = ran => unreachable!("it has no end"),
        begun = has_begun => begun.expect("it begins"),
    }
    is_gone.await.expect_err("nobody waits for it");

    let (ran, has_begun, is_gone) = endless();
    let stopping = async {
        has_begun.await.expect("it begins");
        bob.shutdown().await;
    };
    let (ended, ()) = tokio::join!(ran, stopping);
    assert_eq!(ended, Err(BesideError::Closed));
    is_gone.await.expect_err("its node has stopped");
}
