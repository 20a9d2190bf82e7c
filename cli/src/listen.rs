//! `peerage listen`

use tokio::sync::mpsc;

use crate::{
    Context, args,
    events::say_listening,
    failure::Failure,
    found,
    node::{self, Unless},
    watch::watch,
};

pub(crate) async fn run(context: &Context, args: &args::Listen) -> Result<(), Failure> {
    let (builder, found) = found::looking(node::builder(&context.common, Unless::Loopback)?, context, args);
    let node = node::start(context, builder).await?;
    let events = node.events();
    say_listening(&context.out, &node)?;
    context.out.text(context.out.paint().dim("Ctrl-C ends it."))?;
    let (_, no_echoes) = mpsc::channel(1);
    let watched = watch(context, &node, events, no_echoes, found, args.tree).await;
    node::stop(&node).await;
    watched
}
