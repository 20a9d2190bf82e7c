use futures::future::BoxFuture;
use peerage_core::{Multiaddr, PeerId};

/// Where a dial may find addresses of a peer: the peer book, and later routing, rendezvous, mDNS.
///
/// All sources of a node are asked at the beginning of a dial by peer id; what they say is added while the dial
/// already runs, and the dial's report names what each said. One that takes longer than the dial is not waited for.
pub trait AddressSource: Send + Sync + 'static {
    /// Its name in reports: `kad`.
    fn name(&self) -> &'static str;

    /// Whether other peers may have made its addresses up. Those that lead into this machine or into private networks are
    /// then dialed only if this node is there itself, and a port at which other services are, not at all. Default: yes.
    fn is_hearsay(&self) -> bool {
        true
    }

    /// The addresses that it knows or finds; the error is for the report.
    fn addresses(&self, peer: PeerId) -> BoxFuture<'static, Result<Vec<Multiaddr>, String>>;
}
