use std::{io, time::Duration};

use tokio::{
    net::TcpListener,
    time::{self, Instant},
};

use super::Connected;
use crate::ListenerEvent;

/// The first pause after accepting failed for want of a resource; doubled at each further failure.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(10);

/// The longest pause, so that a listener is back within a second of the shortage's end.
pub(super) const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The pause after one connection could not be taken. It does not grow: whoever aborts connections shall not be able
/// to keep others waiting.
pub(super) const PAUSE_ABORTED: Duration = Duration::from_millis(1);

/// What an error of `accept` means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One connection is lost; the next may well be fine.
    Aborted,
    /// The process or the machine is out of something, and a connection stays in the queue: asking again at once
    /// would fail at once.
    Exhausted,
    /// The socket is of no use any more.
    Fatal,
}

/// A listening socket of a stream transport.
pub(crate) trait Socket: Send + Sync {
    /// What comes.
    type Accepted;

    /// Who came next. Cancel-safe.
    fn accept(&self) -> impl Future<Output = Result<Self::Accepted, (Failure, io::Error)>> + Send;
}

impl Socket for TcpListener {
    type Accepted = Connected;

    async fn accept(&self) -> Result<Connected, (Failure, io::Error)> {
        let (stream, remote) = Self::accept(self).await.map_err(|error| (classify(&error), error))?;
        // Whatever is wrong with the new socket is not the listener's trouble.
        Connected::new(stream, remote).map_err(|error| (Failure::Aborted, error))
    }
}

/// A listening socket, with the pause that follows a failure.
pub(crate) struct Accepting<S> {
    socket: S,
    backoff: Backoff,
    /// Not before this is the socket asked again. It is kept here, because the future that waits may be dropped.
    resume_at: Option<Instant>,
}

impl<S: Socket> Accepting<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, backoff: Backoff::default(), resume_at: None }
    }

    /// Who came next, or what else happened. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<S::Accepted, ListenerEvent> {
        if let Some(at) = self.resume_at {
            time::sleep_until(at).await;
            self.resume_at = None;
        }
        let accepted = self.socket.accept().await;
        self.report(accepted)
    }

    fn report(
        &mut self,
        accepted: Result<S::Accepted, (Failure, io::Error)>,
    ) -> Result<S::Accepted, ListenerEvent> {
        match accepted {
            Ok(connected) => {
                self.backoff = Backoff::default();
                Ok(connected)
            }
            Err((failure, error)) => Err(match self.backoff.after(failure) {
                Some(pause) => {
                    self.resume_at = Instant::now().checked_add(pause);
                    ListenerEvent::Retry(error)
                }
                None => ListenerEvent::Failed(error),
            }),
        }
    }
}

/// How long to pause.
struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: BACKOFF_FIRST }
    }
}

impl Backoff {
    fn after(&mut self, failure: Failure) -> Option<Duration> {
        match failure {
            Failure::Aborted => Some(PAUSE_ABORTED),
            Failure::Exhausted => {
                let pause = self.next;
                self.next = pause.saturating_mul(2).min(BACKOFF_MAX);
                Some(pause)
            }
            Failure::Fatal => None,
        }
    }
}

/// What is not known is fatal: binding again, with the supervisor's backoff, is always sound.
pub(crate) fn classify(error: &io::Error) -> Failure {
    use io::ErrorKind as Kind;
    match error.kind() {
        // accept(2): errors that are already pending on the new socket are reported here, and are to be treated as
        // "try again". A firewall rule gives PermissionDenied.
        Kind::ConnectionAborted
        | Kind::ConnectionReset
        | Kind::Interrupted
        | Kind::WouldBlock
        | Kind::TimedOut
        | Kind::PermissionDenied
        | Kind::NetworkDown
        | Kind::NetworkUnreachable
        | Kind::HostUnreachable => Failure::Aborted,
        Kind::OutOfMemory => Failure::Exhausted,
        _ => error.raw_os_error().map_or(Failure::Fatal, classify_code),
    }
}

/// The codes that have no stable [`io::ErrorKind`].
#[cfg(unix)]
fn classify_code(code: i32) -> Failure {
    match code {
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS => Failure::Exhausted,
        libc::EPROTO | libc::ENOPROTOOPT | libc::EHOSTDOWN => Failure::Aborted,
        _ => Failure::Fatal,
    }
}

/// The codes that have no stable [`io::ErrorKind`]: WSAEMFILE and WSAENOBUFS.
#[cfg(not(unix))]
fn classify_code(code: i32) -> Failure {
    match code {
        10024 | 10055 => Failure::Exhausted,
        _ => Failure::Fatal,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn errors_of_accept_are_told_apart() {
        use Failure::{Aborted, Exhausted, Fatal};
        for (code, expected) in [
            (libc::EMFILE, Exhausted),
            (libc::ENFILE, Exhausted),
            (libc::ENOBUFS, Exhausted),
            (libc::ENOMEM, Exhausted),
            (libc::ECONNABORTED, Aborted),
            (libc::ECONNRESET, Aborted),
            (libc::EINTR, Aborted),
            (libc::EPERM, Aborted),
            (libc::EPROTO, Aborted),
            (libc::ENOPROTOOPT, Aborted),
            (libc::ENETDOWN, Aborted),
            (libc::ENETUNREACH, Aborted),
            (libc::EHOSTUNREACH, Aborted),
            (libc::EHOSTDOWN, Aborted),
            (libc::EBADF, Fatal),
            (libc::EINVAL, Fatal),
            (libc::ENOTSOCK, Fatal),
            (libc::EOPNOTSUPP, Fatal),
        ] {
            let error = io::Error::from_raw_os_error(code);
            assert_eq!(classify(&error), expected, "{error}");
        }
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_starts_again() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).filter_map(|_| backoff.after(Failure::Exhausted)).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(Backoff::default().after(Failure::Exhausted), Some(BACKOFF_FIRST));
    }

    #[test]
    fn aborted_connections_do_not_lengthen_the_pause() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert_eq!(backoff.after(Failure::Aborted), Some(PAUSE_ABORTED));
        }
        assert_eq!(backoff.after(Failure::Exhausted), Some(BACKOFF_FIRST));
        assert_eq!(backoff.after(Failure::Fatal), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_does_not_spin_even_if_the_waiting_future_is_dropped() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let mut accepting = Accepting::new(socket);
        let shortage = || (Failure::Exhausted, io::Error::from_raw_os_error(libc::EMFILE));
        let start = Instant::now();
        assert!(matches!(accepting.report(Err(shortage())), Err(ListenerEvent::Retry(_))));
        assert_eq!(accepting.resume_at, Some(start + BACKOFF_FIRST));

        assert!(accepting.next().now_or_never().is_none());
        assert_eq!(
            accepting.resume_at,
            Some(start + BACKOFF_FIRST),
            "dropping `next` does not end the pause"
        );

        assert!(matches!(accepting.report(Err(shortage())), Err(ListenerEvent::Retry(_))));
        assert_eq!(accepting.resume_at, Some(start + BACKOFF_FIRST * 2));
    }

    #[tokio::test]
    async fn a_connection_ends_the_backoff() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = socket.local_addr().expect("bound");
        let mut accepting = Accepting::new(socket);
        for _ in 0..3 {
            let _ = accepting.report(Err((Failure::Exhausted, io::Error::from_raw_os_error(libc::EMFILE))));
        }
        accepting.resume_at = None;
        let (dialed, event) = tokio::join!(tokio::net::TcpStream::connect(address), accepting.next());
        dialed.expect("loopback");
        assert!(event.is_ok());
        assert_eq!(accepting.backoff.next, BACKOFF_FIRST);
    }
}
