//! Keeps a long way full.
//!
//! What was sent stays in the kernel's buffer until it is acknowledged, so nobody sends faster than a buffer each round
//! trip. Linux grows a buffer by itself, to `net.ipv4.tcp_wmem`'s third value (4 MiB by default), and says that there is
//! room only when a third of it is free again. Over 60 ms that makes 0.35 Gbit/s, whatever the way could carry. So, for a
//! connection whose buffer the kernel has grown as far as it does:
//!
//! - The kernel's word is not waited for: it is tried again after [`AGAIN_FIRST`], and less and less often where that
//!   finds little room.
//! - The buffer is doubled, as far as an application may ask for more (`net.core.wmem_max`, which counts twice: 8 MiB by
//!   default since Linux 6.18). Bytes that are not even sent yet have a limit of their own then, [`UNSENT_MAX`]: otherwise
//!   what is to overtake a bulk transfer would wait behind more of it than before.
//!
//! Both only where [more passes then](trial).

mod trial;

use std::{
    fs,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{self, Instant, Sleep},
};

use self::trial::{Step, Trial};

/// Bytes of a widened buffer that are handed to the kernel and not sent yet, at most: 8 ms at 1 Gbit/s.
const UNSENT_MAX: u32 = 1 << 20;
/// Bytes of a buffer that was widened, at most, as the kernel counts: with what it needs itself.
const BUFFER_MAX: usize = 16 << 20;
/// Connections of this process whose buffers are widened at a time: the memory is the kernel's, which cannot have it back.
const WIDE_MAX: usize = 32;
/// How soon after a write that found no room it is tried again.
const AGAIN_FIRST: Duration = Duration::from_millis(4);
/// After waiting that long, only the kernel's word counts.
const AGAIN_LAST: Duration = Duration::from_millis(64);
/// Bytes for which trying again was worth it.
const WORTH: usize = 64 * 1024;
/// Pieces that one call to the kernel takes (`IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// What this module does to a socket.
trait Socket {
    /// Bytes that its buffer may hold, as the kernel counts.
    fn buffer(&self) -> io::Result<usize>;
    /// Gives it another size.
    fn resize(&self, bytes: usize) -> io::Result<()>;
    /// Sends what there is room for, whether the kernel has said so or not.
    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Socket for TcpStream {
    fn buffer(&self) -> io::Result<usize> {
        SockRef::from(self).send_buffer_size()
    }

    fn resize(&self, bytes: usize) -> io::Result<()> {
        let socket = SockRef::from(self);
        // First, so that no moment is without a limit.
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        // The kernel doubles what is asked for.
        socket.set_send_buffer_size(bytes / 2)
    }

    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let pieces = pieces.get(..PIECES_MAX).unwrap_or(pieces);
        SockRef::from(self).send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL)
    }
}

/// How large buffers become, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct System {
    /// By the kernel alone.
    grown: usize,
    /// When it is asked.
    limit: usize,
}

impl System {
    /// Of this machine; `None` if it does not say.
    fn this() -> Option<Self> {
        static THIS: OnceLock<Option<System>> = OnceLock::new();
        *THIS.get_or_init(|| {
            let read = |name| fs::read_to_string(format!("/proc/sys/net/{name}")).ok();
            Self::from(&read("ipv4/tcp_wmem")?, read("core/wmem_max").as_deref())
        })
    }

    fn from(tcp_wmem: &str, wmem_max: Option<&str>) -> Option<Self> {
        let grown = tcp_wmem.split_whitespace().nth(2)?.parse().ok()?;
        let asked: usize = wmem_max.and_then(|max| max.trim().parse().ok()).unwrap_or_default();
        Some(Self { grown, limit: asked.saturating_mul(2).min(BUFFER_MAX) })
    }
}

/// How the buffer of one connection is dealt with.
#[derive(Debug)]
pub(super) enum SendBuffer {
    /// As the kernel does.
    Left,
    /// The kernel grows it.
    Growing,
    /// It has grown as far as it does by itself.
    Grown(Box<Eager>),
}

impl SendBuffer {
    /// Of a connection that leaves this machine, or does not: then nothing is ever on its way.
    pub(super) fn new(leaves: bool) -> Self {
        if leaves && System::this().is_some() { Self::Growing } else { Self::Left }
    }

    /// As if it had grown, and trying early had helped.
    #[cfg(test)]
    pub(super) fn grown(stream: &TcpStream) -> Self {
        let system = System { grown: 0, limit: 0 };
        let mut eager = Eager::of(stream, system, &WIDE).expect("any buffer is big enough");
        eager.trial = Trial::early(eager.size);
        Self::Grown(Box::new(eager))
    }

    /// A write found room for so many bytes.
    pub(super) fn room(&mut self, len: usize) {
        if let Self::Grown(eager) = self {
            eager.room(len);
        }
    }

    /// A write found none, which the kernel will tell the task of in any case.
    pub(super) fn poll_full(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let (Self::Growing, Some(system)) = (&*self, System::this())
            && let Some(eager) = Eager::of(stream, system, &WIDE)
        {
            *self = Self::Grown(Box::new(eager));
        }
        match self {
            Self::Grown(eager) => eager.poll_send(cx, stream, pieces),
            Self::Left | Self::Growing => Poll::Pending,
        }
    }
}

/// How many are widened now.
#[derive(Debug)]
struct Count(AtomicUsize);

static WIDE: Count = Count(AtomicUsize::new(0));

/// One of the [`WIDE_MAX`].
#[derive(Debug)]
struct Wide(&'static Count);

impl Wide {
    fn new(count: &'static Count) -> Option<Self> {
        let more = |wide: usize| wide.checked_add(1).filter(|wide| *wide <= WIDE_MAX);
        count.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(count))
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Does what lets more through.
#[derive(Debug)]
pub(super) struct Eager {
    next: Next,
    /// How long to wait the next time.
    wait: Duration,
    timer: Pin<Box<Sleep>>,
    /// Bytes since it was last waited.
    sent: usize,
    trial: Trial,
    /// Bytes of the buffer: by the kernel alone, and now.
    own: usize,
    size: usize,
    count: &'static Count,
    /// While the buffer has more than the kernel gives by itself.
    wide: Option<Wide>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// There may be room.
    Try,
    /// There is none.
    Wait,
    /// The timer runs.
    Waiting,
    /// The kernel will say.
    Leave,
}

impl Eager {
    /// `None` while the kernel lets the buffer grow.
    fn of(socket: &impl Socket, system: System, count: &'static Count) -> Option<Self> {
        let size = socket.buffer().ok().filter(|size| *size >= system.grown)?;
        Some(Self {
            next: Next::Wait,
            wait: AGAIN_FIRST,
            timer: Box::pin(time::sleep(AGAIN_FIRST)),
            sent: 0,
            trial: Trial::new(size, system.limit, Instant::now()),
            own: size,
            size,
            count,
            wide: None,
        })
    }

    fn room(&mut self, len: usize) {
        self.trial.passed(len);
        self.next = Next::Wait;
        self.wait = AGAIN_FIRST;
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &impl Socket,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.next {
                Next::Leave => return Poll::Pending,
                Next::Wait => {
                    self.sent = 0;
                    self.next = if self.widen(socket) {
                        Next::Try
                    } else if self.wait > AGAIN_LAST || self.trial.step() == Step::Kernel {
                        Next::Leave
                    } else {
                        self.timer.set(time::sleep(self.wait));
                        Next::Waiting
                    };
                }
                Next::Waiting => {
                    ready!(self.timer.as_mut().poll(cx));
                    self.next = Next::Try;
                }
                Next::Try => match socket.send(pieces) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        let worth = self.sent >= WORTH;
                        self.wait = if worth { AGAIN_FIRST } else { self.wait.saturating_mul(2) };
                        self.next = Next::Wait;
                    }
                    sent => {
                        let len = *sent.as_ref().unwrap_or(&0);
                        self.sent = self.sent.saturating_add(len);
                        self.trial.passed(len);
                        return Poll::Ready(sent);
                    }
                },
            }
        }
    }

    /// The buffer is full: whether it has room again, because it is wider now.
    fn widen(&mut self, socket: &impl Socket) -> bool {
        if !self.trial.full(Instant::now()) {
            return false;
        }
        let (before, wanted) = (self.size, self.trial.size());
        if wanted == before {
            return false;
        }
        let place = self.wide.take().or_else(|| Wide::new(self.count));
        if place.is_some() && socket.resize(wanted).is_ok() {
            self.size = wanted;
        } else if wanted > before {
            self.trial.refused();
        }
        self.wide = place.filter(|_| self.size > self.own);
        self.size > before
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::{FutureExt, future::poll_fn};
    use tokio::net::TcpListener;

    use super::*;

    const TCP_WMEM: &str = "4096\t16384\t4194304\n";
    const GROWN: usize = 4 << 20;

    /// A socket with so much room.
    #[derive(Default)]
    struct Fake {
        buffer: Cell<usize>,
        refuses: bool,
        room: Cell<usize>,
        tries: Cell<usize>,
    }

    impl Socket for Fake {
        fn buffer(&self) -> io::Result<usize> {
            Ok(self.buffer.get())
        }

        fn resize(&self, bytes: usize) -> io::Result<()> {
            if self.refuses {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.room.set(self.room.get() + bytes.saturating_sub(self.buffer.replace(bytes)));
            Ok(())
        }

        fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            self.tries.set(self.tries.get() + 1);
            let sent = self.room.get().min(pieces.iter().map(|piece| piece.len()).sum());
            self.room.set(self.room.get() - sent);
            if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
        }
    }

    fn full() -> Fake {
        Fake { buffer: Cell::new(GROWN), ..Fake::default() }
    }

    fn count() -> &'static Count {
        Box::leak(Box::new(Count(AtomicUsize::new(0))))
    }

    /// One that has found that it helps.
    fn eager(socket: &Fake) -> Eager {
        let mut eager = widening(socket, 0, count());
        eager.trial = Trial::early(GROWN);
        eager
    }

    fn widening(socket: &Fake, limit: usize, count: &'static Count) -> Eager {
        Eager::of(socket, System { grown: GROWN, limit }, count).expect("it has grown")
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
    }

    /// Waits until something was sent, and says how much and after how many milliseconds.
    async fn sent(eager: &mut Eager, socket: &Fake, len: usize) -> (usize, u128) {
        let began = time::Instant::now();
        let bytes = vec![0; len];
        let sent = poll_fn(|cx| eager.poll_send(cx, socket, &[IoSlice::new(&bytes)])).await;
        (sent.expect("open"), began.elapsed().as_millis())
    }

    /// Some seconds in which a buffer passes each 60 ms, or not more than `rate` bytes do.
    async fn pass(eager: &mut Eager, socket: &Fake, rate: usize) {
        let mut way = time::interval(Duration::from_millis(60));
        for _ in 0..100 {
            way.tick().await;
            let size = socket.buffer.get();
            let full = if eager.trial.step() == Step::Kernel { size / 6 * 5 } else { size };
            socket.room.set(full.min(rate));
            // The kernel says so.
            while let len @ 1.. = socket.room.get().min(1 << 20) {
                socket.room.set(socket.room.get() - len);
                eager.room(len);
            }
            while sent(eager, socket, 1 << 20).now_or_never().is_some() {}
        }
    }

    #[test]
    fn a_machine_says_how_large_buffers_become() {
        let limit = |wmem_max| System::from(TCP_WMEM, wmem_max).map(|system| (system.grown, system.limit));
        assert_eq!(limit(Some("4194304\n")), Some((GROWN, 8 << 20)));
        // As it was before Linux 6.18.
        assert_eq!(limit(Some("212992\n")), Some((GROWN, 425_984)));
        assert_eq!(limit(Some("8388608")), Some((GROWN, BUFFER_MAX)));
        assert_eq!(limit(Some("8388609")), Some((GROWN, BUFFER_MAX)));
        assert_eq!(limit(Some("?")), Some((GROWN, 0)));
        assert_eq!(limit(None), Some((GROWN, 0)));
        for tcp_wmem in ["", "4096 16384", "4096 16384 much", "4096 16384 -1"] {
            assert_eq!(System::from(tcp_wmem, Some("4194304")), None, "{tcp_wmem:?}");
        }
    }

    #[tokio::test]
    async fn the_kernel_lets_it_grow_first() {
        let socket = full();
        socket.buffer.set(GROWN - 1);
        let system = System { grown: GROWN, limit: 2 * GROWN };
        assert!(Eager::of(&socket, system, count()).is_none());
        socket.buffer.set(GROWN);
        assert!(Eager::of(&socket, system, count()).is_some());
    }

    #[test]
    fn what_is_full_of_what_is_on_its_way_is_widened() {
        runtime().block_on(async {
            let (socket, count) = (full(), count());
            let mut eager = widening(&socket, 4 * GROWN, count);
            pass(&mut eager, &socket, usize::MAX).await;
            assert_eq!((socket.buffer.get(), count.0.load(Ordering::Relaxed)), (4 * GROWN, 1));
            drop(eager);
            assert_eq!(count.0.load(Ordering::Relaxed), 0);
        });
    }

    #[test]
    fn it_is_taken_back_when_no_more_passes() {
        runtime().block_on(async {
            let (socket, count) = (full(), count());
            let mut eager = widening(&socket, 4 * GROWN, count);
            pass(&mut eager, &socket, GROWN).await;
            assert_eq!((socket.buffer.get(), count.0.load(Ordering::Relaxed)), (GROWN, 0));
            assert!(eager.wide.is_none());
        });
    }

    #[test]
    fn so_many_are_wide_and_no_more() {
        runtime().block_on(async {
            let count = count();
            let mut wide = Vec::new();
            for _ in 0..WIDE_MAX {
                let socket = full();
                wide.push(widening(&socket, 2 * GROWN, count));
                pass(wide.last_mut().expect("there is one"), &socket, usize::MAX).await;
                assert_eq!(socket.buffer.get(), 2 * GROWN);
            }
            let socket = full();
            let mut one_more = widening(&socket, 2 * GROWN, count);
            pass(&mut one_more, &socket, usize::MAX).await;
            assert_eq!(socket.buffer.get(), GROWN);
            wide.pop();
            let mut another = widening(&socket, 2 * GROWN, count);
            pass(&mut another, &socket, usize::MAX).await;
            assert_eq!(socket.buffer.get(), 2 * GROWN);
        });
    }

    #[test]
    fn a_socket_that_cannot_be_widened_takes_no_place() {
        runtime().block_on(async {
            let (socket, count) = (Fake { refuses: true, ..full() }, count());
            let mut eager = widening(&socket, 2 * GROWN, count);
            pass(&mut eager, &socket, usize::MAX).await;
            assert_eq!((socket.buffer.get(), count.0.load(Ordering::Relaxed)), (GROWN, 0));
        });
    }

    #[test]
    fn it_is_tried_less_and_less_often_and_then_not_any_more() {
        runtime().block_on(async {
            let socket = full();
            let mut eager = eager(&socket);
            let long = time::timeout(Duration::from_secs(60), sent(&mut eager, &socket, 1));
            assert!(long.await.is_err());
            assert_eq!((socket.tries.get(), eager.next), (5, Next::Leave));
            // The kernel says that there is room: then it begins anew.
            eager.room(1);
            socket.room.set(1);
            assert_eq!(sent(&mut eager, &socket, 1).await, (1, 4));
        });
    }

    #[test]
    fn it_goes_on_as_long_as_there_is_room() {
        runtime().block_on(async {
            let socket = full();
            let mut eager = eager(&socket);
            socket.room.set(WORTH);
            assert_eq!(sent(&mut eager, &socket, WORTH - 1).await, (WORTH - 1, 4));
            assert_eq!(sent(&mut eager, &socket, WORTH).await, (1, 0));
            // That was worth it, this was not.
            assert!(sent(&mut eager, &socket, 1).now_or_never().is_none());
            socket.room.set(WORTH - 1);
            assert_eq!(sent(&mut eager, &socket, WORTH).await, (WORTH - 1, 4));
            assert!(sent(&mut eager, &socket, 1).now_or_never().is_none());
            socket.room.set(1);
            assert_eq!(sent(&mut eager, &socket, 1).await, (1, 8));
        });
    }

    #[test]
    fn what_is_wrong_with_the_socket_is_said() {
        struct Broken;

        impl Socket for Broken {
            fn buffer(&self) -> io::Result<usize> {
                Ok(GROWN)
            }

            fn resize(&self, _: usize) -> io::Result<()> {
                Ok(())
            }

            fn send(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }

        runtime().block_on(async {
            let system = System { grown: GROWN, limit: 0 };
            let mut eager = Eager::of(&Broken, system, count()).expect("it has grown");
            eager.trial = Trial::early(GROWN);
            let error = poll_fn(|cx| eager.poll_send(cx, &Broken, &[])).await.map_err(|error| error.kind());
            assert_eq!(error, Err(io::ErrorKind::BrokenPipe));
        });
    }

    /// What the kernel makes of it: less than it may have is given to every program.
    #[tokio::test]
    async fn a_real_buffer_has_that_size_and_a_limit_for_what_is_not_sent() {
        const SIZE: usize = 200_000;

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        stream.resize(SIZE).expect("open");
        assert_eq!(stream.buffer().expect("open"), SIZE);
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat().expect("open"), UNSENT_MAX);
    }

    /// More pieces than one call takes.
    #[tokio::test]
    async fn too_many_pieces_are_sent_in_part() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let pieces = vec![IoSlice::new(b"."); PIECES_MAX + 1];
        assert_eq!(stream.send(&pieces).expect("open"), PIECES_MAX);
        assert_eq!(stream.send(&pieces[..PIECES_MAX]).expect("open"), PIECES_MAX);
    }
}
