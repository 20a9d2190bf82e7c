//! How large the program `echo` is, and how long a clean build of it takes, on this library and on rust-libp2p.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{process::Command, time::timeout};

/// How long one build may take.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// A build from nothing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Build {
    pub(crate) label: &'static str,
    /// The program without symbols.
    pub(crate) mib: f64,
    pub(crate) seconds: f64,
    /// How many crates were compiled.
    pub(crate) crates: usize,
}

/// Builds both, one after another, with what both have: TCP, names, noise and TLS, yamux, identify and ping.
pub(crate) async fn measure(dir: &Path) -> Result<Vec<Build>, String> {
    let root = dir.join("../..");
    let ours = build(
        "peerage",
        &root,
        &["-p", "peerage", "--no-default-features", "--example", "echo"],
        "release/examples/echo",
    )
    .await?;
    let theirs = build("rust-libp2p", &dir.join("echo-rust-libp2p"), &[], "release/echo").await?;
    Ok(vec![ours, theirs])
}

async fn build(label: &'static str, dir: &Path, what: &[&str], program: &str) -> Result<Build, String> {
    let target = dir.join("target/echo-from-nothing");
    remove(&target).map_err(|error| error.to_string())?;
    eprintln!("building echo on {label} from nothing");
    let began = Instant::now();
    let mut command = Command::new("cargo");
    command.args(["build", "--release", "--locked", "--color", "never"]).args(what).current_dir(dir);
    // The same profile for both, which is cargo's own: programs bring theirs, and have not that of this workspace.
    command.env("CARGO_TARGET_DIR", &target).env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    command.env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await;
    let output = output.map_err(|_| format!("building echo on {label} takes too long"))?;
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let last: Vec<&str> = said.lines().rev().take(10).collect();
        return Err(format!("building echo on {label} failed: {}", last.join(" / ")));
    }
    let size = fs::metadata(PathBuf::from(&target).join(program)).map_err(|error| error.to_string())?.len();
    remove(&target).map_err(|error| error.to_string())?;
    Ok(Build { label, mib: size as f64 / f64::from(1 << 20), seconds, crates: compiled(&said) })
}

fn compiled(said: &str) -> usize {
    said.lines().filter(|line| line.trim_start().starts_with("Compiling ")).count()
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_counted() {
        assert_eq!(compiled("   Compiling a v1.0.0\n   Compiling b v2.0.0\n    Finished `release`"), 2);
    }
}
