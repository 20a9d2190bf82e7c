//! Who may connect with this node, by rules of the program: [`Gater`].
//!
//! Limits say how much, bans say who misbehaved; a gater says whom one does not want to talk with, before it costs
//! anything. Every gater of a node has to agree.

mod lists;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use peerage_core::{Multiaddr, PeerId};

use crate::{actor::panic_text, hub::ConnInfo};

pub use lists::{Lists, MAX_LISTED, TooMany};

/// Decides about connections, at the four points at which something is known that was not before. Every method allows
/// by default.
///
/// The methods are called on the node's threads, those about dials by the one actor that dials: they must not wait. One
/// that panics refuses, and is reported as every panic is.
///
/// ```
/// use peerage_host::{ConnInfo, gater::{Gater, Gated}};
///
/// /// No strangers.
/// struct Friends(Vec<peerage_core::PeerId>);
///
/// impl Gater for Friends {
///     fn secured(&self, connection: &ConnInfo) -> Result<(), Gated> {
///         if self.0.contains(&connection.peer) { Ok(()) } else { Err(Gated::because("a stranger")) }
///     }
/// }
/// ```
pub trait Gater: Send + Sync + 'static {
    /// Its name, for reports.
    fn name(&self) -> &'static str {
        "gater"
    }

    /// Before a peer is dialed, whatever its addresses are: none of them is looked for. When only an address is known, it
    /// is not asked, unless that is a name and says who is there.
    ///
    /// # Errors
    /// [`Gated`]: no address is tried then; the dial ends with [`DialErrorKind::Gated`](crate::DialErrorKind::Gated).
    fn dial_peer(&self, peer: PeerId) -> Result<(), Gated> {
        let _ = peer;
        Ok(())
    }

    /// Before an address gets its place in a dial, and only if nothing else speaks against it. Names are not asked about,
    /// but what they stand for. `peer` is who is expected there, if anybody is.
    ///
    /// # Errors
    /// [`Gated`]: this address is not tried, and takes no place of another one.
    fn dial_address(&self, peer: Option<PeerId>, address: &Multiaddr) -> Result<(), Gated> {
        let _ = (peer, address);
        Ok(())
    }

    /// When somebody came, before anything is read from there.
    ///
    /// # Errors
    /// [`Gated`]: the socket is closed.
    fn accept(&self, local: &Multiaddr, remote: &Multiaddr) -> Result<(), Gated> {
        let _ = (local, remote);
        Ok(())
    }

    /// When the peer has proven who it is, in either direction, before the connection is used.
    ///
    /// # Errors
    /// [`Gated`]: it is closed, and the peer is told that it is not wanted.
    fn secured(&self, connection: &ConnInfo) -> Result<(), Gated> {
        let _ = connection;
        Ok(())
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused by {gater}: {why}")]
#[non_exhaustive]
pub struct Gated {
    /// Whose it is; filled in by the node.
    pub gater: &'static str,
    /// Why. Shown in the report of a dial, or in the event of an incoming connection that failed; never to the peer.
    pub why: String,
}

impl Gated {
    /// Because of `why`.
    pub fn because(why: impl Into<String>) -> Self {
        Self { gater: "gater", why: why.into() }
    }
}

/// All gaters of a node.
#[derive(Clone, Default)]
pub(crate) struct Gaters(Vec<Arc<dyn Gater>>);

impl Gaters {
    pub(crate) fn push(&mut self, gater: impl Gater) {
        self.0.push(Arc::new(gater));
    }

    /// Asks each, until one refuses. `panicked` is told the text of a panic.
    pub(crate) fn ask(
        &self,
        ask: impl Fn(&dyn Gater) -> Result<(), Gated>,
        panicked: impl FnOnce(String),
    ) -> Result<(), Gated> {
        for gater in &self.0 {
            match catch_unwind(AssertUnwindSafe(|| (gater.name(), ask(gater.as_ref())))) {
                Ok((_, Ok(()))) => {}
                Ok((name, Err(gated))) => return Err(Gated { gater: name, ..gated }),
                Err(panic) => {
                    let text = panic_text(panic.as_ref());
                    panicked(text.clone());
                    return Err(Gated::because(format!("it panicked: {text}")));
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Gaters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} gaters", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Say(&'static str, Result<(), &'static str>);

    impl Gater for Say {
        fn name(&self) -> &'static str {
            self.0
        }

        fn dial_address(&self, _: Option<PeerId>, _: &Multiaddr) -> Result<(), Gated> {
            match self.1 {
                Err("panic") => panic!("on purpose"),
                said => said.map_err(Gated::because),
            }
        }
    }

    #[test]
    fn all_have_to_agree_and_the_first_to_refuse_is_named() {
        let address: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let panics = Mutex::new(Vec::new());
        let ask = |gaters: &Gaters| {
            let panicked = |text| panics.lock().unwrap().push(text);
            gaters
                .ask(|gater| gater.dial_address(None, &address), panicked)
                .map_err(|gated| gated.to_string())
        };
        let mut gaters = Gaters::default();
        assert_eq!(ask(&gaters), Ok(()));
        gaters.push(Say("one", Ok(())));
        assert_eq!(ask(&gaters), Ok(()));
        gaters.push(Say("two", Err("no")));
        gaters.push(Say("three", Err("panic")));
        assert_eq!(ask(&gaters), Err("refused by two: no".to_owned()));
        assert!(panics.lock().unwrap().is_empty());
        let mut broken = Gaters::default();
        broken.push(Say("three", Err("panic")));
        assert_eq!(ask(&broken), Err("refused by gater: it panicked: on purpose".to_owned()));
        assert_eq!(*panics.lock().unwrap(), ["on purpose"]);
    }
}
