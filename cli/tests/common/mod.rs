//! Runs the command as a real process. Nothing here sleeps: whoever waits, waits for a line or an end, with a deadline.
#![allow(dead_code, unreachable_pub, reason = "every test file takes what it needs")]
#![allow(clippy::disallowed_methods, reason = "processes live by the clock on the wall")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

/// For anything that a test waits for. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// A running `peerage`, killed when the test is over.
pub struct Peerage {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
    /// All that was read so far, for the message when a test fails.
    pub seen: Vec<String>,
}

/// How a process ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

pub fn command(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerage"));
    command.args(args.split_whitespace());
    // As a user has it, and not as cargo test does.
    for name in ["PEERAGE_LOG", "CARGO_MANIFEST_DIR", "LIBP2P_FORCE_PNET"] {
        command.env_remove(name);
    }
    command
}

impl Peerage {
    pub fn start(args: &str) -> Self {
        Self::spawn(&mut command(args))
    }

    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command is built");
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, stderr, seen: Vec::new() }
    }

    /// The next line of standard output that `fits`.
    pub fn line(&mut self, fits: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.stdout.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(why) => self.give_up(&format!("no such line on standard output: {why}")),
            }
        }
    }

    /// The next line of standard error that has `text` in it.
    pub fn note(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.stderr.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => self.seen.push(line),
                Err(why) => self.give_up(&format!("no such line on standard error: {why}")),
            }
        }
    }

    /// The next event of that name, from a process with `--json`.
    pub fn event(&mut self, name: &str) -> Value {
        self.event_with(name, |_| true)
    }

    pub fn event_with(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).expect("one JSON object a line");
        parse(&self.line(|line| {
            let event = parse(line);
            event["event"] == name && fits(&event)
        }))
    }

    /// Waits until it listens; its first address.
    pub fn address(&mut self) -> String {
        let listening = self.event("listening");
        listening["addrs"][0].as_str().expect("an address").to_owned()
    }

    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not closed");
        stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n")).expect("it reads");
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// As Ctrl-C does.
    #[cfg(unix)]
    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    /// As the window of a terminal does that is closed.
    #[cfg(unix)]
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    #[cfg(unix)]
    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill is there").success());
    }

    /// Nobody reads its standard output any more.
    pub fn stop_reading(mut self) -> Self {
        self.stdout = mpsc::channel().1;
        self
    }

    /// Waits for its end. Lines that were not read yet are in what is returned.
    pub fn ended(mut self) -> Ended {
        let stdout = self.rest(true);
        let stderr = self.rest(false);
        // Both pipes are closed: the process is gone, or about to be.
        let status = self.child.wait().expect("it is ours");
        Ended { status, stdout, stderr }
    }

    fn rest(&mut self, stdout: bool) -> String {
        let until = Instant::now() + DEADLINE;
        let mut rest = String::new();
        loop {
            let lines = if stdout { &self.stdout } else { &self.stderr };
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    rest += &(line + "\n");
                }
                Err(RecvTimeoutError::Disconnected) => return rest,
                Err(RecvTimeoutError::Timeout) => self.give_up("it does not end"),
            }
        }
    }

    fn give_up(&mut self, why: &str) -> ! {
        let errors: Vec<String> = self.stderr.try_iter().collect();
        panic!("{why}\nread so far:\n{}\nstandard error:\n{}", self.seen.join("\n"), errors.join("\n"));
    }
}

impl Drop for Peerage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    pub fn events(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.status.code(), Some(code), "\nstandard output:\n{stdout}\nstandard error:\n{stderr}");
        self
    }
}

/// Runs it to its end, with nothing on standard input.
pub fn run(args: &str) -> Ended {
    let mut running = Peerage::start(args);
    running.close_stdin();
    running.ended()
}

/// A directory of this test's own, empty.
pub fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the target directory is ours");
    path
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while pipe.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            bytes.clear();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
