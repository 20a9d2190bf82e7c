//! Simulated gossipsub networks, from the command line.
//!
//! ```text
//! sim seeds [--count 1000] [--first 0] [--threads 2]       thirty nodes, once for each seed
//! sim large [--attack none|eclipse|censor|cold-boot|covert-flash] [--sybils 1000] [--seconds 60]
//!           [--nodes 1000] [--publishers 100] [--rate 120] [--size 2048] [--seed 1]
//! ```
//!
//! Ends with an error when something was not as it has to be; for `large`: when a message did not come to everybody once,
//! an honest node was graylisted, or, without an attack, a delivery took over 400 ms or over 6.5 copies.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use peerage_pubsub::sim::scenario::{self, Attack, Large, Outcome};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let options = Options(args.get(1..).unwrap_or_default());
    let result = match args.first().map(String::as_str) {
        Some("seeds") => seeds(&options),
        Some("large") => large(&options),
        _ => Err("say `seeds` or `large`; see the beginning of this example's source".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `--name value`, in pairs.
struct Options<'a>(&'a [String]);

impl Options<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.chunks(2).find_map(|pair| match pair {
            [option, value] if option.strip_prefix("--") == Some(name) => Some(value.as_str()),
            _ => None,
        })
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("--{name} {text}: not a number"));
        self.text(name).map_or(Ok(default), parse)
    }
}

fn seeds(options: &Options<'_>) -> Result<(), String> {
    let (first, count) = (options.number("first", 0_u64)?, options.number("count", 1000_u64)?);
    let threads = options.number("threads", 2_u64)?;
    let (next, failures) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let (began, end) = (now(), first.saturating_add(count));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    // A panic is a failure of its seed, too.
                    let run = std::panic::catch_unwind(|| scenario::small(seed));
                    let failure = match run {
                        Ok(Ok(_)) => continue,
                        Ok(Err(broken)) => broken.to_string(),
                        Err(_) => format!("seed {seed}: a panic"),
                    };
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{count} seeds in {:.1?}, {} failed", began.elapsed(), failures.len());
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn large(options: &Options<'_>) -> Result<(), String> {
    let attack = match options.text("attack").unwrap_or("none") {
        "none" => Attack::None,
        "eclipse" => Attack::Eclipse,
        "censor" => Attack::Censor,
        "cold-boot" => Attack::ColdBoot,
        "covert-flash" => Attack::CovertFlash,
        other => return Err(format!("--attack {other}: there is none of this name")),
    };
    let default = Large::default();
    let large = Large {
        honest: options.number("nodes", default.honest)?,
        publishers: options.number("publishers", default.publishers)?,
        rate: options.number("rate", default.rate)?,
        size: options.number("size", default.size)?,
        publish: Duration::from_secs(options.number("seconds", default.publish.as_secs())?),
        sybils: if attack == Attack::None { 0 } else { options.number("sybils", 1000)? },
        attack,
        seed: options.number("seed", default.seed)?,
        ..default
    };
    println!("{large:?}");
    let began = now();
    let outcome = large.run();
    println!("{outcome}\ntook         {:.1?}", began.elapsed());
    judge(attack, &outcome)
}

fn judge(attack: Attack, outcome: &Outcome) -> Result<(), String> {
    let rules = [
        (outcome.summary.is_complete(), "a message did not come to everybody once"),
        (outcome.graylisted == 0, "an honest node was graylisted"),
        (attack != Attack::None || outcome.summary.max <= Duration::from_millis(400), "over 400 ms"),
        (attack != Attack::None || outcome.summary.copies_per_delivery() <= 6.5, "over 6.5 copies"),
    ];
    match rules.iter().find(|(kept, _)| !kept) {
        Some((_, broken)) => Err((*broken).into()),
        None => Ok(()),
    }
}

#[allow(clippy::disallowed_methods, reason = "how long a run takes is said in real time")]
fn now() -> Instant {
    Instant::now()
}
