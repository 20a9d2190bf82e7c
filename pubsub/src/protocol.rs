use std::{borrow::Cow, net::IpAddr, sync::Arc};

use peerage_core::{engine::rng, multiaddr::Protocol as Part};
use peerage_host::{
    ConnectionEvent, Direction, Protocol, Registrar, ServeOptions, StreamLimits, actor::Clock,
};

use crate::{
    config::{Config, ConfigError},
    effects::Performer,
    engine::{Command, Engine},
    handle::Handle,
    metrics, session,
    shared::Shared,
    signing::Author,
    version::Version,
};

/// Streams that one peer may have open to this node at once. It listens on the newest; the others are reset.
pub const MAX_INBOUND_STREAMS: usize = 8;

/// Gossipsub, and floodsub with those who know nothing else. Give it to the node's builder:
///
/// ```
/// use peerage_core::Keypair;
/// use peerage_host::Node;
/// use peerage_pubsub::Gossipsub;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let (node, gossip) = Node::builder(Keypair::generate()).with(Gossipsub::default());
/// let node = node.start().await?;
///
/// let mut weather = gossip.subscribe("weather")?;
/// gossip.publish("weather", "rain").await?;
/// while let Some(message) = weather.next().await {
///     println!("{:?}: {} bytes", message.author, message.data.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gossipsub {
    config: Config,
}

impl Gossipsub {
    /// With this configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if its numbers do not fit together.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Floodsub alone: everything to everybody.
    pub fn floodsub() -> Self {
        Self { config: Config { versions: vec![Version::Floodsub], ..Config::default() } }
    }
}

impl Protocol for Gossipsub {
    type Handle = Handle;

    fn name(&self) -> Cow<'static, str> {
        "gossipsub".into()
    }

    fn register(self, registrar: &mut Registrar<'_>) -> Handle {
        let (node, keypair) = (registrar.node(), registrar.keypair().clone());
        let local = keypair.peer_id();
        // Nanoseconds since 1970 do until 2554, and no other node writes with this key.
        let first = u64::try_from(Clock::start().now().unix.as_nanos()).unwrap_or(u64::MAX);
        let shared = Arc::new(Shared::new(Arc::new(self.config), Author::new(keypair, first)));

        let port = {
            let shared = shared.clone();
            registrar.actor(
                move |birth| {
                    let config = shared.config.clone();
                    let wanted = (shared.topics(), shared.validators());
                    let engine = Engine::new(config.clone(), local, rng(rand::random()), birth.first_id());
                    let engine = engine.restored(wanted.0, wanted.1).ruled_by(shared.rules());
                    let mut engine = engine.remembering(shared.memory.clone());
                    // The node is there before its actors are.
                    if let (Some(node), Some(version)) = (node.get(), config.versions.first()) {
                        let budget = shared.budget.get_or_init(|| node.memory(&version.protocol()));
                        engine = engine.charged_to(budget.clone());
                    }
                    (engine, Performer::new(shared.clone(), node.clone(), birth.port.clone()))
                },
                Some(on_connection),
            )
        };
        let limits = StreamLimits::new(MAX_INBOUND_STREAMS, StreamLimits::default().inbound_total);
        for version in &shared.config.versions {
            let (shared, port) = (shared.clone(), port.clone());
            registrar.serve(version.protocol(), ServeOptions::default().limits(limits), move |stream, _| {
                session::listen(shared.clone(), port.clone(), stream)
            });
        }
        let counted = shared.clone();
        registrar.metrics(move |sheet| metrics::write(&counted, sheet));
        Handle::new(shared, port)
    }
}

/// What happens to connections, for the engine. Through a relay that bounds time and bytes nothing is said.
fn on_connection(event: ConnectionEvent) -> Command {
    let info = event.info();
    let (peer, id) = (info.peer, info.id);
    match &event {
        ConnectionEvent::Opened { .. } if !info.limited => {
            let ip = info.remote.iter().find_map(|part| match part {
                Part::Ip4(ip) => Some(IpAddr::from(ip)),
                Part::Ip6(ip) => Some(IpAddr::from(ip)),
                _ => None,
            });
            Command::Connected { peer, id, ip, dialed: info.direction == Direction::Outbound }
        }
        _ => Command::Disconnected { peer, id },
    }
}
