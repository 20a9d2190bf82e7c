use std::{
    io,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use peerage_core::Multiaddr;
use peerage_transport::dns;
use tokio::{sync::Mutex, task::spawn_blocking, time::Instant};

/// How long the interfaces of the machine are taken to be the same for a dial: a stranger who names many addresses shall
/// not make this node list them as often.
const FRESH: Duration = Duration::from_secs(10);

/// Lists the addresses of the machine's interfaces. It may wait for the system.
pub(crate) type List = Arc<dyn Fn() -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// The addresses of this machine as of lately, for those who must not wait for the system while they decide.
pub(crate) struct Interfaces {
    list: List,
    known: RwLock<Vec<IpAddr>>,
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    at: Option<Instant>,
    failed: bool,
}

impl Interfaces {
    pub(crate) fn new(list: List) -> Self {
        Self { list, known: RwLock::default(), listed: Mutex::default() }
    }

    /// Those of this machine.
    pub(crate) fn system() -> List {
        Arc::new(|| Ok(if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect()))
    }

    /// Lists them anew, if the list is old and matters for one of these addresses: private networks, and names, which may
    /// stand for one.
    pub(crate) async fn refresh_for(&self, addresses: &[Multiaddr]) {
        if !addresses.iter().any(|address| address.is_private() || dns::is_name(address)) {
            return;
        }
        // Whoever comes meanwhile waits for the same list.
        let mut listed = self.listed.lock().await;
        if listed.at.is_none_or(|at| at.elapsed() >= FRESH) {
            self.read(&mut listed).await;
        }
    }

    /// Lists them anew.
    pub(crate) async fn refresh(&self) {
        self.read(&mut *self.listed.lock().await).await;
    }

    /// On a thread that may wait. What cannot be listed is taken to be as it was.
    async fn read(&self, listed: &mut Listed) {
        let list = self.list.clone();
        let found = spawn_blocking(move || list()).await;
        listed.at = Some(Instant::now());
        match found.map_err(io::Error::other).flatten() {
            Ok(found) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = found;
                listed.failed = false;
            }
            // Said once: the next one will be the same.
            Err(_) if listed.failed => {}
            Err(error) => {
                tracing::warn!(%error, "the interfaces of this machine cannot be listed");
                listed.failed = true;
            }
        }
    }

    pub(crate) fn known(&self) -> Vec<IpAddr> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
