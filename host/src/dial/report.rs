use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use peerage_core::{Multiaddr, PeerId};
use peerage_transport::{Fault, Stage, dns};

use crate::{
    hub::Refused,
    limits::{ConnectionId, LimitError},
};

/// The most addresses, tried or not, that a report lists; the others are counted.
pub const MAX_REPORTED: usize = 96;
/// The most sources of addresses that a report lists.
pub const MAX_SOURCES: usize = 32;
/// What is kept of the text of an error.
const MAX_ERROR_TEXT: usize = 512;

/// How a dial went: everything that was tried, when, how far it came, and whose fault it was that it came no further.
/// Its `Display` is made for reading, on several lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Whom the dial was for; `None` when only an address was known.
    pub peer: Option<PeerId>,
    /// From the start of the dial until this report was made. Who joined a dial that was under way, sees it whole.
    pub took: Duration,
    /// Whoever was asked for addresses, in the order of their answers.
    pub sources: Vec<SourceReport>,
    /// The addresses, in the order in which they came up.
    pub attempts: Vec<AttemptReport>,
    /// Addresses beyond [`MAX_REPORTED`], none of which were tried.
    pub omitted: usize,
}

/// A connection, and how it came about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connected {
    /// Who is there, proven.
    pub peer: PeerId,
    /// The connection.
    pub connection: ConnectionId,
    /// What was tried; empty if there was a connection already.
    pub report: Report,
}

/// What a source of addresses said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// How many addresses it named, or why it could not.
    pub said: Result<usize, String>,
}

/// How it went with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptReport {
    /// The address, without the peer's id at its end.
    pub address: Multiaddr,
    /// Who named it; of what a name stands for, who named the name.
    pub source: String,
    /// The name that it came from, as its place in [`Report::attempts`], where it is earlier than this.
    pub via: Option<usize>,
    /// What of its path seems to lead nowhere in this network (`UDP`, `IPv6`), for which it had its turn after the others.
    pub doubt: Option<&'static str>,
    /// When it was tried, from the start of the dial; `None` if it was not.
    pub started: Option<Duration>,
    /// When that ended, from the start of the dial; `None` if it did not, as far as this report goes.
    pub ended: Option<Duration>,
    /// The stage it reached.
    pub stage: Stage,
    /// The stages that it entered, each with when it did, from the start of the dial.
    pub stages: Vec<(Stage, Duration)>,
    /// What became of data that it carried ahead of the handshake; `None` if it carried none.
    pub early: Option<EarlySent>,
    /// How it ended.
    pub result: AttemptResult,
}

/// What became of data that were sent ahead of a handshake ([`First`](crate::First)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EarlySent {
    /// The peer took them.
    Taken,
    /// It did not, as a peer does that was started anew: they are sent after the handshake.
    Refused,
    /// The attempt failed, and was made again without them.
    Failed {
        /// Why.
        error: String,
    },
}

impl EarlySent {
    /// In one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for EarlySent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => write!(f, "data went ahead of the handshake (0-RTT)"),
            Self::Refused => write!(f, "data that went ahead of the handshake (0-RTT) were refused"),
            Self::Failed { error } => {
                write!(
                    f,
                    "tried again without data ahead of the handshake (0-RTT), with which it failed: {error}"
                )
            }
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptResult {
    /// It was its turn, and it is not over as far as this report goes.
    UnderWay,
    /// It is a name, and stands for other addresses.
    Resolved {
        /// How many.
        addresses: usize,
    },
    /// It won.
    Connected,
    /// It failed.
    Failed {
        /// Why.
        error: String,
        /// Who is to blame.
        fault: Fault,
    },
    /// Another peer than the expected one answered: the address is stale, or somebody poses.
    WrongPeer {
        /// Who.
        found: PeerId,
    },
    /// Another attempt won, or nobody waited any more.
    Abandoned,
    /// It was not tried.
    Skipped(Skip),
}

/// Why an address was not tried.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Skip {
    /// It says only who, not where.
    Nowhere,
    /// It leads to another peer.
    OtherPeer(PeerId),
    /// It is this node's own.
    Own,
    /// No transport of this node dials such an address.
    Unsupported,
    /// It is of a kind that nobody reaches, or that is not dialed because another peer says so.
    Filtered(&'static str),
    /// The program that runs this node does not want it.
    Gated(String),
    /// It rests, because attempts there failed. Whoever asks for a dial to the address itself does not wait for that.
    Backoff {
        /// How many.
        failures: u32,
        /// For how long yet.
        remaining: Duration,
    },
    /// It came up before in this dial.
    Duplicate,
    /// A limit of one dial.
    Limit {
        /// What of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The dial was over before its turn.
    NotReached,
}

impl Skip {
    /// In one word, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::OtherPeer(_) => "other_peer",
            Self::Own => "own",
            Self::Unsupported => "unsupported",
            Self::Filtered(_) => "filtered",
            Self::Gated(_) => "gated",
            Self::Backoff { .. } => "backoff",
            Self::Duplicate => "duplicate",
            Self::Limit { .. } => "limit",
            Self::NotReached => "not_reached",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => write!(f, "it says only who, not where"),
            Self::OtherPeer(peer) => write!(f, "it leads to {peer}"),
            Self::Own => write!(f, "it is this node's own"),
            Self::Unsupported => write!(f, "no transport of this node dials such an address"),
            Self::Filtered(why) => write!(f, "{why}"),
            Self::Gated(why) => write!(f, "gated: {why}"),
            Self::Backoff { failures: 1, remaining } => {
                write!(f, "it failed, and rests for {}", Span(*remaining))
            }
            Self::Backoff { failures, remaining } => {
                write!(f, "it failed {failures} times, and rests for {}", Span(*remaining))
            }
            Self::Duplicate => write!(f, "it is among the others already"),
            Self::Limit { what, max } => write!(f, "a dial has {max} {what} at most"),
            Self::NotReached => write!(f, "its turn did not come"),
        }
    }
}

impl Report {
    /// Of a dial in which nothing was tried.
    pub(crate) fn of(peer: Option<PeerId>) -> Self {
        Self { peer, ..Self::default() }
    }

    /// The addresses with what names stand for below the names, each with the number of names above it.
    pub fn nested(&self) -> Vec<(usize, &AttemptReport)> {
        let mut below: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
        for (place, attempt) in self.attempts.iter().enumerate() {
            // A name is earlier than what it stands for; what says otherwise is shown without one.
            let via = attempt.via.filter(|via| *via < place);
            below.entry(via).or_default().push(place);
        }
        let mut nested = Vec::new();
        let mut next: Vec<(usize, usize)> = Vec::new();
        let mut push = |next: &mut Vec<_>, name: Option<usize>, depth: usize| {
            next.extend(below.remove(&name).into_iter().flatten().rev().map(|place| (depth, place)));
        };
        push(&mut next, None, 0);
        while let Some((depth, place)) = next.pop() {
            nested.extend(self.attempts.get(place).map(|attempt| (depth, attempt)));
            push(&mut next, Some(place), depth.saturating_add(1));
        }
        nested
    }

    fn tried(&self) -> impl Iterator<Item = &AttemptReport> + Clone {
        self.attempts.iter().filter(|attempt| attempt.started.is_some() && !attempt.is_name())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => write!(f, "dial of {peer}, {}", Span(self.took))?,
            None => write!(f, "dial of an unknown peer, {}", Span(self.took))?,
        }
        for source in &self.sources {
            match &source.said {
                Ok(count) => write!(f, "\n  {} knows {count} addresses", source.name)?,
                Err(error) => write!(f, "\n  {} could not be asked: {error}", source.name)?,
            }
        }
        if self.attempts.is_empty() {
            write!(f, "\n  no address to try")?;
        }
        for (depth, attempt) in self.nested() {
            write!(f, "\n  {:depth$}{attempt}", "", depth = depth.saturating_mul(2))?;
        }
        if self.omitted > 0 {
            write!(f, "\n  and {} addresses more that were not tried", self.omitted)?;
        }
        Ok(())
    }
}

impl AttemptReport {
    /// Whether it is a name that has to be resolved.
    pub fn is_name(&self) -> bool {
        dns::is_name(&self.address)
    }
}

impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.source)?;
        if let Some(started) = self.started {
            write!(f, " at {}", Span(started))?;
            if let Some(ended) = self.ended {
                write!(f, " for {}", Span(ended.saturating_sub(started)))?;
            }
        }
        let stage = self.stage;
        match &self.result {
            AttemptResult::UnderWay => write!(f, ": still at {stage}"),
            AttemptResult::Resolved { addresses: 1 } => write!(f, ": resolved to 1 address"),
            AttemptResult::Resolved { addresses } => write!(f, ": resolved to {addresses} addresses"),
            AttemptResult::Connected => write!(f, ": connected"),
            AttemptResult::Failed { error, fault } => {
                let whose = match fault {
                    Fault::Local => "this node's",
                    Fault::Remote => "the peer's",
                    Fault::Network => "the network's",
                };
                write!(f, ": failed at {stage}, {whose} fault: {error}")
            }
            AttemptResult::WrongPeer { found } => write!(f, ": {found} answered instead"),
            AttemptResult::Abandoned => write!(f, ": given up at {stage}"),
            AttemptResult::Skipped(why) => write!(f, ": not tried, {why}"),
        }?;
        if let Some(early) = &self.early {
            write!(f, "; {early}")?;
        }
        match self.doubt {
            Some(kind) => write!(f, "; {kind} seems to lead nowhere here, so it was left for the end"),
            None => Ok(()),
        }
    }
}

/// A duration to read: `250 ms`, `3.2 s`.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        }
    }
}

/// Why a dial failed, with the report of what was tried.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DialError {
    /// Why.
    pub kind: DialErrorKind,
    /// What was tried.
    pub report: Arc<Report>,
}

/// Why a dial failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialErrorKind {
    /// There was no address to try.
    NoAddresses,
    /// All addresses that there are rest, because attempts there failed. Dial one by itself to try it all the same.
    Backoff {
        /// How long it takes until the first of them may be tried again.
        retry_in: Duration,
    },
    /// Every attempt failed.
    AllFailed,
    /// A [`Gater`](crate::Gater) of this node does not want the peer dialed, or none of the addresses that there are. With
    /// its reason.
    Gated(String),
    /// The request's deadline passed first.
    Timeout,
    /// This node does not talk with the peer for a while.
    Banned(PeerId),
    /// A limit of this node is reached.
    Limit(LimitError),
    /// The other end is this node itself.
    SelfDial,
    /// Wherever somebody answered, it was another peer.
    WrongPeer {
        /// Who was to be dialed.
        expected: PeerId,
        /// Who answered first.
        found: PeerId,
    },
    /// Whoever asked does not wait any more.
    Cancelled,
    /// The node is shutting down, or gone.
    Closed,
    /// The dialer's actor panicked over the dial and was started again.
    Interrupted,
    /// The connection was there, and this node did not want it.
    Refused(String),
}

impl DialError {
    pub(crate) fn new(kind: DialErrorKind, report: Arc<Report>) -> Self {
        Self { kind, report }
    }
}

impl std::error::Error for DialError {}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.report;
        match &self.kind {
            DialErrorKind::NoAddresses => {
                let skipped = report.attempts.len().saturating_add(report.omitted);
                match (&report.peer, skipped) {
                    (Some(peer), 0) => write!(f, "no address of {peer} is known; dial it by one")?,
                    (_, 0) => write!(f, "no address to dial; give one")?,
                    (_, 1) => write!(f, "the one address cannot be dialed")?,
                    (_, skipped) => write!(f, "none of {skipped} addresses can be dialed")?,
                }
                let skipped = |attempt: &&AttemptReport| matches!(attempt.result, AttemptResult::Skipped(_));
                if let Some(first) = report.attempts.iter().find(skipped) {
                    write!(f, "; {first}")?;
                }
            }
            DialErrorKind::Backoff { retry_in } => {
                write!(
                    f,
                    "all known addresses failed lately; dial in {}, or by an address",
                    Span(*retry_in)
                )?;
            }
            DialErrorKind::AllFailed => {
                let tried = report.tried();
                match tried.clone().count() {
                    // Names that lead nowhere.
                    0 => write!(f, "no address was found")?,
                    1 => write!(f, "the one attempt failed")?,
                    attempts => write!(f, "all of {attempts} attempts failed")?,
                }
                let mut names = report.attempts.iter().filter(|attempt| attempt.started.is_some());
                if let Some(furthest) = tried.max_by_key(|attempt| attempt.stage).or(names.next_back()) {
                    write!(f, "; the furthest: {furthest}")?;
                }
            }
            DialErrorKind::Gated(why) => write!(f, "not dialed: {why}")?,
            DialErrorKind::Timeout => {
                let started = report.tried().count();
                let took = Span(report.took);
                write!(f, "no connection in {took} with {started} attempts; allow more time, or check")?;
                write!(f, " that the peer is online")?;
            }
            DialErrorKind::Banned(peer) => write!(f, "{peer} is banned; lift the ban, or wait for its end")?,
            DialErrorKind::Limit(limit) => write!(f, "{limit}; try again later, or raise it")?,
            DialErrorKind::SelfDial => write!(f, "the other end is this node itself; dial somebody else")?,
            DialErrorKind::WrongPeer { expected, found } => {
                write!(f, "{found} answered instead of {expected}; dial a current address of it")?;
            }
            DialErrorKind::Cancelled => write!(f, "nobody waited for it any more")?,
            DialErrorKind::Interrupted => {
                write!(f, "this node's dialer was restarted meanwhile; dial again")?
            }
            DialErrorKind::Closed => write!(f, "this node is shutting down")?,
            DialErrorKind::Refused(why) => write!(f, "this node refused the connection: {why}")?,
        }
        if report.attempts.len() > 1 { write!(f, " (the report has all)") } else { Ok(()) }
    }
}

impl From<Refused> for DialErrorKind {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::OwnPeer => Self::SelfDial,
            Refused::Banned { peer, .. } => Self::Banned(peer),
            Refused::Limit(limit) => Self::Limit(limit),
            Refused::ShuttingDown => Self::Closed,
            other @ (Refused::Duplicate(_) | Refused::Interrupted) => Self::Refused(other.to_string()),
        }
    }
}

/// A text that somebody else may have chosen, cut to `max` characters, and without those that would move the cursor
/// of a terminal or turn the direction of its writing.
pub(crate) fn tidy(text: &str, max: usize) -> String {
    let harmless =
        |c: char| !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(max).map(|c| if harmless(c) { c } else { ' ' }).collect()
}

/// [`tidy`], for errors.
pub(super) fn tidy_error(text: &str) -> String {
    tidy(text, MAX_ERROR_TEXT)
}

#[cfg(test)]
mod tests {
    use peerage_core::Keypair;

    use super::*;
    use crate::limits::Scope;

    fn peer(n: u8) -> PeerId {
        Keypair::from_ed25519_seed([n; 32]).peer_id()
    }

    fn attempt(port: u16, stage: Stage, result: AttemptResult) -> AttemptReport {
        AttemptReport {
            address: format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap(),
            source: "book".to_owned(),
            via: None,
            doubt: None,
            started: Some(Duration::from_millis(250)),
            ended: Some(Duration::from_millis(3450)),
            stage,
            stages: Vec::new(),
            early: None,
            result,
        }
    }

    #[test]
    fn what_became_of_early_data_is_told() {
        let told = |early| {
            let early = Some(early);
            AttemptReport { early, ..attempt(1, Stage::Muxer, AttemptResult::Connected) }.to_string()
        };
        assert!(told(EarlySent::Taken).ends_with("connected; data went ahead of the handshake (0-RTT)"));
        assert!(told(EarlySent::Refused).ends_with("were refused"));
        let failed = told(EarlySent::Failed { error: "it broke".to_owned() });
        assert!(failed.contains("tried again without") && failed.ends_with("it broke"), "{failed}");
    }

    fn failed(port: u16, stage: Stage) -> AttemptReport {
        attempt(port, stage, AttemptResult::Failed { error: "it broke".to_owned(), fault: Fault::Remote })
    }

    fn error(kind: DialErrorKind, attempts: Vec<AttemptReport>) -> String {
        let report =
            Report { peer: Some(peer(1)), took: Duration::from_secs(5), attempts, ..Report::default() };
        DialError::new(kind, Arc::new(report)).to_string()
    }

    #[test]
    fn a_report_to_read() {
        let report = Report {
            peer: None,
            took: Duration::from_millis(4000),
            sources: vec![
                SourceReport { name: "book".to_owned(), said: Ok(3) },
                SourceReport { name: "kad".to_owned(), said: Err("no peers".to_owned()) },
            ],
            attempts: vec![
                failed(1, Stage::Security),
                attempt(2, Stage::Connect, AttemptResult::Abandoned),
                AttemptReport {
                    started: None,
                    ended: None,
                    ..attempt(3, Stage::Address, AttemptResult::Skipped(Skip::Own))
                },
            ],
            omitted: 2,
        };
        let expected = "dial of an unknown peer, 4.0 s
  book knows 3 addresses
  kad could not be asked: no peers
  /ip4/10.0.0.1/tcp/1 (book) at 250 ms for 3.2 s: failed at security, the peer's fault: it broke
  /ip4/10.0.0.1/tcp/2 (book) at 250 ms for 3.2 s: given up at connect
  /ip4/10.0.0.1/tcp/3 (book): not tried, it is this node's own
  and 2 addresses more that were not tried";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn errors_are_one_line_and_say_what_to_do() {
        let (a, b) = (peer(1), peer(2));
        assert_eq!(
            error(DialErrorKind::NoAddresses, vec![]),
            format!("no address of {a} is known; dial it by one")
        );
        let text = error(DialErrorKind::AllFailed, vec![failed(1, Stage::Connect), failed(2, Stage::Muxer)]);
        assert!(text.starts_with("all of 2 attempts failed; the furthest: /ip4/10.0.0.1/tcp/2"), "{text}");
        assert!(text.ends_with("(the report has all)"), "{text}");
        assert!(error(DialErrorKind::Timeout, vec![]).contains("no connection in 5.0 s with 0 attempts"));
        let limit = LimitError::new("dials under way", 512, Scope::System);
        assert_eq!(
            error(DialErrorKind::Limit(limit), vec![]),
            "dials under way: limit of 512 reached for this node; try again later, or raise it"
        );
        let wrong = error(DialErrorKind::WrongPeer { expected: a, found: b }, vec![]);
        assert_eq!(wrong, format!("{b} answered instead of {a}; dial a current address of it"));
    }

    #[test]
    fn foreign_text_cannot_play_with_the_terminal() {
        assert_eq!(tidy("a\x1b[31mb\r\n\u{202e}c", 100), "a [31mb   c");
        assert_eq!(tidy("ééé", 2), "éé");
        assert_eq!(tidy_error(&"x".repeat(513)).len(), 512);
        assert_eq!(tidy_error(&"x".repeat(512)).len(), 512);
    }
}
