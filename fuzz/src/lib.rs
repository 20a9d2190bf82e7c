//! What strangers may send, tried at random: a target for every decoder, and for every handshake and muxer.
//!
//! `fuzz/run` fuzzes them with libFuzzer, on the stable compiler. `cargo test -p peerage-fuzz` runs each of them over
//! the seeds, the corpus, and some thousand mutations of both, the same in every run.
//!
//! A target asserts more than that nothing panics: what is read is written and read again, whole and in pieces give
//! the same, limits hold, and what waits for a peer ends when the peer does.

mod io;
mod muxers;
mod protocols;
mod pubsub;
mod security;
mod values;
mod webrtc;

/// Something that takes a stranger's bytes.
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Takes an input; panics if something is wrong.
    pub run: fn(&[u8]),
    /// Inputs to begin with, which come far.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    target("varint", values::varint, values::varint_seeds),
    target("frame", values::frame, values::frame_seeds),
    target("protobuf", values::protobuf, values::protobuf_seeds),
    target("multiaddr", values::multiaddr, values::multiaddr_seeds),
    target("multiaddr-text", values::multiaddr_text, values::multiaddr_text_seeds),
    target("peer-id", values::peer_id, values::peer_id_seeds),
    target("public-key", values::public_key, values::public_key_seeds),
    target("private-key", values::private_key, values::private_key_seeds),
    target("envelope", values::envelope, values::envelope_seeds),
    target("protocol-id", values::protocol_id, values::protocol_id_seeds),
    target("multistream-listener", values::multistream_listener, values::multistream_seeds),
    target("multistream-dialer", values::multistream_dialer, values::multistream_seeds),
    target("noise-raw", security::noise_raw, security::noise_raw_seeds),
    target("noise-altered", security::noise_altered, security::altered_seeds),
    target("tls-raw", security::tls_raw, security::tls_raw_seeds),
    target("tls-altered", security::tls_altered, security::altered_seeds),
    target("tls-certificate", security::tls_certificate, security::tls_certificate_seeds),
    target("plaintext", security::plaintext, security::plaintext_seeds),
    target("psk-file", security::psk_file, security::psk_file_seeds),
    target("pnet", security::pnet, security::pnet_seeds),
    target("yamux", muxers::yamux, muxers::yamux_seeds),
    target("mplex", muxers::mplex, muxers::mplex_seeds),
    target("websocket", protocols::websocket, protocols::websocket_seeds),
    target("websocket-opening", protocols::websocket_opening, protocols::websocket_opening_seeds),
    target("webrtc-name", webrtc::name, webrtc::name_seeds),
    target("webrtc-stun", webrtc::stun, webrtc::stun_seeds),
    target("webrtc-messages", webrtc::messages, webrtc::messages_seeds),
    target("upgrade", protocols::upgrade, protocols::upgrade_seeds),
    target("identify", protocols::identify, protocols::identify_seeds),
    target("book-row", protocols::book_row, protocols::book_row_seeds),
    target("key-file", protocols::key_file, protocols::key_file_seeds),
    target("dnsaddr", protocols::dnsaddr, protocols::dnsaddr_seeds),
    target("mdns", peerage_discovery::fuzzing::mdns, peerage_discovery::fuzzing::mdns_seeds),
    target("pubsub-rpc", pubsub::rpc, pubsub::rpc_seeds),
    target("pubsub-engine", pubsub::engine, pubsub::engine_seeds),
    target("chat-file", protocols::chat_file, protocols::chat_file_seeds),
    target("pubsub-parts", pubsub::parts, pubsub::parts_seeds),
    target("cbor", protocols::cbor, protocols::cbor_seeds),
    target("json", protocols::json, protocols::json_seeds),
];

/// The target of a name.
pub fn target_named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
