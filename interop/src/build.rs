//! Builds the foreign peers, which may take minutes, and shows that it goes on.

use std::{
    collections::VecDeque,
    io::{IsTerminal as _, Write as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::peers::Peer;

/// How long one build may take.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// How often a terminal, and how often a log, is told that a build goes on.
const TICK: Duration = Duration::from_secs(1);
const LOG_TICK: Duration = Duration::from_secs(20);
/// What is quoted of a build that failed.
const QUOTED: usize = 25;

/// How long it took to build a peer, or to see that there was nothing to do.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Built {
    pub(crate) peer: &'static str,
    pub(crate) seconds: f64,
}

/// Builds the peers that are not up to date, one after another.
pub(crate) async fn all(chosen: &[&Peer], peers: &Path) -> Result<Vec<Built>, String> {
    // All of it at once, before minutes go by.
    let missing: Vec<String> = chosen.iter().filter_map(|peer| peer.missing()).collect();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    let mut built: Vec<(&Peer, Built)> = Vec::new();
    for peer in chosen {
        if !built.iter().any(|(other, _)| other.same_program(peer)) {
            let took = build(peer, peers).await?;
            built.push((peer, Built { peer: peer.name, seconds: took.as_secs_f64() }));
        }
    }
    Ok(built.into_iter().map(|(_, built)| built).collect())
}

async fn build(peer: &Peer, peers: &Path) -> Result<Duration, String> {
    run(peer.name, &peer.dir(peers).join("build"), peer.install()).await
}

/// Runs a build script of this name, which needs something to be installed; gives how long it took.
pub(crate) async fn run(name: &'static str, script: &Path, install: &str) -> Result<Duration, String> {
    let started = Instant::now();
    let mut command = Command::new(script);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", script.display()))?;
    let (lines, mut said) = mpsc::channel(64);
    if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
        tokio::spawn(read(out, lines.clone()));
        tokio::spawn(read(err, lines));
    }

    let mut shown = Shown::new(name);
    let mut last = VecDeque::new();
    let mut ticks = interval(if shown.terminal { TICK } else { LOG_TICK });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut talking = true;
    let status = loop {
        tokio::select! {
            line = said.recv(), if talking => match line {
                Some(line) => {
                    last.push_back(line);
                    if last.len() > QUOTED {
                        last.pop_front();
                    }
                }
                None => talking = false,
            },
            _ = ticks.tick() => shown.progress(started.elapsed(), last.back().map_or("", String::as_str)),
            status = child.wait() => break status.map_err(|error| error.to_string())?,
            () = sleep_until(started + LIMIT) => {
                let _ = child.kill().await;
                shown.clear();
                return Err(format!("building the {name} peer took more than {} s", LIMIT.as_secs()));
            }
        }
    };
    // What was said last may still be on its way; a grandchild may hold the pipe for ever.
    while let Ok(Some(line)) = timeout(Duration::from_millis(200), said.recv()).await {
        last.push_back(line);
    }
    shown.clear();
    if !status.success() {
        let skip = last.len().saturating_sub(QUOTED);
        let quoted: Vec<String> = last.into_iter().skip(skip).collect();
        return Err(format!(
            "building the {name} peer failed ({status}). It needs {install}. It said last:\n  {}",
            quoted.join("\n  ")
        ));
    }
    let took = started.elapsed();
    if took > Duration::from_secs(3) {
        eprintln!("built the {name} peer in {:.0} s", took.as_secs_f64());
    }
    Ok(took)
}

async fn read(from: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut from = BufReader::new(from).lines();
    while let Ok(Some(line)) = from.next_line().await {
        if !line.trim().is_empty() && lines.send(line).await.is_err() {
            return;
        }
    }
}

/// The line on the terminal that moves, or lines in a log from time to time.
struct Shown {
    peer: &'static str,
    terminal: bool,
}

impl Shown {
    fn new(peer: &'static str) -> Self {
        let shown = Self { peer, terminal: std::io::stderr().is_terminal() };
        if shown.terminal {
            shown.progress(Duration::ZERO, "");
        }
        shown
    }

    fn progress(&self, since: Duration, line: &str) {
        let text = progress(self.peer, since, line);
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    fn clear(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn progress(peer: &str, since: Duration, line: &str) -> String {
    let tidy: String = line.trim().chars().filter(|c| !c.is_control()).take(70).collect();
    format!("building the {peer} peer, {} s  {tidy}", since.as_secs()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_short_line() {
        let text = progress("go", Duration::from_secs(61), &format!("  a\x1b[31m\r{}", "b".repeat(200)));
        assert!(text.starts_with("building the go peer, 61 s  a[31mbbb"), "{text}");
        assert!(text.len() < 110);
        assert_eq!(progress("js", Duration::ZERO, ""), "building the js peer, 0 s");
    }
}
