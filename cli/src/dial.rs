//! `peerage dial`; and connecting for the other commands, and what to do if that fails.

use std::time::Duration;

use peerage::{
    Connected, DialError, DialErrorKind, Multiaddr, Node, OpenError, Report,
    dial::{AttemptReport, AttemptResult, Skip},
    transport::Stage,
};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    Context, args,
    failure::{Failure, Told},
    node::{self, Unless},
    report::{self, millis},
    text::clean,
    timeline::Timeline,
};

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Connected { peer: String, address: Option<String>, took_ms: f64, report: report::Json },
}

pub(crate) async fn run(context: &Context, args: &args::Explain) -> Result<(), Failure> {
    let node = node::start(context, node::builder(&context.common, Unless::Nowhere)?.workers(1)).await?;
    let connected = connect(context, &node, &args.dial.address).await;
    node::stop(&node).await;
    match connected {
        Ok(connected) => said(context, &connected, args.explain),
        Err(Failure::Error(told)) if args.explain && !context.out.is_json() => {
            if let Some(report) = &told.report {
                context.out.text(timeline(context, report))?;
            }
            // The timeline has it all.
            Err(Failure::Error(Box::new(Told { report: None, ..*told })))
        }
        Err(failure) => Err(failure),
    }
}

fn said(context: &Context, connected: &Connected, explain: bool) -> Result<(), Failure> {
    let report = &connected.report;
    let won = report.attempts.iter().find(|attempt| attempt.result == AttemptResult::Connected);
    let address = won.map(|won| won.address.to_string());
    let took_ms = millis(report.took);
    let at = address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
    let bold = context.out.paint().bold(connected.peer);
    let mut text = format!("Connected with {bold}{at} in {took_ms:.3} ms");
    if explain {
        text = format!("{text}\n\n{}", timeline(context, report));
    }
    let (peer, report) = (connected.peer.to_string(), report::Json::of(report));
    context.out.say(&Event::Connected { peer, address, took_ms, report }, text)
}

fn timeline<'a>(context: &Context, report: &'a Report) -> Timeline<'a> {
    Timeline { report, width: context.out.width(), paint: context.out.paint() }
}

/// After this long, the user is told what is being waited for.
const LONG: Duration = Duration::from_secs(1);

/// Connects with whoever is at `address`.
pub(crate) async fn connect(
    context: &Context,
    node: &Node,
    address: &Multiaddr,
) -> Result<Connected, Failure> {
    let what = format!("Connecting with {address} ...");
    let connected = said_if_long(context, &what, node.connect(address)).await?;
    connected.map_err(|error| failure(address, &error))
}

/// Does `work`; should it take a while, says what is going on.
pub(crate) async fn said_if_long<T>(
    context: &Context,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    let said = async {
        sleep(LONG).await;
        context.out.note(what);
        std::future::pending().await
    };
    tokio::select! {
        done = context.interrupt.or(work) => done,
        () = said => Err(Failure::Interrupted),
    }
}

/// What to tell of a dial that failed.
pub(crate) fn failure(address: &Multiaddr, error: &DialError) -> Failure {
    let why = match error.kind {
        // The report has it, with the stage it came to.
        DialErrorKind::AllFailed => "nothing that was tried worked".to_owned(),
        _ => clean(&error.to_string()),
    };
    let failure = Failure::new(format!("cannot connect with {address}: {why}")).report(error.report.clone());
    match hint(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What to tell of a stream that could not be opened.
pub(crate) fn not_opened(protocol: &str, error: &OpenError) -> Failure {
    let failure = Failure::new(format!("cannot open a stream for {protocol}: {error}"));
    match error {
        OpenError::Dial(error) => failure.report(error.report.clone()),
        OpenError::Negotiation(_) => {
            failure.hint(format!("the peer is there, but does not serve {protocol}"))
        }
        _ => failure,
    }
}

fn hint(error: &DialError) -> Option<&'static str> {
    match error.kind {
        DialErrorKind::AllFailed | DialErrorKind::Timeout | DialErrorKind::NoAddresses => {}
        // The others say it themselves.
        _ => return None,
    }
    let unsupported =
        |attempt: &AttemptReport| matches!(attempt.result, AttemptResult::Skipped(Skip::Unsupported));
    if error.report.attempts.iter().any(unsupported) && error.kind == DialErrorKind::NoAddresses {
        return Some(SUPPORTED);
    }
    let furthest = error.report.attempts.iter().map(|attempt| attempt.stage).max()?;
    Some(match furthest {
        Stage::Address => SUPPORTED,
        Stage::Dns => {
            "check the name, and that this machine's name servers answer; or give the address as /ip4/... or /ip6/..."
        }
        Stage::Connect => {
            "nobody accepts connections there: check that the peer is running, that this is the address it printed, and \
             that no firewall is in between"
        }
        Stage::WebSocket => {
            "something answers there, but opens no WebSocket: check path and certificate, or whether it is plain /tcp; \
             --wss-ca believes another certificate authority"
        }
        Stage::Security => {
            "something answers there, but no security protocol was agreed on: check that the port is a libp2p node's, \
             and --security on both sides"
        }
        Stage::Muxer => "the peer is there, but no muxer was agreed on: check --muxer on both sides",
        _ => return None,
    })
}

const SUPPORTED: &str = "this build dials /tcp/PORT, /tcp/PORT/ws, /tcp/PORT/tls/ws and /udp/PORT/quic-v1 after /ip4/IP, \
                         /ip6/IP, /dns/NAME, \
                         /dns4/NAME or /dns6/NAME, and /dnsaddr/NAME";
