//! The ICE credentials of webrtc-direct (webrtc/webrtc-direct.md). There is no signalling: the listener learns all it
//! needs from the user name of the dialer's first check, `<server>:<client>`.
//!
//! | version | server | client |
//! |---|---|---|
//! | 1 | `libp2p+webrtc+v1/<random>`, also both passwords | the same |
//! | 2 | `libp2p+webrtc+v2/<client's password>`, also the server's password | the client's own |
//!
//! Version 2 (libp2p/specs, pull request 715) exists because browsers no longer let their own credentials be changed.
//! What a stranger sends as a name goes no further than this module before it is known to be one: other programs put it
//! into text formats, where line ends in it do harm.

use std::str;

use aws_lc_rs::rand;

/// RFC 8839, section 5.4: `ufrag = 4*256ice-char`, `password = 22*256ice-char`.
pub(crate) const MIN_UFRAG: usize = 4;
pub(crate) const MIN_PASSWORD: usize = 22;
pub(crate) const MAX_CREDENTIAL: usize = 256;

const V1: &str = "libp2p+webrtc+v1/";
const V2: &str = "libp2p+webrtc+v2/";

/// Random characters in each credential of ours: 64 of them to choose from make 192 bits.
const RANDOM: usize = 32;

const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Which credentials a dialer makes. A listener takes both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Version {
    /// What every implementation understands.
    #[default]
    V1,
    /// What browsers will have to use; of listeners, only those of 2026 know it.
    V2,
}

/// Why a user name is none of webrtc-direct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("no colon")]
    NoColon,
    #[error("a part is shorter than {MIN_UFRAG} or longer than {MAX_CREDENTIAL} bytes")]
    Length,
    #[error("a byte that is no ice-char")]
    Character,
    #[error("neither version 1 nor version 2")]
    Version,
    #[error("the password in it is too short")]
    Password,
}

/// Who a check is for and from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a> {
    /// The listener's user name fragment, which is its password as well, in both versions.
    pub(crate) server: &'a str,
    /// The dialer's fragment.
    pub(crate) client: &'a str,
    pub(crate) version: Version,
}

impl<'a> Name<'a> {
    /// # Errors
    /// [`NameError`]: whoever sent it does not speak webrtc-direct.
    pub(crate) fn parse(username: &'a [u8]) -> Result<Self, NameError> {
        // A colon is no ice-char, so there is one way to cut it.
        let colon = username.iter().position(|byte| *byte == b':').ok_or(NameError::NoColon)?;
        let (server, client) = username.split_at_checked(colon).ok_or(NameError::NoColon)?;
        let server = ufrag(server)?;
        let client = ufrag(client.get(1..).unwrap_or_default())?;
        let version = if let Some(password) = server.strip_prefix(V2) {
            if password.len() < MIN_PASSWORD {
                return Err(NameError::Password);
            }
            Version::V2
        } else if server.starts_with(V1) {
            // It is a password, too.
            if server.len() < MIN_PASSWORD {
                return Err(NameError::Password);
            }
            Version::V1
        } else {
            return Err(NameError::Version);
        };
        Ok(Self { server, client, version })
    }

    /// The password of the dialer, for checks in the other direction. (A listener of this node makes none.)
    #[cfg(test)]
    pub(crate) fn client_password(&self) -> &'a str {
        match self.version {
            Version::V1 => self.server,
            Version::V2 => self.server.strip_prefix(V2).unwrap_or_default(),
        }
    }
}

fn ufrag(part: &[u8]) -> Result<&str, NameError> {
    if !(MIN_UFRAG..=MAX_CREDENTIAL).contains(&part.len()) {
        return Err(NameError::Length);
    }
    if !part.iter().all(|byte| ICE_CHARS.contains(byte)) {
        return Err(NameError::Character);
    }
    str::from_utf8(part).map_err(|_| NameError::Character)
}

/// What a dialer makes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The listener's fragment and password.
    pub(crate) server: String,
    /// The dialer's fragment.
    pub(crate) client: String,
    /// The dialer's password.
    pub(crate) password: String,
}

impl Credentials {
    /// `None` if the operating system has no randomness to give.
    pub(crate) fn new(version: Version) -> Option<Self> {
        Some(match version {
            Version::V1 => {
                let name = format!("{V1}{}", random()?);
                Self { server: name.clone(), client: name.clone(), password: name }
            }
            Version::V2 => {
                let password = random()?;
                Self { server: format!("{V2}{password}"), client: random()?, password }
            }
        })
    }

    /// The user name of the dialer's checks.
    pub(crate) fn username(&self) -> String {
        format!("{}:{}", self.server, self.client)
    }

    /// The user name of the listener's checks, if it makes any.
    pub(crate) fn reverse_username(&self) -> String {
        format!("{}:{}", self.client, self.server)
    }
}

fn random() -> Option<String> {
    let mut bytes = [0; RANDOM];
    rand::fill(&mut bytes).ok()?;
    let characters = bytes.iter().filter_map(|byte| ICE_CHARS.get(usize::from(byte & 63)));
    Some(characters.map(|character| char::from(*character)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(name: &str) -> Result<Name<'_>, NameError> {
        Name::parse(name.as_bytes())
    }

    #[test]
    fn both_versions_are_understood() {
        let name = parse("libp2p+webrtc+v1/abcdefgh:libp2p+webrtc+v1/abcdefgh").unwrap();
        assert_eq!(name.version, Version::V1);
        assert_eq!(name.client_password(), name.server);

        let name = parse("libp2p+webrtc+v2/0123456789abcdefghijkl:Ab+/").unwrap();
        assert_eq!((name.version, name.client), (Version::V2, "Ab+/"));
        assert_eq!(name.server, "libp2p+webrtc+v2/0123456789abcdefghijkl");
        assert_eq!(name.client_password(), "0123456789abcdefghijkl");
    }

    #[test]
    fn lengths_are_checked_at_both_ends() {
        let v2 = |password: usize, client: usize| {
            format!("libp2p+webrtc+v2/{}:{}", "p".repeat(password), "c".repeat(client))
        };
        assert!(parse(&v2(22, 4)).is_ok());
        assert_eq!(parse(&v2(21, 4)), Err(NameError::Password));
        assert!(parse(&v2(256 - V2.len(), 256)).is_ok());
        assert_eq!(parse(&v2(257 - V2.len(), 4)), Err(NameError::Length));
        assert_eq!(parse(&v2(22, 3)), Err(NameError::Length));
        assert_eq!(parse(&v2(22, 257)), Err(NameError::Length));
        assert_eq!(parse("libp2p+webrtc+v1/abcd:abcd"), Err(NameError::Password));
        assert!(parse("libp2p+webrtc+v1/abcde:abcd").is_ok());
    }

    #[test]
    fn names_of_others_are_refused() {
        for (name, error) in [
            ("", NameError::NoColon),
            ("libp2p+webrtc+v1/abcdefgh", NameError::NoColon),
            (":libp2p+webrtc+v1/abcdefgh", NameError::Length),
            ("evtj:h6vY", NameError::Version),
            ("libp2p+webrtc+v3/0123456789abcdefghijkl:abcd", NameError::Version),
            ("LIBP2P+webrtc+v1/abcdefgh:abcd", NameError::Version),
            ("libp2p+webrtc+v1/abcdefgh:ab:cd", NameError::Character),
            ("libp2p+webrtc+v1/abcd efgh:abcd", NameError::Character),
            ("libp2p+webrtc+v1/abcd\r\na=x:abcd", NameError::Character),
            ("libp2p+webrtc+v1/abcdefgh:ab\r\ncd", NameError::Character),
            ("libp2p+webrtc+v1/abcdefgh:abcd\n", NameError::Character),
            ("libp2p+webrtc+v1/abcdefgh\0:abcd", NameError::Character),
            ("libp2p+webrtc+v1/\u{e4}bcdefgh:abcd", NameError::Character),
        ] {
            assert_eq!(parse(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn what_a_dialer_makes_up_a_listener_understands() {
        for version in [Version::V1, Version::V2] {
            let made = Credentials::new(version).unwrap();
            let username = made.username();
            let name = parse(&username).unwrap();
            assert_eq!((name.version, name.server, name.client), (version, &*made.server, &*made.client));
            assert_eq!(name.client_password(), made.password);
            assert_ne!(made, Credentials::new(version).unwrap());
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_made_of_ice_chars(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut username = V1.as_bytes().to_vec();
            username.extend(bytes);
            if let Ok(name) = Name::parse(&username) {
                for part in [name.server, name.client] {
                    prop_assert!(part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'));
                }
            }
        }
    }
}
