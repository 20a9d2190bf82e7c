//! Multicast DNS, as in the libp2p spec `discovery/mdns.md`: nodes on one link find one another without anybody's help.
//!
//! A node asks its links for `_p2p._udp.local`, and answers who asks: under a random name, with its addresses as
//! `dnsaddr=` attributes. In a private network the name is that network's, so that others do not hear of it.
//!
//! - **Nothing leaves this machine unless the user says so**: by default a node looks for others, and is found, on
//!   loopback alone ([`Interfaces`]). On each link it names only addresses that are reached there.
//! - **What is heard is hearsay.** Anybody on a link can say anything of anybody. Addresses count if they are of the link
//!   that they were heard on; they are put into the peer book, and reported. Found peers are dialed only if the user
//!   said so ([`Mdns::dial`]). Who somebody is, a connection proves.
//! - **A flood costs little**: so many messages are read ([`MAX_HEARD_PER_SECOND`]), so many peers found
//!   ([`MAX_FOUND_PER_MINUTE`]) and kept ([`MAX_PEERS`]), and all who ask within [`ANSWER_EVERY`] share one answer.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use peerage_core::Keypair;
//! use peerage_discovery::mdns::{Event, Mdns};
//! use peerage_host::Node;
//!
//! let node = Node::builder(Keypair::generate()).listen("/ip4/127.0.0.1/tcp/0")?;
//! let (node, mdns) = node.with(Mdns::default().dial(true));
//! let mut found = mdns.events();
//! let node = node.start().await?;
//! while let Some(event) = found.next().await {
//!     match event {
//!         Event::Found { peer, addresses } => println!("{peer} is at {addresses:?}"),
//!         Event::Expired { peer } => println!("{peer} is gone"),
//!         _ => {}
//!     }
//! }
//! # node.shutdown().await;
//! # Ok(())
//! # }
//! ```

pub(crate) mod codec;
mod effects;
mod engine;
mod handle;
mod link;
pub(crate) mod name;
mod own;
mod socket;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod vectors;

use std::borrow::Cow;

use peerage_host::{Protocol, Registrar};
use tokio::sync::broadcast;

pub use codec::{
    DecodeError, MAX_ENTRIES, MAX_FOUND_ADDRESSES, MAX_MESSAGE, MAX_POINTERS, MAX_SENT, MAX_TXT,
};
pub use effects::{HEARD_BURST, INTERFACES_EVERY, MAX_HEARD_PER_SECOND};
pub use engine::{
    ANNOUNCEMENTS, ANSWER_EVERY, FIRST_INTERVAL, GOODBYE, JITTER, MAX_ADDRESSES_PER_PEER, MAX_DIALS,
    MAX_FOUND_PER_MINUTE, MAX_INSTANCES_PER_PEER, MAX_INTERVAL, MAX_PEERS, MAX_QUIET, MAX_TTL, RETRY,
    SWEEP_EVERY, TTL,
};
pub use handle::{Closed, Event, Events, Found, Handle, MAX_EVENTS};
pub use link::{Interfaces, MAX_LINKS};
pub use own::{MAX_IPS, MAX_OWN_ADDRESSES};

/// The port of multicast DNS.
pub const PORT: u16 = 5353;
/// Its name in the tree of actors, and in the peer book.
const NAME: &str = "mdns";

/// Finds the nodes of this machine, or of the networks that it is in.
#[derive(Clone, Debug)]
pub struct Mdns {
    interfaces: Interfaces,
    dial: bool,
    port: u16,
}

impl Default for Mdns {
    /// On loopback alone, without dialing whom it finds.
    fn default() -> Self {
        Self { interfaces: Interfaces::default(), dial: false, port: PORT }
    }
}

impl Mdns {
    /// Where others are looked for, and told of this node. Default: [`Interfaces::Loopback`].
    #[must_use]
    pub fn interfaces(mut self, interfaces: Interfaces) -> Self {
        self.interfaces = interfaces;
        self
    }

    /// Looks for others, and tells them of this node, in the private networks that this machine is in.
    #[must_use]
    pub fn lan(self) -> Self {
        self.interfaces(Interfaces::Lan)
    }

    /// Whether found peers are connected with. They are dialed as strangers' hearsay is: one that listens on loopback, by
    /// nodes that do so as well. Default: no.
    #[must_use]
    pub fn dial(mut self, dial: bool) -> Self {
        self.dial = dial;
        self
    }

    /// Speaks on another port than [`PORT`], where only nodes with the same one hear it. For tests.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }
}

impl Protocol for Mdns {
    type Handle = Handle;

    fn name(&self) -> Cow<'static, str> {
        NAME.into()
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle {
        let node = registrar.node();
        let (events, _) = broadcast::channel(MAX_EVENTS);
        let subscriptions = handle::Subscriptions(events.downgrade());
        let changed = node.clone();
        let make = move |birth: &peerage_host::actor::Birth<engine::Engine>| {
            let running = node.get();
            let private = running.as_ref().and_then(peerage_host::Node::private_network);
            let private = private.map(|fingerprint| fingerprint.to_string());
            let names = codec::Names::new(private.as_deref());
            #[allow(clippy::expect_used, reason = "hexadecimal digits make a label")]
            let (names, running) =
                (names.expect("names"), running.expect("its actors run while the node does"));
            let rng = peerage_core::engine::rng(rand::random());
            let engine = engine::Engine::new(running.peer_id(), names.clone(), self.dial, rng);
            let setting = effects::Setting {
                node: node.clone(),
                names,
                interfaces: self.interfaces.clone(),
                port: self.port,
                events: events.clone(),
            };
            (engine, effects::Performer::new(setting, birth.port.clone()))
        };
        let port = registrar.actor(make, None);
        let told = port.clone();
        registrar.on_change(move || told.post(engine::Command::Own(effects::own_addresses(&changed))));
        Handle { port, events: subscriptions }
    }
}
