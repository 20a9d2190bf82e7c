//! The future that moves datagrams between the path and the session, and messages between the session and the streams.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::task::noop_waker_ref;
use peerage_core::budget::Reserved;
use peerage_muxer::{ConnectionError, ErrorCode};
use tokio::time::{self, Instant, Sleep};

use super::{
    certificate::Fingerprint,
    engine::{Action, Engine},
    handle::{Secured, Shared},
    ice::{CONSENT_TIMEOUT, Checks, Heard},
    message,
    path::Path,
    session::{Ended, Event, Session},
    stun,
};

/// Datagrams that one poll takes before it lets others run.
const DATAGRAMS_PER_POLL: usize = 64;

/// A goodbye waits so long for what was written to be acknowledged, and for the other side to say goodbye as well.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// After this much was read the other side is told of the window, if it had seen it less than half open.
const READ_STEP: usize = 64 * 1024;

pub(super) struct Driver<P: Path> {
    path: P,
    shared: Arc<Shared>,
    session: Session,
    /// The dialer's.
    checks: Option<Checks>,
    window: u32,
    /// The memory of the window.
    _held: Reserved,
    /// When something came that only the other side can have sent.
    heard: Instant,
    /// Channels can be opened.
    connected: bool,
    /// A datagram that the path had no room for.
    unsent: Option<Vec<u8>>,
    /// Read from SCTP since the other side was told of the window.
    read: usize,
    closing: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

/// What a turn of the driver runs on.
pub(super) struct Parts<P> {
    pub(super) path: P,
    pub(super) session: Session,
    pub(super) checks: Option<Checks>,
    pub(super) shared: Arc<Shared>,
    pub(super) window: u32,
    pub(super) held: Reserved,
}

impl<P: Path> Driver<P> {
    pub(super) fn new(parts: Parts<P>) -> Self {
        let now = Instant::now();
        let Parts { path, session, checks, shared, window, held } = parts;
        Self {
            path,
            shared,
            session,
            checks,
            window,
            _held: held,
            heard: now,
            connected: false,
            unsent: None,
            read: 0,
            closing: None,
            timer: Box::pin(time::sleep_until(now)),
        }
    }
}

impl<P: Path> Driver<P> {
    pub(super) fn path(&self) -> &P {
        &self.path
    }
}

impl<P: Path> Future for Driver<P> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.shared.streams.register_driver(cx.waker());
        let result = ready!(this.turn(cx));
        let end = match &result {
            Ok(()) => ConnectionError::Closed,
            Err(error) => error.clone(),
        };
        this.shared.streams.end(end);
        this.last_words(cx);
        Poll::Ready(result)
    }
}

impl<P: Path> Driver<P> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let now = Instant::now();
        let all = self.receive(cx, now)?;
        self.session.handle_timeout(now.into_std());
        if let Some(end) = self.exchange(now) {
            return Poll::Ready(end);
        }
        self.send(cx, now)?;
        if !all {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_timers(cx)
    }

    /// Takes what came. Whether that was all.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        for _ in 0..DATAGRAMS_PER_POLL {
            let Poll::Ready(datagram) = self.path.poll_recv(cx)? else { return Ok(true) };
            if stun::is_stun(&datagram) {
                self.heard_check(&datagram, now);
            } else if self.session.handle_datagram(&datagram, now.into_std()) {
                self.heard = now;
                self.path.confirm();
            }
        }
        Ok(false)
    }

    fn heard_check(&mut self, message: &[u8], now: Instant) {
        let Some(checks) = &mut self.checks else {
            // It was looked at where it came in, and answered.
            self.heard = now;
            return;
        };
        match checks.handle_message(message, self.path.remote(), now.into_std()) {
            Some(Heard::Answer(rtt)) => {
                self.heard = now;
                self.shared.streams.drive(|engine| engine.set_rtt(rtt));
            }
            Some(Heard::Check(answer)) => {
                self.heard = now;
                self.unsent.get_or_insert(answer);
            }
            None => {}
        }
    }

    /// Moves messages in both directions. Gives the end, once there is one.
    fn exchange(&mut self, now: Instant) -> Option<Result<(), ConnectionError>> {
        let Self { session, shared, .. } = self;
        let mut brought = Brought { connected: self.connected, ..Brought::default() };
        let end = shared.streams.drive(|engine| {
            engine.handle_timeout(now.into_std());
            loop {
                if let Some(end) = bring(session, engine, &mut brought) {
                    return Some(end);
                }
                if !brought.connected {
                    return None;
                }
                fetch(session, engine);
                if !session.has_event() {
                    return None;
                }
            }
        });
        self.connected = brought.connected;
        if let Some(fingerprint) = brought.secured {
            self.shared.set_secured(Secured::Done(fingerprint));
        }
        if let Some(why) = end {
            return Some(self.ended(why));
        }
        self.read = self.read.saturating_add(brought.read);
        self.look_at_window(now);
        self.say_goodbye(now)
    }

    /// Tells the other side of a window that has opened again, and looks whether somebody keeps it shut.
    fn look_at_window(&mut self, now: Instant) {
        let advertised = self.session.advertised();
        if self.read >= READ_STEP {
            self.read = 0;
            if advertised < self.window / 2 {
                self.session.advertise(now.into_std());
            }
        }
        let shut = advertised < self.window / 8;
        self.shared.streams.drive(|engine| engine.window_is_shut(shut));
    }

    /// Once this side closes: first everything written, then the goodbye.
    fn say_goodbye(&mut self, now: Instant) -> Option<Result<(), ConnectionError>> {
        let flushed = self.shared.streams.drive(|engine| engine.is_closing().then(|| engine.is_flushed()))?;
        let late = *self.closing.get_or_insert_with(|| now.checked_add(CLOSE_TIMEOUT).unwrap_or(now)) <= now;
        if late {
            return Some(Ok(()));
        }
        if flushed && self.session.buffered() == 0 {
            self.session.close(now.into_std());
        }
        None
    }

    fn ended(&self, why: Ended) -> Result<(), ConnectionError> {
        self.shared.set_secured(Secured::Failed(why.clone()));
        match why {
            Ended::Closed => Ok(()),
            // A goodbye at the same time.
            _ if self.closing.is_some() => Ok(()),
            Ended::ByPeer => Err(ConnectionError::ClosedByPeer(ErrorCode::NONE)),
            why => Err(ConnectionError::Protocol(why.to_string())),
        }
    }

    /// Sends what there is, until the path has enough.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<()> {
        loop {
            let datagram = match self.unsent.take() {
                Some(datagram) => datagram,
                None => {
                    let check = self.checks.as_mut().and_then(|checks| checks.handle_timeout(now.into_std()));
                    match check.or_else(|| self.session.poll_transmit(now.into_std())) {
                        Some(datagram) => datagram,
                        None => return Ok(()),
                    }
                }
            };
            if self.path.poll_send(cx, &datagram)?.is_pending() {
                self.unsent = Some(datagram);
                return Ok(());
            }
        }
    }

    /// A goodbye without an answer, as far as the path takes it now: whoever gives up a handshake, or drops a
    /// connection, saves the other side the waiting.
    fn last_words(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now().into_std();
        self.session.finish(now);
        while let Some(datagram) = self.session.poll_transmit(now) {
            if !matches!(self.path.poll_send(cx, &datagram), Poll::Ready(Ok(()))) {
                break;
            }
        }
    }

    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let now = Instant::now();
        let vanished = self.heard.checked_add(CONSENT_TIMEOUT).unwrap_or(now);
        if vanished <= now {
            return Poll::Ready(Err(ConnectionError::Vanished));
        }
        let engine = self.shared.streams.drive(|engine| engine.poll_timeout());
        let checks = self.checks.as_ref().map(Checks::poll_timeout);
        let next = [engine, checks, self.session.poll_timeout()].into_iter().flatten().map(Instant::from_std);
        let next = next.chain(self.closing).chain([vanished]).min().unwrap_or(vanished);
        if self.timer.deadline() != next {
            self.timer.as_mut().reset(next);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// What a turn of the session brought beside messages.
#[derive(Default)]
struct Brought {
    secured: Option<Fingerprint>,
    connected: bool,
    /// Bytes that were read from SCTP.
    read: usize,
}

/// What the session brings goes to the engine. Gives the session's end.
fn bring(session: &mut Session, engine: &mut Engine, brought: &mut Brought) -> Option<Ended> {
    loop {
        while engine.wants_channels()
            && let Some(event) = session.poll_event()
        {
            match event {
                Event::Secured(fingerprint) => brought.secured = Some(fingerprint),
                Event::Connected => brought.connected = true,
                Event::Opened(id) => {
                    if let Err(error) = engine.handle_opened(id) {
                        return Some(Ended::Sctp(error.to_string()));
                    }
                }
                Event::Readable(id) => drain(session, engine, id, &mut brought.read),
                Event::Closed(id) => engine.handle_closed(id),
                Event::Free(id) => engine.handle_free(id),
                Event::Ended(why) => return Some(why),
            }
        }
        match engine.poll_unblocked() {
            Some(id) => drain(session, engine, id, &mut brought.read),
            None => return None,
        }
    }
}

/// Reads the messages of a channel for which there is room.
fn drain(session: &mut Session, engine: &mut Engine, id: u16, read: &mut usize) {
    while engine.make_room(id) {
        let Some(message) = session.read(id) else { return };
        *read = read.saturating_add(message.len());
        engine.handle_message(id, &message);
    }
}

/// What the engine has goes to the session.
fn fetch(session: &mut Session, engine: &mut Engine) {
    // What is over the limit waits in the streams.
    let (mut buffered, limit) = (session.buffered(), session.limit());
    while let Some(action) = engine.poll_action(buffered < limit) {
        match action {
            Action::Open(id) => {
                if !session.open(id) {
                    engine.handle_closed(id);
                }
            }
            Action::OpenNegotiated(id) => {
                session.open_negotiated(id);
            }
            Action::Send(id, message) => {
                buffered = buffered.saturating_add(message.len());
                let (first, second) = message::parts(message);
                // A channel that is closed meanwhile is heard of as closed.
                if session.write(id, first)
                    && let Some(second) = second
                {
                    session.write(id, second);
                }
            }
            Action::Close(id) => session.close_channel(id),
        }
    }
}

impl<P: Path> Drop for Driver<P> {
    fn drop(&mut self) {
        // After a panic nothing that could panic as well.
        if !std::thread::panicking() {
            self.last_words(&mut Context::from_waker(noop_waker_ref()));
        }
        // If the future ended by itself, its own reason stands.
        self.shared.streams.end(ConnectionError::DriverGone);
        self.shared.set_secured(Secured::Failed(Ended::Closed));
    }
}
