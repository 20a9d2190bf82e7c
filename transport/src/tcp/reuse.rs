use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::unspecified;

/// The local addresses of listeners that allow dials from their ports. One entry per listener, in the order of
/// binding, so that the choice among them is the same every time.
#[derive(Clone, Debug, Default)]
pub(super) struct ReusePorts(Arc<Mutex<Vec<SocketAddr>>>);

impl ReusePorts {
    /// Allows dials from `local` until the lease is dropped.
    pub(super) fn lease(&self, local: SocketAddr) -> Lease {
        self.lock().push(local);
        Lease { ports: self.clone(), local }
    }

    /// What a dial to `remote` shall be bound to.
    ///
    /// The listener's port with the unspecified address: the routing table knows better than the listener's address
    /// which interface leads to `remote`. A listener on loopback lends its port to loopback dials only, and one on
    /// another address to none of those, because no NAT lies between.
    pub(super) fn source_for(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let suits = |local: &&SocketAddr| {
            local.is_ipv4() == remote.is_ipv4()
                && (local.ip().is_unspecified() || local.ip().is_loopback() == remote.ip().is_loopback())
        };
        let port = self.lock().iter().find(suits)?.port();
        Some(SocketAddr::new(unspecified(remote), port))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        // Every change is one push or one removal: a panic cannot leave half of it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Permission to dial from a listener's port.
pub(super) struct Lease {
    ports: ReusePorts,
    local: SocketAddr,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut ports = self.ports.lock();
        if let Some(at) = ports.iter().position(|local| *local == self.local) {
            ports.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn a_dial_gets_the_port_of_a_listener_of_its_own_kind() {
        let ports = ReusePorts::default();
        assert_eq!(ports.source_for(at("192.0.2.1:1")), None);

        let loopback = ports.lease(at("127.0.0.1:10"));
        let public = ports.lease(at("198.51.100.1:20"));
        let _six = ports.lease(at("[::]:30"));
        assert_eq!(ports.source_for(at("127.0.0.1:1")), Some(at("0.0.0.0:10")));
        assert_eq!(ports.source_for(at("192.0.2.1:1")), Some(at("0.0.0.0:20")));
        assert_eq!(ports.source_for(at("[::1]:1")), Some(at("[::]:30")));
        assert_eq!(ports.source_for(at("[2001:db8::1]:1")), Some(at("[::]:30")));

        drop(loopback);
        assert_eq!(ports.source_for(at("127.0.0.1:1")), None);
        drop(public);
        assert_eq!(ports.source_for(at("192.0.2.1:1")), None);
    }

    #[test]
    fn listeners_on_the_same_address_are_counted() {
        let ports = ReusePorts::default();
        let first = ports.lease(at("0.0.0.0:10"));
        let second = ports.lease(at("0.0.0.0:10"));
        drop(first);
        assert_eq!(ports.source_for(at("192.0.2.1:1")), Some(at("0.0.0.0:10")));
        drop(second);
        assert_eq!(ports.source_for(at("192.0.2.1:1")), None);
    }
}
