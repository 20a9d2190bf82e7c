use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use peerage_core::{Deadline, Now, engine};
use peerage_muxer::ErrorCode;

/// How long a connection may take to say goodbye.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(5);
/// Streams that may go wrong by the peer's doing (over a limit, failed negotiations) ...
pub(crate) const MAX_BAD_STREAMS: u32 = 1_000;
/// ... within this time, before the connection is ended.
pub(crate) const BAD_STREAMS_PERIOD: Duration = Duration::from_secs(10);

/// Decides over the life of one connection.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    closing: Option<Closing>,
    finished: bool,
    bad_streams: u32,
    bad_since: Option<Instant>,
    actions: VecDeque<Action>,
}

#[derive(Debug)]
struct Closing {
    why: String,
    until: Instant,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// End the connection.
    Close { code: ErrorCode, why: String },
}

#[derive(Debug)]
pub(crate) enum Input {
    /// The peer opened a stream that came to nothing.
    BadStream,
    /// The bytes flow no more.
    DriverEnded { why: String },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Say goodbye.
    Close(ErrorCode),
    /// The connection is over.
    Finish { why: String },
}

impl Engine {
    fn close(&mut self, code: ErrorCode, why: String, now: Now) {
        if self.closing.is_none() && !self.finished {
            self.closing = Some(Closing { why, until: now.after(CLOSE_GRACE) });
            self.actions.push_back(Action::Close(code));
        }
    }

    fn finish(&mut self, why: String) {
        if !self.finished {
            self.finished = true;
            // What made this side close says more than how the driver ended after that.
            let why = self.closing.take().map_or(why, |closing| closing.why);
            self.actions.push_back(Action::Finish { why });
        }
    }

    fn bad_stream(&mut self, now: Now) {
        if self.bad_since.is_none_or(|since| now.since(since) > BAD_STREAMS_PERIOD) {
            self.bad_since = Some(now.mono);
            self.bad_streams = 0;
        }
        self.bad_streams = self.bad_streams.saturating_add(1);
        if self.bad_streams > MAX_BAD_STREAMS {
            let why = format!(
                "the peer opened more than {MAX_BAD_STREAMS} streams in {} s that came to nothing",
                BAD_STREAMS_PERIOD.as_secs()
            );
            self.close(ErrorCode::RATE_LIMITED, why, now);
        }
    }
}

impl engine::Engine for Engine {
    type Command = Command;
    type Input = Input;
    type Action = Action;

    fn handle_command(&mut self, command: Command, now: Now) {
        match command {
            Command::Close { code, why } => self.close(code, why, now),
        }
    }

    fn handle_input(&mut self, input: Input, now: Now) {
        match input {
            Input::BadStream => self.bad_stream(now),
            Input::DriverEnded { why } => self.finish(why),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        if self.closing.as_ref().is_some_and(|closing| closing.until <= now.mono) {
            self.finish(String::new());
        }
    }

    fn poll_timeout(&self) -> Option<Deadline> {
        self.closing.as_ref().map(|closing| Deadline { at: closing.until, reason: "goodbye takes too long" })
    }

    fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use peerage_core::engine::sim::Sim;

    use super::*;

    fn close() -> Command {
        Command::Close { code: ErrorCode::SHUTDOWN, why: "enough".into() }
    }

    #[test]
    fn closing_twice_says_goodbye_once_and_the_reason_is_the_first() {
        let mut sim = Sim::new(Engine::default());
        sim.command(close());
        sim.command(Command::Close { code: ErrorCode::GATED, why: "later".into() });
        assert_eq!(sim.actions(), [Action::Close(ErrorCode::SHUTDOWN)]);
        sim.input(Input::DriverEnded { why: "closed".into() });
        assert_eq!(sim.actions(), [Action::Finish { why: "enough".into() }]);
        sim.input(Input::DriverEnded { why: "closed".into() });
        sim.command(close());
        assert!(sim.actions().is_empty());
    }

    #[test]
    fn a_peer_that_does_not_take_the_goodbye_is_left_after_the_grace() {
        let mut sim = Sim::new(Engine::default());
        sim.command(close());
        sim.actions();
        sim.advance(CLOSE_GRACE - Duration::from_millis(1));
        assert!(sim.actions().is_empty());
        sim.advance(Duration::from_millis(1));
        assert_eq!(sim.actions(), [Action::Finish { why: "enough".into() }]);
        sim.advance(Duration::from_secs(3600));
        assert!(sim.actions().is_empty());
    }

    #[test]
    fn one_bad_stream_too_many_ends_the_connection() {
        let mut sim = Sim::new(Engine::default());
        (0..MAX_BAD_STREAMS).for_each(|_| sim.input(Input::BadStream));
        assert!(sim.actions().is_empty());
        sim.input(Input::BadStream);
        assert_eq!(sim.actions(), [Action::Close(ErrorCode::RATE_LIMITED)]);
    }

    #[test]
    fn bad_streams_of_long_ago_do_not_count() {
        let mut sim = Sim::new(Engine::default());
        for _ in 0..10 {
            (0..MAX_BAD_STREAMS).for_each(|_| sim.input(Input::BadStream));
            sim.advance(BAD_STREAMS_PERIOD + Duration::from_millis(1));
        }
        assert!(sim.actions().is_empty());
    }
}
