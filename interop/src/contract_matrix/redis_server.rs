//! The Redis server in which the two sides of a test meet: one for all, on loopback, which keeps nothing.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

const PROGRAM: &str = "redis-server";
/// How long it may take to answer.
const START: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// Somebody else may take the port between our look and its start.
const TRIES: u32 = 3;

/// A running server. Dropping it kills it, and removes its directory.
pub(super) struct RedisServer {
    child: Child,
    dir: PathBuf,
    /// `host:port`.
    pub(super) address: String,
}

impl RedisServer {
    pub(super) async fn start() -> Result<Self, String> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match Self::try_start().await {
                Ok(server) => return Ok(server),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn try_start() -> Result<Self, String> {
        let port = free_port().await.map_err(|error| format!("no free port: {error}"))?;
        let dir = std::env::temp_dir().join(format!("interop-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut command = Command::new(PROGRAM);
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command
            .args(["--daemonize", "no", "--loglevel", "warning"])
            .arg("--dir")
            .arg(&dir)
            .kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("{PROGRAM}: {error}; install it (Debian: redis-server)"))?;
        let mut server = Self { child, dir, address: format!("127.0.0.1:{port}") };
        let deadline = Instant::now() + START;
        while TcpStream::connect(&server.address).await.is_err() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(format!("{PROGRAM} ended at once, with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("{PROGRAM} does not answer within {} s", START.as_secs()));
            }
            sleep(POLL).await;
        }
        Ok(server)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}
