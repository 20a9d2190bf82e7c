use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::{self, Handle},
};

#[cfg(target_os = "linux")]
use super::send_buffer::SendBuffer;

/// A socket that belongs to the runtime on which it is first used.
///
/// tokio registers a socket where it is made: where the listener is, or whoever dials. A node has several runtimes, of a
/// thread each, and its connections are spread over them. Left where it was made, a socket would wake the thread of its
/// connection from another one, with a system call each time that something comes.
#[derive(Debug)]
pub(crate) struct Movable {
    /// `None` when moving failed.
    stream: Option<TcpStream>,
    /// Where it was made; once it is settled, where it is.
    at: Option<runtime::Id>,
    settled: bool,
    #[cfg(target_os = "linux")]
    buffer: SendBuffer,
}

impl Movable {
    /// To be called where `stream` was made. `far` if its other end is on another machine.
    #[cfg_attr(not(target_os = "linux"), allow(unused_variables))]
    pub(super) fn new(stream: TcpStream, far: bool) -> Self {
        Self {
            #[cfg(target_os = "linux")]
            buffer: SendBuffer::new(far),
            stream: Some(stream),
            at: here(),
            settled: false,
        }
    }

    /// Looks at what comes first, and leaves it there.
    pub(super) async fn peek(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.here()?.peek(space).await
    }

    /// The socket, on the runtime of the caller.
    fn here(&mut self) -> io::Result<&mut TcpStream> {
        if !self.settled {
            self.settled = true;
            if let Some(here) = here()
                && self.at != Some(here)
                && let Some(stream) = self.stream.take()
            {
                self.stream = Some(TcpStream::from_std(stream.into_std()?)?);
                self.at = Some(here);
            }
        }
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// What comes of a write after which `written` is to be said.
    #[cfg(target_os = "linux")]
    fn poll_written(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match (&self.stream, &written) {
            // A stream of the connection may be written to anywhere, and its timer has to be where the socket is.
            (Some(stream), Poll::Pending)
                if !matches!(self.buffer, SendBuffer::AsIs) && self.at == here() =>
            {
                return self.buffer.poll_full(cx, stream, pieces);
            }
            (_, Poll::Ready(Ok(len))) => self.buffer.room(*len),
            _ => {}
        }
        written
    }

    /// Elsewhere it is as the system says.
    #[cfg(not(target_os = "linux"))]
    fn poll_written(
        &mut self,
        _: &mut Context<'_>,
        _: &[IoSlice<'_>],
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        written
    }

    fn pinned(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.here().map(Pin::new)
    }
}

/// The runtime of the caller.
fn here() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|here| here.id())
}

impl AsyncRead for Movable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pinned()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Movable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.pinned()?.poll_write(cx, buf);
        self.poll_written(cx, &[IoSlice::new(buf)], written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.pinned()?.poll_write_vectored(cx, bufs);
        self.poll_written(cx, bufs, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.pinned()?.poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pinned()?.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        runtime::Runtime,
    };

    use super::*;

    fn runtime() -> Runtime {
        runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// Both ends, made at `made`.
    fn pair(made: &Runtime) -> (Movable, TcpStream) {
        made.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let to = listener.local_addr().expect("bound");
            let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(to));
            (Movable::new(near.expect("somebody came").0, false), far.expect("open"))
        })
    }

    #[test]
    fn it_lives_on_where_it_is_used_when_the_runtime_that_made_it_has_ended() {
        let (made, used) = (runtime(), runtime());
        let (mut near, far) = pair(&made);
        let mut far = used.block_on(async { Movable::new(far, false) });
        // It was made elsewhere, whatever it was told.
        far.at = near.at;
        let mut first = [0];
        used.block_on(async {
            far.write_all(b"hello").await.expect("open");
            assert_eq!(near.peek(&mut first).await.expect("there"), 1);
        });
        drop(made);
        used.block_on(async {
            let mut got = [0; 5];
            near.read_exact(&mut got).await.expect("there");
            assert_eq!((&got, first), (b"hello", [b'h']));
            near.write_all(b"you too").await.expect("open");
            near.shutdown().await.expect("open");
            let mut answer = Vec::new();
            far.read_to_end(&mut answer).await.expect("there");
            assert_eq!(answer, b"you too");
        });
    }

    #[test]
    fn once_used_it_stays() {
        let (made, other) = (runtime(), runtime());
        let (mut near, mut far) = pair(&made);
        made.block_on(async {
            far.write_all(b"1").await.expect("open");
            assert_eq!(near.read_u8().await.expect("there"), b'1');
        });
        assert!(near.settled);
        // Writing needs no reactor as long as there is room.
        other.block_on(near.write_all(b"2")).expect("open");
        assert_eq!(made.block_on(far.read_u8()).expect("there"), b'2');
    }

    #[cfg(target_os = "linux")]
    mod early {
        use std::{future::poll_fn, time::Duration};

        use futures::FutureExt;
        use socket2::SockRef;

        use super::*;

        /// A pair with little room, of which one end is tried early. Time passes as soon as nobody has anything to do.
        fn narrow() -> (Runtime, Movable, Movable) {
            const ROOM: usize = 100_000;

            let mut here = runtime::Builder::new_current_thread();
            let here = here.enable_all().start_paused(true).build().expect("a runtime");
            let (mut near, far) = pair(&here);
            let mut far = here.block_on(async { Movable::new(far, false) });
            let ends = here.block_on(async { (near.here(), far.here()) });
            let (Ok(near_end), Ok(far_end)) = ends else { panic!("no sockets") };
            SockRef::from(&*near_end).set_send_buffer_size(ROOM).expect("open");
            SockRef::from(&*far_end).set_recv_buffer_size(ROOM).expect("open");
            near.buffer = SendBuffer::early(near_end);
            (here, near, far)
        }

        /// However early it is tried, nothing is lost, doubled or out of order.
        #[test]
        fn a_full_socket_that_is_tried_again_sends_all_that_there_is() {
            for vectored in [false, true] {
                let (here, mut near, mut far) = narrow();
                let all: Vec<u8> =
                    (0..4_000_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
                let wrote = async {
                    for piece in all.chunks(150_000) {
                        let mut pieces = [IoSlice::new(piece), IoSlice::new(&[])];
                        let mut pieces = if vectored { &mut pieces[..] } else { &mut pieces[..1] };
                        while pieces.iter().any(|piece| !piece.is_empty()) {
                            let wrote = if vectored {
                                near.write_vectored(pieces).await
                            } else {
                                near.write(&pieces[0]).await
                            };
                            IoSlice::advance_slices(&mut pieces, wrote.expect("open"));
                        }
                    }
                    near.shutdown().await.expect("open");
                };
                let read = async {
                    let (mut got, mut some) = (Vec::new(), [0; 10_000]);
                    loop {
                        // Slowly, so that the other end finds the socket full again and again.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        match far.read(&mut some).await.expect("open") {
                            0 => return got,
                            len => got.extend_from_slice(&some[..len]),
                        }
                    }
                };
                let ((), got) = here.block_on(async { tokio::join!(wrote, read) });
                assert!(got == all);
                assert!(near.buffer.sent_early() > 10, "{}", near.buffer.sent_early());
            }
        }

        /// A stream may be written to where there is no runtime, or one without timers.
        #[test]
        fn a_full_socket_is_left_alone_where_it_is_not_at_home() {
            let (here, mut near, mut far) = narrow();
            let bytes = vec![0; 1 << 20];
            here.block_on(async { while near.write(&bytes).now_or_never().is_some() {} });
            // No timer runs yet.
            near.buffer = SendBuffer::early(near.here().expect("there"));
            let elsewhere = runtime::Builder::new_current_thread().build().expect("a runtime");
            assert!(near.write(&bytes).now_or_never().is_none());
            assert!(elsewhere.block_on(async { near.write(&bytes).now_or_never() }).is_none());
            drop(elsewhere);
            let mut some = vec![0; 1 << 20];
            here.block_on(async {
                let write = poll_fn(|cx| Pin::new(&mut near).poll_write(cx, &bytes));
                let (wrote, _) = tokio::join!(write, far.read(&mut some));
                assert!(wrote.expect("open") > 0);
            });
        }
    }
}
