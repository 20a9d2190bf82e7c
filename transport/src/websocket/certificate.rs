//! The certificate that a server shows, read anew when its files change.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rustls::ServerConfig;
use tokio::{task::spawn_blocking, time::Instant};

use super::tls::{self, PemError};

/// How often the files are looked at, while connections come in.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// A chain of certificates and its key, from two files in PEM.
///
/// The files are looked at when a connection comes in, no more often than every [`RELOAD_INTERVAL`], and read again when
/// they have changed. If what is there cannot be used, the last certificate that could stays, and a warning is logged once
/// for each change: replace the certificate first or the key first, in between is no harm.
///
/// Cheap to clone; clones are one.
#[derive(Clone)]
pub struct Certificate(Arc<Shared>);

struct Shared {
    chain: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
}

struct State {
    config: Arc<ServerConfig>,
    /// What the files were when they were last read, whatever came of it.
    read: Stamps,
    next_look: Option<Instant>,
}

/// When two files were changed, and how long they are; `None` of one that is not there.
type Stamps = [Option<(SystemTime, u64)>; 2];

impl Certificate {
    /// Reads a chain of certificates, the server's own first, and its key (PKCS #8, PKCS #1 or SEC 1).
    ///
    /// # Errors
    /// If a file cannot be read, or the two cannot be used together.
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, PemError> {
        let (chain, key) = (chain.into(), key.into());
        let (read, config) = (stamps(&chain, &key), load(&chain, &key)?);
        let state = Mutex::new(State { config, read, next_look: None });
        Ok(Self(Arc::new(Shared { chain, key, state })))
    }

    /// What is to be shown now.
    pub(super) async fn current(&self) -> Arc<ServerConfig> {
        let now = Instant::now();
        {
            let mut state = self.state();
            if state.next_look.is_some_and(|at| now < at) {
                return state.config.clone();
            }
            // Those who come meanwhile take what there is.
            state.next_look = now.checked_add(RELOAD_INTERVAL);
        }
        let this = self.clone();
        // Files may be on a slow disk.
        let _ = spawn_blocking(move || this.look()).await;
        self.state().config.clone()
    }

    /// Reads the files if they have changed.
    fn look(&self) {
        let Shared { chain, key, .. } = &*self.0;
        // Before they are read: a change in between is seen the next time.
        let found = stamps(chain, key);
        if found == self.state().read {
            return;
        }
        let loaded = load(chain, key);
        let mut state = self.state();
        state.read = found;
        match loaded {
            Ok(config) => {
                tracing::info!(chain = %chain.display(), "a new certificate");
                state.config = config;
            }
            Err(error) => tracing::warn!(%error, "the certificate has changed; the old one is kept"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, PemError> {
    tls::server_config((&tls::read(chain)?, chain), (&tls::read(key)?, key))
}

fn stamps(chain: &Path, key: &Path) -> Stamps {
    [chain, key].map(|file| {
        let found = fs::metadata(file).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.0.chain).field("key", &self.0.key).finish()
    }
}
