//! Connecting, and what to do if that fails.

use std::time::Duration;

use peerage::{Connected, DialError, DialErrorKind, Multiaddr, Node, OpenError, transport::Stage};
use tokio::time::sleep;

use crate::{Context, failure::Failure, text::clean};

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
    let furthest = error.report.attempts.iter().map(|attempt| attempt.stage).max()?;
    Some(match furthest {
        Stage::Address => {
            "this build dials addresses as /ip4/192.0.2.1/tcp/4001 and /ip6/2001:db8::1/tcp/4001"
        }
        Stage::Dns => "check the name, or give the address as /ip4/... or /ip6/...",
        Stage::Connect => {
            "nobody accepts connections there: check that the peer is running, that this is the address it printed, and \
             that no firewall is in between"
        }
        Stage::Security => {
            "something answers there, but no security protocol was agreed on: check that the port is a libp2p node's, \
             and --security on both sides"
        }
        Stage::Muxer => "the peer is there, but no muxer was agreed on: check --muxer on both sides",
        _ => return None,
    })
}
