//! Unix domain sockets, in directories of the tests' own.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs, io,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use common::{echo_both_ways, upgrade_both};
use futures::FutureExt;
use peerage_core::Multiaddr;
use peerage_transport::{
    DialOpts, Fault, Link, ListenError, ListenOpts, Listener, ListenerEvent, Transport, TransportError,
    unix::{MAX_PATH_LEN, Unix},
    upgrade::Security,
};
use tokio::time::Instant;

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("peerage-unix-{}-{n}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn address(path: &Path) -> Multiaddr {
    format!("/unix{}", path.display()).parse().unwrap()
}

async fn listen(path: &Path) -> Result<Box<dyn Listener>, ListenError> {
    Unix::new().listen(address(path), ListenOpts::default()).await
}

/// What the operating system said.
async fn refused(path: &Path) -> io::ErrorKind {
    match listen(path).await {
        Err(ListenError::Bind { source, .. }) => source.kind(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it listens"),
    }
}

async fn dial(path: &Path) -> Result<Link, TransportError> {
    Unix::new().dial(address(path), DialOpts::new(Instant::now() + Duration::from_secs(20))).await
}

#[tokio::test]
async fn a_round_trip_through_the_upgrade() {
    let directory = Directory::new();
    let path = directory.socket();
    let mut listener = listen(&path).await.unwrap();
    assert_eq!(listener.addresses(), [address(&path)]);
    let (dialed, accepted) = tokio::join!(dial(&path), listener.next());
    let Ok(Link::Raw(dialed)) = dialed else { panic!() };
    let ListenerEvent::Incoming(Link::Raw(accepted)) = accepted else { panic!() };
    for raw in [&dialed, &accepted] {
        assert_eq!((&raw.local, &raw.remote), (&address(&path), &address(&path)));
        assert!(!raw.limited);
    }

    let (near, far) = upgrade_both(Security::Noise, dialed, accepted).await;
    echo_both_ways(near.unwrap(), far.unwrap()).await;
}

#[tokio::test]
async fn what_it_dials_and_listens_on() {
    let unix = Unix::new();
    assert_eq!(unix.name(), "unix");
    for (text, ours) in [
        ("/unix/a", true),
        ("/unix/a/p2p/b", true),
        ("/ip4/127.0.0.1/tcp/1", false),
        ("/ip4/127.0.0.1/tcp/1/unix/a", false),
        ("/memory/1", false),
    ] {
        let address: Multiaddr = text.parse().unwrap();
        assert_eq!((unix.dials(&address), unix.listens(&address)), (ours, ours), "{text}");
        if !ours {
            let dialed = unix.dial(address.clone(), DialOpts::new(Instant::now())).await;
            assert!(matches!(dialed, Err(TransportError::Unsupported(_))), "{text}");
            let listening = unix.listen(address, ListenOpts::default()).await;
            assert!(matches!(listening, Err(ListenError::Unsupported(_))), "{text}");
        }
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_nobody_listening() {
    let directory = Directory::new();
    let path = directory.socket();
    let kind = |dialed: Result<Link, TransportError>| match dialed {
        Err(TransportError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(dial(&path).await), io::ErrorKind::NotFound);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(kind(dial(&path).await), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_file_that_a_dead_process_left_is_replaced() {
    let directory = Directory::new();
    let path = directory.socket();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let mut listener = listen(&path).await.unwrap();
    let (dialed, accepted) = tokio::join!(dial(&path), listener.next());
    dialed.unwrap();
    assert!(matches!(accepted, ListenerEvent::Incoming(_)));
}

#[tokio::test]
async fn a_path_that_is_somebodys_is_left_alone() {
    let directory = Directory::new();
    let path = directory.socket();
    let mut first = listen(&path).await.unwrap();
    assert_eq!(refused(&path).await, io::ErrorKind::AddrInUse);
    assert!(matches!(first.next().await, ListenerEvent::Incoming(_)), "it was asked, by connecting");
    dial(&path).await.unwrap();
    drop(first);

    let file = directory.0.join("file");
    fs::write(&file, "kept").unwrap();
    assert_eq!(refused(&file).await, io::ErrorKind::AddrInUse);
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");

    // What it points at is nobody's, but it is not what a listener leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let link = directory.0.join("link");
    symlink(&path, &link).unwrap();
    assert_eq!(refused(&link).await, io::ErrorKind::AddrInUse);
    assert!(link.is_symlink() && path.exists());

    assert_eq!(refused(&directory.0.join("none/s")).await, io::ErrorKind::NotFound);
}

#[tokio::test]
async fn the_file_goes_with_its_listener_and_no_other() {
    let directory = Directory::new();
    let path = directory.socket();
    drop(listen(&path).await.unwrap());
    assert!(!path.exists());

    let first = listen(&path).await.unwrap();
    fs::remove_file(&path).unwrap();
    let _second = listen(&path).await.unwrap();
    drop(first);
    assert!(path.exists(), "it is the second one's");
    dial(&path).await.unwrap();
}

#[tokio::test]
async fn a_path_as_long_as_it_may_be_and_one_byte_more() {
    let directory = Directory::new();
    let frame = directory.0.as_os_str().len() + 1;
    let of = |len: usize| directory.0.join("x".repeat(len - frame));
    let longest = of(MAX_PATH_LEN);
    let _listener = listen(&longest).await.unwrap();
    dial(&longest).await.unwrap();

    let long = of(MAX_PATH_LEN + 1);
    let Err(ListenError::PathTooLong { len, max, .. }) = listen(&long).await else { panic!() };
    assert_eq!((len, max), (MAX_PATH_LEN + 1, MAX_PATH_LEN));
    let error = dial(&long).await.unwrap_err();
    assert!(matches!(error, TransportError::PathTooLong { len, .. } if len == MAX_PATH_LEN + 1));
    assert_eq!(error.fault(), Fault::Local);
}

/// The queue holds so many; then a dial waits for room, by its deadline.
#[tokio::test]
async fn a_full_queue_is_waited_for() {
    let directory = Directory::new();
    let path = directory.socket();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let mut waiting = Vec::new();
    // How many a queue of 0 takes is the system's affair; it is few.
    let mut late = loop {
        let mut dialing = Box::pin(dial(&path));
        match (&mut dialing).now_or_never() {
            Some(dialed) => waiting.push(dialed.unwrap()),
            None => break dialing,
        }
        assert!(waiting.len() < 1000);
    };
    assert_eq!(refused(&path).await, io::ErrorKind::AddrInUse, "somebody is there, though busy");
    for _ in &waiting {
        socket.accept().unwrap();
    }
    (&mut late).await.unwrap();
}
