use std::{
    net::IpAddr,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use peerage_core::Multiaddr;
use peerage_transport::dns;
use tokio::{sync::Mutex, task::spawn_blocking, time::Instant};

/// How long the interfaces of the machine are taken to be the same: a stranger who names many addresses shall not make
/// this node list them as often.
const FRESH: Duration = Duration::from_secs(10);

/// The addresses of this machine as of lately, for the dialer, which must not wait for the system while it decides.
#[derive(Default)]
pub(crate) struct Interfaces {
    known: RwLock<Vec<IpAddr>>,
    listed: Mutex<Option<Instant>>,
}

impl Interfaces {
    /// Lists them anew, on a thread that may wait, if the list is old and matters for one of these addresses: private
    /// networks, and names, which may stand for one.
    pub(crate) async fn refresh_for(&self, addresses: &[Multiaddr]) {
        if !addresses.iter().any(|address| address.is_private() || dns::is_name(address)) {
            return;
        }
        // Whoever comes meanwhile waits for the same list.
        let mut listed = self.listed.lock().await;
        if listed.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let found = spawn_blocking(|| if_addrs::get_if_addrs().unwrap_or_default()).await.unwrap_or_default();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            found.iter().map(if_addrs::Interface::ip).collect();
        *listed = Some(Instant::now());
    }

    pub(super) fn known(&self) -> Vec<IpAddr> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
