use std::fmt;

use peerage_core::ProtocolId;

/// What two nodes speak: each later one can do what those before it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// `/floodsub/1.0.0`: everything to everybody.
    Floodsub,
    /// `/meshsub/1.0.0`: meshes and gossip.
    V10,
    /// `/meshsub/1.1.0`: scores, backoff, peer exchange.
    V11,
    /// `/meshsub/1.2.0`: IDONTWANT.
    V12,
    /// `/meshsub/1.3.0`: extensions.
    V13,
}

impl Version {
    /// All of them, the newest first.
    pub const ALL: [Version; 5] = [Self::V13, Self::V12, Self::V11, Self::V10, Self::Floodsub];

    /// Its name on the wire.
    pub fn protocol(self) -> ProtocolId {
        const NAMES: [ProtocolId; 5] = [
            ProtocolId::from_static("/floodsub/1.0.0"),
            ProtocolId::from_static("/meshsub/1.0.0"),
            ProtocolId::from_static("/meshsub/1.1.0"),
            ProtocolId::from_static("/meshsub/1.2.0"),
            ProtocolId::from_static("/meshsub/1.3.0"),
        ];
        let [floodsub, v10, v11, v12, v13] = NAMES;
        match self {
            Self::Floodsub => floodsub,
            Self::V10 => v10,
            Self::V11 => v11,
            Self::V12 => v12,
            Self::V13 => v13,
        }
    }

    /// The version of this name.
    pub fn of(protocol: &ProtocolId) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.protocol() == *protocol)
    }

    /// Whether it knows meshes.
    pub fn is_gossip(self) -> bool {
        self != Self::Floodsub
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol().as_str())
    }
}
