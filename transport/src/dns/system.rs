use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use hickory_resolver::{
    Resolver as Hickory, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, RecordType},
};
use tokio::{
    runtime::{Handle, Id},
    sync::Mutex,
    task::spawn_blocking,
    time::Instant,
};

use super::{DnsError, LOOKUP_TIMEOUT, MAX_ANSWERS, Resolver};

/// Asks the name servers of this machine's configuration (`/etc/resolv.conf`, or the registry), after its file of
/// hosts. `localhost` is known without either.
///
/// The configuration is read when the first name is asked for, and again after no server could be reached or answered
/// in time, 10 s after the last time at the soonest: the machine may be in another network by then. Without a configuration, [`DnsError::NoConfiguration`] is
/// the answer to whatever the file of hosts does not know.
#[derive(Clone, Debug, Default)]
pub struct System {
    servers: Option<Arc<[SocketAddr]>>,
    made: Arc<Mutex<Option<Made>>>,
}

/// It has sockets and tasks on one runtime, and is of no use on another.
struct Made {
    runtime: Id,
    at: Instant,
    asker: Asker,
}

#[derive(Clone)]
struct Asker {
    resolver: TokioResolver,
    /// Why nobody but the file of hosts is asked.
    unconfigured: Option<String>,
}

impl System {
    /// Nothing is read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks these name servers, by UDP and where that is not enough by TCP, instead of the configured ones.
    pub fn with_servers(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self { servers: Some(servers.into_iter().collect()), made: Arc::default() }
    }

    fn ask<T: Send + 'static>(
        &self,
        name: &str,
        kind: RecordType,
        read: fn(&RData) -> Option<T>,
    ) -> BoxFuture<'static, Result<Vec<T>, DnsError>> {
        let (this, text) = (self.clone(), name.to_owned());
        async move {
            // Names in other scripts are asked for as `xn--...`.
            let mut name = Name::from_utf8(&text).map_err(|_| DnsError::BadName(text.clone()))?;
            // Else every search domain of this machine would make one more question of it, which its owner reads. A name of
            // one label is what search domains are for.
            if name.num_labels() > 1 {
                name.set_fqdn(true);
            }
            let asker = this.asker().await?;
            match asker.resolver.lookup(name, kind).await {
                Ok(found) => {
                    let data = found.answers().iter().map(|record| &record.data);
                    // One more than counts, so that whoever asked sees that there are more.
                    Ok(data.filter_map(read).take(MAX_ANSWERS.saturating_add(1)).collect())
                }
                Err(error) if error.is_no_records_found() => Err(DnsError::NotFound(text)),
                Err(error) => {
                    // A server that answers, if only that it cannot, is there; whoever has a name shall not be able to
                    // throw away what is known of all others.
                    if matches!(error, NetError::Timeout | NetError::NoConnections | NetError::Io(_)) {
                        this.forget().await;
                    }
                    Err(match (asker.unconfigured, error) {
                        (Some(why), _) => DnsError::NoConfiguration(why),
                        (None, NetError::Timeout) => DnsError::Timeout,
                        (None, error) => DnsError::Failed(error.to_string()),
                    })
                }
            }
        }
        .boxed()
    }

    async fn asker(&self) -> Result<Asker, DnsError> {
        let runtime = Handle::current().id();
        // Whoever comes while it is being made waits for the same one.
        let mut made = self.made.lock().await;
        if let Some(there) = made.as_ref().filter(|there| there.runtime == runtime) {
            return Ok(there.asker.clone());
        }
        let servers = self.servers.clone();
        // It reads files.
        let asker = spawn_blocking(move || Self::make(servers.as_deref())).await;
        let asker = asker.map_err(|error| DnsError::Failed(error.to_string()))?;
        let asker = asker.map_err(|error| DnsError::Failed(error.to_string()))?;
        *made = Some(Made { runtime, at: Instant::now(), asker: asker.clone() });
        Ok(asker)
    }

    fn make(servers: Option<&[SocketAddr]>) -> Result<Asker, NetError> {
        let provider = TokioRuntimeProvider::default();
        let (mut builder, unconfigured) = match servers {
            Some(servers) => (Hickory::builder_with_config(config(servers), provider), None),
            None => match TokioResolver::builder_tokio() {
                Ok(builder) => (builder, None),
                Err(error) => (Hickory::builder_with_config(config(&[]), provider), Some(error.to_string())),
            },
        };
        bound(builder.options_mut());
        Ok(Asker { resolver: builder.build()?, unconfigured })
    }

    async fn forget(&self) {
        let mut made = self.made.lock().await;
        if made.as_ref().is_some_and(|made| made.at.elapsed() >= READ_AGAIN) {
            *made = None;
        }
    }
}

fn config(servers: &[SocketAddr]) -> ResolverConfig {
    let server = |at: &SocketAddr| {
        let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
        connections.iter_mut().for_each(|connection| connection.port = at.port());
        NameServerConfig::new(at.ip(), true, connections)
    };
    ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(server).collect())
}

/// What is asked for costs what it may cost, whatever the machine's configuration says.
fn bound(options: &mut ResolverOpts) {
    options.cache_size = CACHE_SIZE;
    // Within the time of a question there is room for a second attempt; hickory counts those after the first.
    options.timeout = options.timeout.min(LOOKUP_TIMEOUT.div_f64(2.5));
    options.attempts = options.attempts.min(1);
}

/// The least time between two readings of the configuration.
const READ_AGAIN: Duration = Duration::from_secs(10);
/// Responses that are remembered, each for as long as it says.
const CACHE_SIZE: u64 = 256;

impl Resolver for System {
    fn ip4(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv4Addr>, DnsError>> {
        self.ask(name, RecordType::A, |data| match data {
            RData::A(ip) => Some(ip.0),
            _ => None,
        })
    }

    fn ip6(&self, name: &str) -> BoxFuture<'static, Result<Vec<Ipv6Addr>, DnsError>> {
        self.ask(name, RecordType::AAAA, |data| match data {
            RData::AAAA(ip) => Some(ip.0),
            _ => None,
        })
    }

    fn texts(&self, name: &str) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DnsError>> {
        self.ask(name, RecordType::TXT, |data| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        })
    }
}

impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}
