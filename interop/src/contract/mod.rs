//! The contracts of the official suites: one program, both roles, told by its environment what to do.
//!
//! The listener publishes its address in a Redis server; the dialer reads it there, dials, measures, says what it found
//! on stdout, and exits with 0. Nothing else is written on stdout. A listener never ends first: when one container
//! ends, the suite ends the other.

mod node;
mod perf;
mod redis;
mod settings;
mod stats;
mod transport;

use std::time::Duration;

use peerage::{Multiaddr, Node};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use redis::{Redis, Reply};
use settings::Settings;
pub(crate) use settings::Suite;

/// How often a measurement's dialer looks for the listener's address.
const POLL: Duration = Duration::from_millis(100);

/// Whether the environment is that of a contract.
pub(crate) fn is_asked_for() -> bool {
    settings::are_there(var)
}

fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Does what the environment asks for. What is returned is for stdout.
pub(crate) async fn run(suite: Option<Suite>) -> Result<String, String> {
    let settings = Settings::read(var, suite)?;
    if settings.debug {
        let filter = tracing_subscriber::EnvFilter::new("info,peerage=debug");
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
        eprintln!("{settings:?}");
    }
    let deadline = Instant::now() + settings.timeout;
    let done = async {
        let mut redis = Redis::connect(&settings.redis, deadline).await?;
        match (settings.is_dialer, settings.suite) {
            (true, Suite::Transport) => transport::dial(&settings, &mut redis).await,
            (true, Suite::Perf) => perf::dial(&settings, &mut redis).await,
            (false, Suite::Transport) => {
                listen(&settings, transport::start(&settings).await?, &mut redis, deadline).await
            }
            (false, Suite::Perf) => {
                listen(&settings, perf::start(&settings).await?, &mut redis, deadline).await
            }
        }
    };
    let done = timeout_at(deadline, done).await;
    done.unwrap_or_else(|_| Err(format!("not done within {} s", settings.timeout.as_secs())))
}

/// Publishes where our node is, and stays until the suite ends it.
async fn listen(
    settings: &Settings,
    node: Node,
    redis: &mut Redis,
    deadline: Instant,
) -> Result<String, String> {
    let address = node::published(&node, settings)?;
    eprintln!("listening on {address}");
    publish(redis, settings, &address).await?;
    sleep_until(deadline).await;
    node.shutdown().await;
    Err(format!("nobody has ended us within {} s", settings.timeout.as_secs()))
}

/// Of the transport contract it is the one item of a list, of the perf contract a string. Whatever an earlier test has
/// left there would be of the wrong type, or the wrong address.
async fn publish(redis: &mut Redis, settings: &Settings, address: &Multiaddr) -> Result<(), String> {
    let (key, address) = (settings.key.as_str(), address.to_string());
    match settings.suite {
        Suite::Transport => {
            redis.command(&["DEL", key]).await?;
            redis.command(&["RPUSH", key, &address]).await?;
        }
        Suite::Perf => {
            redis.command(&["SET", key, &address]).await?;
        }
    }
    Ok(())
}

/// Waits for the listener's address.
async fn published(redis: &mut Redis, settings: &Settings) -> Result<Multiaddr, String> {
    let key = settings.key.as_str();
    let address = match settings.suite {
        // Our own deadline ends the wait.
        Suite::Transport => match redis.command(&["BLPOP", key, "0"]).await? {
            Reply::Array(items) => match items.as_slice() {
                [_, Reply::Text(address)] => address.clone(),
                other => return Err(format!("redis BLPOP: it answered {other:?}")),
            },
            other => return Err(format!("redis BLPOP: it answered {other:?}")),
        },
        Suite::Perf => loop {
            match redis.command(&["GET", key]).await? {
                Reply::Text(address) => break address,
                Reply::Nothing => sleep(POLL).await,
                other => return Err(format!("redis GET: it answered {other:?}")),
            }
        },
    };
    eprintln!("the listener is at {address}");
    address.parse().map_err(|error| format!("{address}: {error}"))
}
