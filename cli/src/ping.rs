//! `peerage ping`

use std::{collections::VecDeque, time::Duration};

use peerage::{PeerId, ping};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    Context, args, dial,
    failure::Failure,
    node::{self, Unless},
    report::millis,
    text::clean,
};

/// Round trips that the median is taken of: the last ones.
const MEDIAN_OF: usize = 10_000;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Connected {
        peer: String,
        took_ms: f64,
    },
    Pong {
        peer: String,
        seq: u64,
        rtt_ms: f64,
    },
    Lost {
        peer: String,
        seq: u64,
        why: String,
    },
    Summary {
        peer: String,
        sent: u64,
        answered: u64,
        loss_percent: f64,
        #[serde(flatten)]
        times: Option<Times>,
    },
}

#[derive(Serialize)]
struct Times {
    min_ms: f64,
    avg_ms: f64,
    p50_ms: f64,
    max_ms: f64,
}

pub(crate) async fn run(context: &Context, args: &args::Ping) -> Result<(), Failure> {
    let (builder, ping) =
        node::builder(&context.common, Unless::Nowhere)?.workers(1).with(ping::Ping::default());
    let node = node::start(context, builder).await?;
    let started = Instant::now();
    let peer = dial::connect(context, &node, &args.dial.address).await?.peer;
    let took_ms = millis(started.elapsed());
    let connected = Event::Connected { peer: peer.to_string(), took_ms };
    let bold = context.out.paint().bold(peer);
    context.out.say(&connected, format_args!("Connected with {bold} in {took_ms:.3} ms"))?;
    let mut tally = Tally::default();
    let pinged = all(context, args, &ping, peer, &mut tally).await;
    node::stop(&node).await;
    match pinged {
        // As ping(8): who has had enough sees what there is.
        Ok(()) | Err(Failure::Interrupted) => {}
        Err(failure) => return Err(failure),
    }
    summary(context, peer, &tally)
}

async fn all(
    context: &Context,
    args: &args::Ping,
    ping: &ping::Handle,
    peer: PeerId,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (mut seq, mut next): (u64, _) = (0, Instant::now());
    while args.count == 0 || seq < args.count {
        context.interrupt.or(sleep_until(next)).await?;
        next = Instant::now() + args.interval;
        seq = seq.saturating_add(1);
        let result = context.interrupt.or(ping.rtt(peer)).await?;
        tally.sent = tally.sent.saturating_add(1);
        match result {
            Ok(rtt) => {
                tally.answered(rtt);
                let rtt_ms = millis(rtt);
                let event = Event::Pong { peer: peer.to_string(), seq, rtt_ms };
                context
                    .out
                    .say(&event, format_args!("pong from {} seq={seq} time={rtt_ms:.3} ms", peer.short()))?;
            }
            Err(error) => {
                let why = clean(&error.to_string());
                let text = format!("{} seq={seq}: {why}", context.out.paint().red("no pong"));
                context.out.say(&Event::Lost { peer: peer.to_string(), seq, why }, text)?;
            }
        }
    }
    Ok(())
}

fn summary(context: &Context, peer: PeerId, tally: &Tally) -> Result<(), Failure> {
    let Tally { sent, answered, .. } = *tally;
    let loss = tally.loss_percent();
    let times = tally.times();
    let numbers = times.as_ref().map(|times| {
        let Times { min_ms, avg_ms, p50_ms, max_ms } = times;
        format!("\nrtt min/avg/p50/max = {min_ms:.3}/{avg_ms:.3}/{p50_ms:.3}/{max_ms:.3} ms")
    });
    let text =
        format!("--- {sent} sent, {answered} answered, {loss:.0}% loss{}", numbers.unwrap_or_default());
    let event = Event::Summary { peer: peer.to_string(), sent, answered, loss_percent: loss, times };
    context.out.say(&event, text)?;
    if sent > 0 && answered == sent { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// How the pings went so far.
#[derive(Default)]
struct Tally {
    sent: u64,
    answered: u64,
    total: Duration,
    min: Option<Duration>,
    max: Duration,
    last: VecDeque<Duration>,
}

impl Tally {
    fn answered(&mut self, rtt: Duration) {
        self.answered = self.answered.saturating_add(1);
        self.total = self.total.saturating_add(rtt);
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        self.max = self.max.max(rtt);
        if self.last.len() >= MEDIAN_OF {
            self.last.pop_front();
        }
        self.last.push_back(rtt);
    }

    fn loss_percent(&self) -> f64 {
        let lost = self.sent.saturating_sub(self.answered);
        100.0 * lost as f64 / self.sent.max(1) as f64
    }

    /// `None` if nothing was answered.
    fn times(&self) -> Option<Times> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len().saturating_sub(1) / 2)?;
        Some(Times {
            min_ms: millis(self.min?),
            avg_ms: millis(self.total.div_f64(self.answered as f64)),
            p50_ms: millis(*median),
            max_ms: millis(self.max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_few_pings() {
        let mut tally = Tally { sent: 4, ..Tally::default() };
        assert!(tally.times().is_none());
        for rtt in [4, 1, 10] {
            tally.answered(Duration::from_millis(rtt));
        }
        let times = tally.times().unwrap();
        assert_eq!((times.min_ms, times.avg_ms, times.p50_ms, times.max_ms), (1.0, 5.0, 4.0, 10.0));
        assert_eq!(tally.loss_percent(), 25.0);
    }

    #[test]
    fn what_is_kept_of_many_is_bounded() {
        let mut tally = Tally::default();
        (0..MEDIAN_OF + 5).for_each(|_| tally.answered(Duration::from_millis(1)));
        assert_eq!(tally.last.len(), MEDIAN_OF);
    }
}
