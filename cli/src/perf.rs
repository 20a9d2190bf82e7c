//! `peerage perf`

use std::{sync::Arc, time::Duration};

use peerage::{PeerId, perf};
use serde::Serialize;
use tokio::time::{Instant, interval_at};

use crate::{
    Context, args, dial,
    failure::Failure,
    node::{self, Unless},
    report::millis,
};

/// How often it is said how far it has come.
const EVERY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Connected { peer: String, security: String, muxer: String },
    Progress { seconds: f64, uploaded: u64, downloaded: u64, upload_gbit_s: f64, download_gbit_s: f64 },
    Measured { peer: String, upload: Way, download: Way },
}

#[derive(Serialize)]
struct Way {
    bytes: u64,
    ms: f64,
    gbit_s: f64,
}

impl Way {
    fn new(bytes: u64, time: Duration) -> Self {
        Self { bytes, ms: millis(time), gbit_s: gigabits(bytes, time) }
    }

    fn text(&self) -> String {
        format!("{} in {:.1} ms, {:.3} Gbit/s", args::Bytes(self.bytes), self.ms, self.gbit_s)
    }
}

pub(crate) async fn run(context: &Context, args: &args::Perf) -> Result<(), Failure> {
    let (builder, perf) = node::builder(&context.common, Unless::Nowhere)?.with(perf::Perf::default());
    let node = node::start(context, builder).await?;
    let connected = dial::connect(context, &node, &args.dial.address).await?;
    let info = node.connections().into_iter().find(|info| info.id == connected.connection);
    if let Some(info) = info {
        let event = Event::Connected {
            peer: info.peer.to_string(),
            security: info.security.to_string(),
            muxer: info.muxer.to_string(),
        };
        let bold = context.out.paint().bold(info.peer);
        context
            .out
            .say(&event, format_args!("Connected with {bold} over {} and {}", info.security, info.muxer))?;
    }
    let measured = measure(context, args, &perf, connected.peer).await;
    node::stop(&node).await;
    let measured = measured?;
    let upload = Way::new(measured.uploaded, measured.upload_time);
    let download = Way::new(measured.downloaded, measured.download_time);
    let text = format!("upload    {}\ndownload  {}", upload.text(), download.text());
    context.out.say(&Event::Measured { peer: connected.peer.to_string(), upload, download }, text)
}

async fn measure(
    context: &Context,
    args: &args::Perf,
    perf: &perf::Handle,
    peer: PeerId,
) -> Result<perf::Measured, Failure> {
    let mut request = perf::Request::new(args.upload.0, args.download.0);
    request.timeout = args.timeout;
    let progress = Arc::clone(&request.progress);
    let measuring = context.interrupt.or(perf.measure(peer, request));
    tokio::select! {
        measured = measuring => measured?.map_err(|error| failure(&error)),
        said = say_progress(context, &progress) => match said {
            Err(failure) => Err(failure),
            Ok(never) => match never {},
        },
    }
}

async fn say_progress(
    context: &Context,
    progress: &perf::Progress,
) -> Result<std::convert::Infallible, Failure> {
    let start = Instant::now();
    let mut ticks = interval_at(start + EVERY, EVERY);
    let (mut up, mut down) = (0, 0);
    loop {
        ticks.tick().await;
        let (uploaded, downloaded) = (progress.uploaded(), progress.downloaded());
        let upload_gbit_s = gigabits(uploaded.saturating_sub(up), EVERY);
        let download_gbit_s = gigabits(downloaded.saturating_sub(down), EVERY);
        (up, down) = (uploaded, downloaded);
        let seconds = start.elapsed().as_secs_f64().round();
        if context.out.is_json() {
            let event = Event::Progress { seconds, uploaded, downloaded, upload_gbit_s, download_gbit_s };
            context.out.say(&event, "")?;
        } else {
            context.out.note(format_args!(
                "{seconds:>4} s  up {} ({upload_gbit_s:.3} Gbit/s)  down {} ({download_gbit_s:.3} Gbit/s)",
                args::Bytes(uploaded),
                args::Bytes(downloaded),
            ));
        }
    }
}

fn failure(error: &perf::PerfError) -> Failure {
    let failure = Failure::new(format!("cannot measure: {error}"));
    match error {
        perf::PerfError::Open(_) => failure.hint(format!("the peer has to serve {}", perf::PROTOCOL)),
        perf::PerfError::Timeout(_) => {
            failure.hint("ask for fewer bytes, or give it more time with --timeout")
        }
        _ => failure,
    }
}

/// Billions of bits a second, to the millionth.
fn gigabits(bytes: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds == 0.0 { 0.0 } else { (bytes as f64 * 8.0 / seconds / 1e3).round() / 1e6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_in_bits() {
        assert_eq!(gigabits(125_000_000, Duration::from_secs(1)), 1.0);
        assert_eq!(gigabits(1, Duration::ZERO), 0.0);
    }
}
