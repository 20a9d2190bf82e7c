//! A program that runs beside us: the lines that it says, what it writes on stderr, and its end.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{ChildStdin, Command},
    sync::mpsc,
    time::timeout,
};

/// How many lines of its stderr are kept.
const STDERR_LINES: usize = 12;
/// How long it may take to end once its stdin was closed.
const END: Duration = Duration::from_secs(10);

/// A running program. Dropping it kills it.
pub(crate) struct Child {
    child: tokio::process::Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    stderr: Arc<Mutex<VecDeque<String>>>,
}

impl Child {
    /// Runs a program.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        program: &Path,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        let (sender, lines) = mpsc::channel(256);
        let stderr = Arc::<Mutex<VecDeque<String>>>::default();
        if let Some(out) = child.stdout.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(out).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if sender.send(line).await.is_err() {
                        return;
                    }
                }
            });
        }
        if let Some(err) = child.stderr.take() {
            let kept = Arc::clone(&stderr);
            tokio::spawn(async move {
                let mut lines = BufReader::new(err).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(line.chars().filter(|c| !c.is_control()).take(300).collect());
                    if kept.len() > STDERR_LINES {
                        kept.pop_front();
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines, stderr })
    }

    /// The number under which the system knows it, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it says next; nothing if it has ended.
    pub(crate) async fn line(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Writes a line on its stdin.
    pub(crate) async fn say(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("its stdin is closed")?;
        let said = stdin.write_all(format!("{line}\n").as_bytes()).await;
        said.map_err(|error| format!("it takes no commands: {error}"))
    }

    /// The end of what it wrote on stderr.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Closes its stdin, on which it shall end, and waits for that; kills it if it lingers.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        drop(self.stdin.take());
        match timeout(END, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("it ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let _ = timeout(END, self.child.kill()).await;
                Err(format!("it did not end within {} s, and was killed", END.as_secs()))
            }
        }
    }
}
