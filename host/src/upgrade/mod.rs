//! Upgrades: the actor that takes raw links through security and muxer, with one deadline each.

mod early;
mod effects;
mod engine;

pub(crate) use effects::spawn;
pub(crate) use engine::{Command, Engine, Outbound, Upgraded};

use peerage_core::Multiaddr;
use peerage_transport::Link;

/// This side's address.
pub(crate) fn local(link: &Link) -> Multiaddr {
    match link {
        Link::Raw(raw) => raw.local.clone(),
        Link::Opening(opening) => opening.local.clone(),
        Link::Unfinished(unfinished) => unfinished.local.clone(),
        Link::Established(established) => established.local.clone(),
    }
}

/// The other side's address.
pub(crate) fn remote(link: &Link) -> Multiaddr {
    match link {
        Link::Raw(raw) => raw.remote.clone(),
        Link::Opening(opening) => opening.remote.clone(),
        Link::Unfinished(unfinished) => unfinished.remote.clone(),
        Link::Established(established) => established.remote.clone(),
    }
}
