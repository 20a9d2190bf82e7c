//! Keeps a long way full.
//!
//! What was sent stays in the kernel's buffer until it is acknowledged, so nobody sends faster than a buffer each round
//! trip. Linux grows a buffer by itself, to `net.ipv4.tcp_wmem`'s third value (4 MiB by default), and says that there is
//! room only when a third of it is free again. Over 60 ms that makes 0.35 Gbit/s, whatever the way could carry. So, for a
//! connection whose buffer the kernel has grown as far as it does:
//!
//! - The buffer is widened to what an application may ask for (`net.core.wmem_max`, which counts twice), where that is
//!   more; 4 MiB of it by default since Linux 6.18. Bytes that are not even sent yet have a limit of their own from then
//!   on, [`UNSENT_MAX`]: otherwise what is to overtake a bulk transfer would wait behind more of it than before.
//! - The kernel's word is not waited for: it is tried again after [`AGAIN_FIRST`], and less and less often where that
//!   finds little room.

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
    time::{self, Sleep},
};

/// Bytes of a widened buffer that are handed to the kernel and not sent yet, at most: 8 ms at 1 Gbit/s.
const UNSENT_MAX: u32 = 1 << 20;
/// What is asked for at most, in bytes, where the system would give more. The kernel doubles it, for what it needs itself.
const ASK_MAX: usize = 8 << 20;
/// Connections of this process whose buffers are widened at a time: the memory is the kernel's, which cannot take it back.
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
    /// Asks for a buffer of twice `ask` bytes.
    fn widen(&self, ask: usize) -> io::Result<()>;
    /// Sends what there is room for, whether the kernel has said so or not.
    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Socket for TcpStream {
    fn buffer(&self) -> io::Result<usize> {
        SockRef::from(self).send_buffer_size()
    }

    fn widen(&self, ask: usize) -> io::Result<()> {
        let socket = SockRef::from(self);
        // First, so that no moment is without a limit.
        socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
        socket.set_send_buffer_size(ask)
    }

    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let pieces = pieces.get(..PIECES_MAX).unwrap_or(pieces);
        SockRef::from(self).send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL)
    }
}

/// What the system does and allows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct System {
    /// How far the kernel grows a buffer.
    grown: usize,
    /// What an application may ask for, with which it has more than that; `None` if it would have less.
    ask: Option<usize>,
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
        let ask = wmem_max.and_then(|max| max.trim().parse().ok()).map(|max: usize| max.min(ASK_MAX));
        Some(Self { grown, ask: ask.filter(|ask| ask.saturating_mul(2) > grown) })
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

    /// As if it had grown.
    #[cfg(test)]
    pub(super) fn grown(stream: &TcpStream) -> Self {
        let system = System { grown: 0, ask: None };
        Self::Grown(Box::new(Eager::of(stream, system, &WIDE).expect("any buffer is big enough")))
    }

    /// A write found room.
    pub(super) fn room(&mut self) {
        if let Self::Grown(eager) = self {
            eager.room();
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

/// Does not wait for the kernel's word.
#[derive(Debug)]
pub(super) struct Eager {
    next: Next,
    /// How long to wait the next time.
    wait: Duration,
    timer: Pin<Box<Sleep>>,
    /// Bytes since it was last waited.
    sent: usize,
    _wide: Option<Wide>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// There may be room.
    Try,
    /// There is none.
    Wait,
    /// The timer runs.
    Waiting,
    /// Trying is not worth it: the kernel will say.
    Leave,
}

impl Eager {
    /// `None` while the kernel lets the buffer grow.
    fn of(socket: &impl Socket, system: System, count: &'static Count) -> Option<Self> {
        let buffer = socket.buffer().ok().filter(|buffer| *buffer >= system.grown)?;
        let wide = system.ask.and_then(|ask| {
            let wide = Wide::new(count)?;
            let widened = socket.widen(ask);
            tracing::debug!(
                buffer,
                ask,
                ?widened,
                "the send buffer is full, and has grown as far as it does"
            );
            widened.is_ok().then_some(wide)
        });
        Some(Self {
            next: if wide.is_some() { Next::Try } else { Next::Wait },
            wait: AGAIN_FIRST,
            timer: Box::pin(time::sleep(AGAIN_FIRST)),
            sent: 0,
            _wide: wide,
        })
    }

    fn room(&mut self) {
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
                Next::Wait if self.wait > AGAIN_LAST => self.next = Next::Leave,
                Next::Wait => {
                    self.timer.set(time::sleep(self.wait));
                    self.sent = 0;
                    self.next = Next::Waiting;
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
                        self.sent = self.sent.saturating_add(*sent.as_ref().unwrap_or(&0));
                        return Poll::Ready(sent);
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::{FutureExt, future::poll_fn};
    use tokio::net::TcpListener;

    use super::*;

    /// As Linux has had it for long, and as it has it since 6.18.
    const WMEM_MAX_OLD: &str = "212992\n";
    const TCP_WMEM: &str = "4096\t16384\t4194304\n";
    const GROWN: usize = 4 << 20;

    /// A socket with so much room.
    #[derive(Default)]
    struct Fake {
        buffer: usize,
        refuses: bool,
        asked: Cell<Option<usize>>,
        room: Cell<usize>,
        tries: Cell<usize>,
    }

    impl Socket for Fake {
        fn buffer(&self) -> io::Result<usize> {
            Ok(self.buffer)
        }

        fn widen(&self, ask: usize) -> io::Result<()> {
            self.asked.set(Some(ask));
            if self.refuses { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        }

        fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            self.tries.set(self.tries.get() + 1);
            let sent = self.room.get().min(pieces.iter().map(|piece| piece.len()).sum());
            self.room.set(self.room.get() - sent);
            if sent == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(sent) }
        }
    }

    fn system(ask: Option<usize>) -> System {
        System { grown: GROWN, ask }
    }

    fn full() -> Fake {
        Fake { buffer: GROWN, ..Fake::default() }
    }

    fn count() -> &'static Count {
        Box::leak(Box::new(Count(AtomicUsize::new(0))))
    }

    fn eager(socket: &Fake) -> Eager {
        Eager::of(socket, system(None), count()).expect("it has grown")
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

    #[test]
    fn it_is_asked_for_more_than_the_kernel_takes_and_nothing_else() {
        let of = |wmem_max| System::from(TCP_WMEM, wmem_max);
        assert_eq!(of(Some(WMEM_MAX_OLD)), Some(system(None)));
        assert_eq!(of(None), Some(system(None)));
        assert_eq!(of(Some("?")), Some(system(None)));
        assert_eq!(of(Some("2097152")), Some(system(None)));
        assert_eq!(of(Some("2097153")), Some(system(Some(2_097_153))));
        assert_eq!(of(Some("4194304\n")), Some(system(Some(4 << 20))));
        assert_eq!(of(Some("8388608")), Some(system(Some(ASK_MAX))));
        assert_eq!(of(Some("8388609")), Some(system(Some(ASK_MAX))));
        for tcp_wmem in ["", "4096 16384", "4096 16384 much", "4096 16384 -1"] {
            assert_eq!(System::from(tcp_wmem, Some("4194304")), None, "{tcp_wmem:?}");
        }
    }

    #[tokio::test]
    async fn only_what_has_grown_is_widened() {
        let asking = system(Some(4 << 20));
        let growing = Fake { buffer: GROWN - 1, ..Fake::default() };
        assert!(Eager::of(&growing, asking, count()).is_none());
        assert_eq!(growing.asked.get(), None);
        let grown = full();
        assert_eq!(Eager::of(&grown, asking, count()).map(|eager| eager.next), Some(Next::Try));
        assert_eq!(grown.asked.get(), Some(4 << 20));
        let unaskable = full();
        assert_eq!(Eager::of(&unaskable, system(None), count()).map(|eager| eager.next), Some(Next::Wait));
        assert_eq!(unaskable.asked.get(), None);
    }

    #[tokio::test]
    async fn so_many_are_wide_and_no_more() {
        let (asking, count) = (system(Some(4 << 20)), count());
        let refusing = Fake { refuses: true, ..full() };
        assert!(Eager::of(&refusing, asking, count).is_some_and(|eager| eager._wide.is_none()));
        let mut wide: Vec<_> = (0..WIDE_MAX).map(|_| Eager::of(&full(), asking, count)).collect();
        assert!(wide.iter().flatten().all(|eager| eager._wide.is_some()));
        let one_more = full();
        assert!(Eager::of(&one_more, asking, count).is_some_and(|eager| eager._wide.is_none()));
        assert_eq!(one_more.asked.get(), None);
        wide.pop();
        assert!(Eager::of(&one_more, asking, count).is_some_and(|eager| eager._wide.is_some()));
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
            eager.room();
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

            fn widen(&self, _: usize) -> io::Result<()> {
                Ok(())
            }

            fn send(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }

        runtime().block_on(async {
            let mut eager = Eager::of(&Broken, system(None), count()).expect("it has grown");
            let error = poll_fn(|cx| eager.poll_send(cx, &Broken, &[])).await.map_err(|error| error.kind());
            assert_eq!(error, Err(io::ErrorKind::BrokenPipe));
        });
    }

    /// What the kernel makes of it: less than it may have is given to every program.
    #[tokio::test]
    async fn a_real_buffer_is_twice_what_was_asked_for_and_has_a_limit_for_what_is_not_sent() {
        const ASK: usize = 100_000;

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        Socket::widen(&stream, ASK).expect("open");
        assert_eq!(stream.buffer().expect("open"), 2 * ASK);
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
