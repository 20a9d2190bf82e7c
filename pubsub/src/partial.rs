//! Partial messages: messages that travel in parts, so that nobody is sent what it has (libp2p specs
//! `pubsub/gossipsub/partial-messages.md`, an extension of gossipsub 1.3).

/// Whether, and how, parts of a topic's messages go between this node and its peers. Each node chooses for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Not at all.
    #[default]
    Off,
    /// It sends parts to those who want them, and tells what it has. It gets whole messages.
    Sends,
    /// It wants parts instead of whole messages, and sends them, too. From those who do not send parts it gets whole
    /// messages.
    Requests,
}

impl Mode {
    /// Whether parts are sent to those who want them.
    pub fn sends(self) -> bool {
        self != Self::Off
    }

    /// Whether the two have anything to say to each other: one wants parts, and the other sends them.
    pub fn goes_with(self, other: Self) -> bool {
        self.sends() && other.sends() && (self == Self::Requests || other == Self::Requests)
    }
}
