//! Others that are found by `--mdns`.

use std::future::pending;

use peerage::{
    Builder,
    mdns::{Event, Events, Mdns},
};

use crate::{Context, args};

/// Who is found; nobody, if nobody is looked for.
pub(crate) struct Finds(Option<Events>);

/// Has the node look for others, if it was asked to.
pub(crate) fn looking(builder: Builder, context: &Context, args: &args::Listen) -> (Builder, Finds) {
    if !args.mdns {
        return (builder, Finds(None));
    }
    let mdns = if context.common.lan { Mdns::default().lan() } else { Mdns::default() };
    let (builder, handle) = builder.with(mdns);
    (builder, Finds(Some(handle.events())))
}

impl Finds {
    /// The next one; `None` once the node has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        match &mut self.0 {
            Some(events) => events.next().await,
            None => pending().await,
        }
    }
}
