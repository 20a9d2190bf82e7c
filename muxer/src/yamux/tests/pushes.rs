//! What is short is sent by whoever writes it, and what that may not do.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Config, Mode, start_linked};
use crate::{Connection, ConnectionError, Driver, Muxed, Stream, yamux::frame::HEADER};

/// A socket that counts what it takes, and what comes is what the test puts into it.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    taken: usize,
    /// What it still takes; `None`: everything.
    room: Option<usize>,
    fails: bool,
    comes: Vec<u8>,
}

impl Socket {
    fn taken(&self) -> usize {
        self.0.lock().unwrap().taken
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let comes = std::mem::take(&mut self.0.lock().unwrap().comes);
        buf.put_slice(&comes);
        if comes.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        if std::mem::take(&mut state.fails) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let n = state.room.unwrap_or(buf.len()).min(buf.len());
        state.room = state.room.map(|room| room - n);
        state.taken += n;
        if n == 0 { Poll::Pending } else { Poll::Ready(Ok(n)) }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Counts how often the driver was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection whose driver is polled by hand, on the thread of the test.
struct Bench {
    socket: Socket,
    connection: Connection,
    driver: Driver,
    woken: Arc<Woken>,
}

impl Bench {
    fn new() -> Self {
        let socket = Socket::default();
        let (Muxed { connection, driver }, _) = start_linked(socket.clone(), Mode::Client, Config::default());
        let mut bench = Self { socket, connection, driver, woken: Arc::default() };
        assert!(bench.poll().is_pending());
        bench
    }

    fn poll(&mut self) -> Poll<Result<(), ConnectionError>> {
        self.woken.0.store(0, Ordering::SeqCst);
        let waker = Waker::from(self.woken.clone());
        pin!(&mut self.driver).poll_unpin(&mut Context::from_waker(&waker))
    }

    fn open(&self) -> Stream {
        self.connection.open().now_or_never().expect("there is room").unwrap()
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }
}

/// Writes on a thread of its own.
fn write(stream: &mut Stream, len: usize) {
    thread::scope(|scope| {
        let writing = scope.spawn(|| stream.write_all(&vec![7; len]).now_or_never());
        writing.join().unwrap().expect("there is room").unwrap();
    });
}

#[tokio::test]
async fn a_short_message_is_sent_from_the_thread_of_its_writer() {
    let bench = Bench::new();
    let mut stream = bench.open();
    write(&mut stream, 10);
    assert_eq!((bench.socket.taken(), bench.woken()), (HEADER + 10, 0));
}

#[tokio::test]
async fn on_its_own_thread_the_driver_does_it() {
    let mut bench = Bench::new();
    let mut stream = bench.open();
    stream.write_all(&[7; 10]).now_or_never().expect("there is room").unwrap();
    assert_eq!((bench.socket.taken(), bench.woken()), (0, 1));
    assert!(bench.poll().is_pending());
    assert_eq!(bench.socket.taken(), HEADER + 10);
}

#[tokio::test]
async fn what_is_long_is_left_to_the_driver() {
    for (len, pushed) in [(4096, true), (4097, false)] {
        let bench = Bench::new();
        let mut stream = bench.open();
        write(&mut stream, len);
        assert_eq!((bench.socket.taken() > 0, bench.woken() > 0), (pushed, !pushed), "{len}");
    }
}

#[tokio::test]
async fn the_third_message_without_an_answer_is_left_to_the_driver() {
    let mut bench = Bench::new();
    let mut stream = bench.open();
    write(&mut stream, 10);
    write(&mut stream, 10);
    assert_eq!((bench.socket.taken(), bench.woken()), (2 * (HEADER + 10), 0));
    write(&mut stream, 10);
    assert_eq!((bench.socket.taken(), bench.woken()), (2 * (HEADER + 10), 1));
    // The peer says something: a ping, which is answered.
    bench.socket.0.lock().unwrap().comes = vec![0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    assert!(bench.poll().is_pending());
    assert_eq!(bench.socket.taken(), 3 * (HEADER + 10) + HEADER);
    write(&mut stream, 10);
    assert_eq!((bench.socket.taken(), bench.woken()), (4 * (HEADER + 10) + HEADER, 0));
}

#[tokio::test]
async fn where_many_streams_are_open_the_driver_sends_together() {
    for (open, pushed) in [(4, true), (5, false)] {
        let mut bench = Bench::new();
        let mut streams: Vec<_> = (0..open).map(|_| bench.open()).collect();
        for stream in &mut streams {
            stream.write_all(&[7; 1]).now_or_never().expect("there is room").unwrap();
        }
        assert!(bench.poll().is_pending());
        let before = bench.socket.taken();
        write(&mut streams[0], 10);
        assert_eq!((bench.socket.taken() > before, bench.woken() > 0), (pushed, !pushed), "{open}");
    }
}

#[tokio::test]
async fn what_the_socket_does_not_take_is_left_to_the_driver() {
    let mut bench = Bench::new();
    let mut stream = bench.open();
    bench.socket.0.lock().unwrap().room = Some(5);
    write(&mut stream, 10);
    assert_eq!((bench.socket.taken(), bench.woken()), (5, 1));
    bench.socket.0.lock().unwrap().room = None;
    assert!(bench.poll().is_pending());
    assert_eq!(bench.socket.taken(), HEADER + 10);
}

#[tokio::test]
async fn an_error_that_a_writer_meets_ends_the_connection() {
    let mut bench = Bench::new();
    let mut stream = bench.open();
    bench.socket.0.lock().unwrap().fails = true;
    write(&mut stream, 10);
    assert_eq!(bench.woken(), 1);
    let Poll::Ready(Err(ConnectionError::Io(error))) = bench.poll() else { panic!("it lives") };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(stream.write_all(&[7; 10]).now_or_never().expect("it has ended").is_err());
}

#[tokio::test]
async fn without_a_driver_nothing_is_sent() {
    let Bench { socket, connection, driver, .. } = Bench::new();
    let mut stream = connection.open().now_or_never().expect("there is room").unwrap();
    drop(driver);
    assert!(stream.write_all(&[7; 10]).now_or_never().expect("it has ended").is_err());
    assert_eq!(socket.taken(), 0);
}
