//! `peerage identify`

use std::fmt::Write as _;

use peerage::identify::{Identify, IdentifyError};

use crate::{
    Context, args, dial,
    events::Identified,
    failure::Failure,
    node::{self, Unless},
    output::Paint,
};

pub(crate) async fn run(context: &Context, args: &args::Dial) -> Result<(), Failure> {
    let (builder, identify) =
        node::builder(&context.common, Unless::Nowhere)?.workers(1).with(Identify::default());
    let node = node::start(context, builder).await?;
    let peer = dial::connect(context, &node, &args.address).await?.peer;
    let asked =
        dial::said_if_long(context, "Connected; waiting for what the peer says ...", identify.info(peer));
    let info = asked.await?.map_err(|error| failure(&error))?;
    let told = Identified::of(peer, &info);
    let text = text(&told, context.out.paint());
    let said = context.out.say(&told, text.trim_end());
    node::stop(&node).await;
    said
}

fn failure(error: &IdentifyError) -> Failure {
    let failure = Failure::new(format!("connected, but the peer was not identified: {error}"));
    match error {
        IdentifyError::Stream(_) => failure.hint("the peer may not serve /ipfs/id/1.0.0; a ping may work"),
        _ => failure,
    }
}

fn text(told: &Identified, paint: Paint) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {value}", paint.dim(format_args!("{name:<9}")));
    };
    row("peer", &told.peer);
    row("agent", &told.agent);
    row("version", &told.protocol_version);
    if let Some(key) = &told.key_type {
        row("key", key);
    }
    if let Some(observed) = &told.observed {
        row("sees us", observed);
    }
    for (index, address) in told.addrs.iter().enumerate() {
        row(if index == 0 { "addresses" } else { "" }, address);
    }
    for (index, protocol) in told.protocols.iter().enumerate() {
        row(if index == 0 { "protocols" } else { "" }, protocol);
    }
    match &told.signed_record_error {
        Some(error) => row("record", &format!("{}: {error}", told.signed_record)),
        None => row("record", told.signed_record),
    }
    if told.incomplete {
        row("", "it named more than this, or what could not be read");
    }
    text
}
