//! Addresses, as users give them.

use std::net::SocketAddr;

use peerage::{Multiaddr, PeerId};

/// Reads a multiaddr. Whoever gives something else is told what it would be as one.
pub(crate) fn parse(text: &str) -> Result<Multiaddr, String> {
    text.parse().map_err(|error: peerage::multiaddr::Error| {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return format!("an address is written {}", Multiaddr::tcp(socket));
        }
        if text.parse::<PeerId>().is_ok() {
            return format!("that is a peer id; say where it is: /ip4/HOST/tcp/PORT/p2p/{text}");
        }
        if !text.starts_with('/') {
            return format!("{error}; an address is written /ip4/127.0.0.1/tcp/4001");
        }
        error.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_multiaddr_is_told_how_to() {
        assert!(parse("127.0.0.1:4001").unwrap_err().contains("/ip4/127.0.0.1/tcp/4001"));
        let peer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
        assert!(parse(peer).unwrap_err().ends_with(&format!("/ip4/HOST/tcp/PORT/p2p/{peer}")));
        assert!(parse("example.com").unwrap_err().ends_with("/ip4/127.0.0.1/tcp/4001"));
        assert!(parse("/ip4/127.0.0.1/tcp/x").unwrap_err().contains("port"));
        assert!(parse("/ip4/127.0.0.1/tcp/4001").is_ok());
    }
}
