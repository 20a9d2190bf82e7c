//! Keeps a long way full.
//!
//! What was sent stays in the kernel's buffer until it is acknowledged, so nobody sends faster than a buffer each round
//! trip. Linux grows a buffer by itself, to `net.ipv4.tcp_wmem`'s third value (4 MiB by default, of which it takes some for
//! itself), and says that there is room only when a third of it is free again. Over 60 ms, 0.35 Gbit/s were measured,
//! whatever the way could carry. So, for a connection whose buffer the kernel has grown as far as it does:
//!
//! - The kernel's word is not waited for: it is tried again after [`AGAIN_FIRST`], and less and less often where that
//!   finds little room.
//! - The buffer is doubled, as far as an application may ask for more: `net.core.wmem_max`, which counts twice. With Linux
//!   6.18 that makes 8 MiB; with much older ones, 416 KiB, and there is nothing to ask for. Bytes that are not even sent yet
//!   have a limit of their own then, [`UNSENT_MAX`]: otherwise what is to overtake a bulk transfer would wait behind more of
//!   it than before.
//!
//! Both only where [more passes then](trial). What cannot be taken back is that the kernel does not shrink a buffer any more
//! that was widened once, even if its memory is short.

#[cfg(test)]
mod tests;
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
    task::coop,
    time::{self, Instant, Sleep},
};

use self::trial::{Step, Trial};

/// Bytes of a widened buffer that are handed to the kernel and not sent yet, at most, unless the system has less: 8 ms at
/// 1 Gbit/s.
const UNSENT_MAX: u32 = 1 << 20;
/// Bytes of a buffer that was widened, at most, as the kernel counts: 1 Gbit/s over 100 ms.
const BUFFER_MAX: usize = 16 << 20;
/// Connections of this process whose buffers are widened at a time, at most.
const WIDE_MAX: usize = 64;
/// The part of the machine's memory that may go into what buffers were widened by: a quarter of that at which the kernel
/// begins, by default, to save on connections.
const MEMORY_PART: usize = 64;
/// How soon after a write that found no room it is tried again: often enough that a buffer stays full over 20 ms and more.
const AGAIN_FIRST: Duration = Duration::from_millis(4);
/// How late it is tried again at most: whoever takes little gets what it takes, and costs next to nothing.
const AGAIN_LAST: Duration = Duration::from_secs(1);
/// Bytes for which trying again was worth it: about as many as a writer has at once.
const WORTH: usize = 64 * 1024;
/// Pieces that one call to the kernel takes (`IOV_MAX`).
const PIECES_MAX: usize = 1024;

/// What this module does with a socket.
trait Buffered {
    /// Bytes that its buffer may hold, as the kernel counts.
    fn size(&self) -> io::Result<usize>;
    /// Gives it another size, and a limit for what is not sent yet; 0 is the system's.
    fn resize(&self, bytes: usize, unsent: u32) -> io::Result<()>;
    /// Sends what there is room for, whether the kernel has said so or not.
    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl Buffered for TcpStream {
    fn size(&self) -> io::Result<usize> {
        SockRef::from(self).send_buffer_size()
    }

    fn resize(&self, bytes: usize, unsent: u32) -> io::Result<()> {
        let socket = SockRef::from(self);
        // First, so that what is wider is never without a limit.
        socket.set_tcp_notsent_lowat(unsent)?;
        // The kernel doubles what is asked for.
        socket.set_send_buffer_size(bytes / 2)
    }

    fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let pieces = pieces.get(..PIECES_MAX).unwrap_or(pieces);
        SockRef::from(self).send_vectored_with_flags(pieces, libc::MSG_NOSIGNAL)
    }
}

/// What the system does and allows.
#[derive(Clone, Copy, Debug, PartialEq)]
struct System {
    /// How large the kernel alone makes a buffer, in bytes.
    grown: usize,
    /// How large it may be made.
    limit: usize,
    /// How many may be.
    places: usize,
    /// Bytes that are not sent yet in one of those.
    unsent: u32,
}

impl System {
    /// Of this machine; `None` if it does not say.
    fn this() -> Option<Self> {
        static THIS: OnceLock<System> = OnceLock::new();
        let read = || Self::from(|name| fs::read_to_string(format!("/proc/{name}")).ok());
        THIS.get().copied().or_else(|| read().map(|system| *THIS.get_or_init(|| system)))
    }

    fn from(read: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name, nth| read(name)?.split_whitespace().nth(nth)?.parse::<usize>().ok();
        let grown = number("sys/net/ipv4/tcp_wmem", 2)?;
        let limit = number("sys/net/core/wmem_max", 0).unwrap_or_default().saturating_mul(2).min(BUFFER_MAX);
        // `MemTotal:  24685792 kB` comes first.
        let memory = number("meminfo", 1).unwrap_or_default().saturating_mul(1024) / MEMORY_PART;
        let places = memory.checked_div(limit.saturating_sub(grown)).unwrap_or_default().min(WIDE_MAX);
        let unsent = number("sys/net/ipv4/tcp_notsent_lowat", 0).and_then(|max| u32::try_from(max).ok());
        Some(Self { grown, limit, places, unsent: unsent.map_or(UNSENT_MAX, |max| max.min(UNSENT_MAX)) })
    }
}

/// How many are wide now.
#[derive(Debug)]
struct Count(AtomicUsize);

static WIDE: Count = Count(AtomicUsize::new(0));

/// One of those that may be wide.
#[derive(Debug)]
struct Place(&'static Count);

impl Place {
    fn new(count: &'static Count, places: usize) -> Option<Self> {
        let more = |wide: usize| wide.checked_add(1).filter(|wide| *wide <= places);
        count.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How the buffer of one connection is dealt with.
#[derive(Debug)]
pub(super) enum SendBuffer {
    /// As the kernel does.
    AsIs,
    /// The kernel grows it.
    Growing {
        /// Whether it has been looked at since there was room.
        seen: bool,
    },
    /// It has grown as far as it does by itself.
    Grown(Box<Grown>),
}

impl SendBuffer {
    /// Of a connection to another machine, or to this one: there, nothing is ever on its way.
    pub(super) fn new(far: bool) -> Self {
        if far { Self::Growing { seen: false } } else { Self::AsIs }
    }

    /// As if it had grown, and trying early had helped.
    #[cfg(test)]
    pub(super) fn early(stream: &TcpStream) -> Self {
        let system = System { grown: 0, limit: 0, places: 0, unsent: 0 };
        let mut grown = Grown::of(stream, system, &WIDE).expect("any buffer is big enough");
        grown.trial = Trial::early(grown.size);
        Self::Grown(Box::new(grown))
    }

    /// How often trying early has sent something.
    #[cfg(test)]
    pub(super) fn sent_early(&self) -> usize {
        if let Self::Grown(grown) = self { grown.sent_early } else { 0 }
    }

    /// A write found room for so many bytes.
    pub(super) fn room(&mut self, len: usize) {
        match self {
            Self::AsIs => {}
            Self::Growing { seen } => *seen = false,
            Self::Grown(grown) => grown.room(len),
        }
    }

    /// Whether it has grown, once for each time that it is full.
    fn look(&mut self, socket: &impl Buffered, system: impl FnOnce() -> Option<System>) {
        if let Self::Growing { seen: seen @ false } = self {
            *seen = true;
            if let Some(grown) = system().and_then(|system| Grown::of(socket, system, &WIDE)) {
                *self = Self::Grown(Box::new(grown));
            }
        }
    }

    /// A write found none; the task is woken when the kernel says that there is. To be called where the socket is
    /// registered: it may need a timer.
    pub(super) fn poll_full(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What looks full to a task that is to yield may have room.
        if !coop::has_budget_remaining() {
            return Poll::Pending;
        }
        self.look(stream, System::this);
        match self {
            Self::Grown(grown) => grown.poll_send(cx, stream, pieces),
            Self::AsIs | Self::Growing { .. } => Poll::Pending,
        }
    }
}

/// A buffer that is as large as the kernel makes it, and with which is done what lets more through.
#[derive(Debug)]
pub(super) struct Grown {
    next: Next,
    /// How long to wait the next time.
    wait: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes since it was last waited.
    sent: usize,
    #[cfg(test)]
    sent_early: usize,
    trial: Trial,
    system: System,
    /// Bytes that the kernel gave it.
    own: usize,
    /// Bytes that it has.
    size: usize,
    count: &'static Count,
    /// While it has more than its own.
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// There may be room.
    Try,
    /// There is none.
    Full,
    /// The timer runs.
    Timer,
    /// The kernel will say.
    Kernel,
}

impl Grown {
    /// `None` while the kernel lets the buffer grow.
    fn of(socket: &impl Buffered, system: System, count: &'static Count) -> Option<Self> {
        let size = socket.size().ok().filter(|size| *size >= system.grown)?;
        Some(Self {
            next: Next::Full,
            wait: AGAIN_FIRST,
            timer: None,
            sent: 0,
            #[cfg(test)]
            sent_early: 0,
            trial: Trial::new(size, system.limit, Instant::now()),
            system,
            own: size,
            size,
            count,
            place: None,
        })
    }

    fn room(&mut self, len: usize) {
        self.trial.passed(len, Instant::now);
        self.next = Next::Full;
        self.wait = AGAIN_FIRST;
        self.timer = None;
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        socket: &impl Buffered,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.next {
                Next::Kernel => return Poll::Pending,
                Next::Full => {
                    self.sent = 0;
                    self.next = if self.adjust(socket) {
                        Next::Try
                    } else if self.trial.step() == Step::Kernel {
                        Next::Kernel
                    } else {
                        self.timer = Some(Box::pin(time::sleep(self.wait)));
                        Next::Timer
                    };
                }
                Next::Timer => {
                    if let Some(timer) = &mut self.timer {
                        ready!(timer.as_mut().poll(cx));
                    }
                    self.timer = None;
                    self.next = Next::Try;
                }
                Next::Try => {
                    let turn = ready!(coop::poll_proceed(cx));
                    match socket.send(pieces) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            let twice = self.wait.saturating_mul(2).min(AGAIN_LAST);
                            self.wait = if self.sent >= WORTH { AGAIN_FIRST } else { twice };
                            self.next = Next::Full;
                        }
                        sent => {
                            turn.made_progress();
                            let len = *sent.as_ref().unwrap_or(&0);
                            self.sent = self.sent.saturating_add(len);
                            self.trial.passed(len, Instant::now);
                            #[cfg(test)]
                            {
                                self.sent_early += 1;
                            }
                            return Poll::Ready(sent);
                        }
                    }
                }
            }
        }
    }

    /// The buffer is full: whether it has room again, because it is wider now.
    fn adjust(&mut self, socket: &impl Buffered) -> bool {
        if !self.trial.full(Instant::now()) {
            return false;
        }
        let (had, wanted) = (self.size, self.trial.wanted());
        if wanted > had {
            if self.has(socket, had) && self.find_place() {
                if self.resize(socket, wanted) {
                    return true;
                }
                // It is refused, or less than was said.
                self.resize(socket, had);
            }
            self.trial.take_back();
        } else if wanted < had {
            self.resize(socket, wanted);
        }
        if self.size <= self.own {
            self.place = None;
        }
        false
    }

    /// Whether the buffer is as large as that: short of memory, the kernel makes it smaller.
    fn has(&self, socket: &impl Buffered, bytes: usize) -> bool {
        socket.size().is_ok_and(|size| size >= bytes)
    }

    fn find_place(&mut self) -> bool {
        self.place = self.place.take().or_else(|| Place::new(self.count, self.system.places));
        self.place.is_some()
    }

    fn resize(&mut self, socket: &impl Buffered, bytes: usize) -> bool {
        let unsent = if bytes > self.own { self.system.unsent } else { 0 };
        let resized = socket.resize(bytes, unsent).and_then(|()| socket.size());
        tracing::debug!(from = self.size, to = bytes, ?resized, "the size of a send buffer");
        if let Ok(size) = resized {
            self.size = size;
        }
        resized.is_ok_and(|size| size >= bytes)
    }
}
