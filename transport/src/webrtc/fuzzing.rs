//! Doors to what is decoded here, for fuzz targets and for tests that play a stranger. No part of the interface.

use std::net::SocketAddr;

use super::{
    callers::{Callers, Verdict},
    message::Decoder,
    names::Name,
    stun,
};

/// A STUN check with any user name.
pub fn check(username: &[u8], password: &str) -> Vec<u8> {
    stun::request_named(username, password)
}

/// What a listener would answer to a datagram.
#[allow(clippy::disallowed_methods, reason = "any instant will do")]
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    match Callers::default().handle_stun(datagram, source, std::time::Instant::now()) {
        Verdict::Answer(answer) | Verdict::AnswerIn(_, answer) => Some(answer),
        _ => None,
    }
}

/// Whether a STUN user name is one of webrtc-direct, and then its two parts.
pub fn name(username: &[u8]) -> Option<(String, String)> {
    let name = Name::parse(username).ok()?;
    Some((name.server.to_owned(), name.client.to_owned()))
}

/// Takes the parts of a channel's bytes, and gives the data of its messages, or that they are none.
pub fn messages<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (mut decoder, mut data) = (Decoder::default(), Vec::new());
    for part in parts {
        decoder.feed(part, |message| data.extend_from_slice(message.data)).ok()?;
    }
    Some(data)
}
