//! `peerage serve`

use std::{io, time::Duration};

use peerage::{Node, PeerId, ServeError, Stream, perf::Perf};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};

use crate::{
    Context, args,
    events::{Listening, say_listening},
    failure::Failure,
    found,
    node::{self, Unless},
    watch::{Echoed, watch},
};

const PROTOCOL: &str = "/peerage/echo/1";
/// How long nothing may move on an echo's stream.
const IDLE: Duration = Duration::from_secs(300);
/// What one echo holds of what was not taken back yet.
const BUFFER: usize = 64 * 1024;
/// Finished echoes that wait to be shown; more than these are not.
const SHOWN: usize = 256;

pub(crate) async fn run(context: &Context, args: &args::Listen) -> Result<(), Failure> {
    let (builder, _) = node::builder(&context.common, Unless::Loopback)?.with(Perf::default());
    let (builder, found) = found::looking(builder, context, args);
    let node = node::start(context, builder).await?;
    let events = node.events();
    let (echoed, echoes) = mpsc::channel(SHOWN);
    serve(&node, echoed).map_err(|error| Failure::new(error.to_string()))?;
    say_listening(&context.out, &node)?;
    if let Some(address) = Listening::of(&node).addrs().first() {
        context.out.text(format_args!(
            "Try it from a second terminal:\n  {} ping {address}",
            crate::chat::command()
        ))?;
    }
    context.out.text(
        context.out.paint().dim("It echoes under /peerage/echo/1 and answers pings. Ctrl-C ends it."),
    )?;
    let watched = watch(context, &node, events, echoes, found, args.tree).await;
    node::stop(&node).await;
    watched
}

fn serve(node: &Node, echoed: mpsc::Sender<Echoed>) -> Result<(), ServeError> {
    node.serve(PROTOCOL, move |mut stream: Stream, peer: PeerId| {
        let echoed = echoed.clone();
        async move {
            let result = echo(&mut stream).await;
            // Whoever looks at the terminal shall not slow down the echo.
            let _ = echoed
                .try_send(Echoed { peer, result: result.as_ref().map_err(io::Error::to_string).copied() });
            result
        }
    })?;
    Ok(())
}

/// Writes back what comes. Not a byte more is read before the last ones are taken back.
async fn echo(stream: &mut Stream) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut total: u64 = 0;
    loop {
        let read = timeout(IDLE, stream.read(&mut buffer)).await??;
        if read == 0 {
            break;
        }
        let bytes = buffer.get(..read).unwrap_or_default();
        timeout(IDLE, stream.write_all(bytes)).await??;
        total = total.saturating_add(read as u64);
    }
    stream.close_write().await?;
    Ok(total)
}
