//! The certificate of the DTLS handshake, and how it is named: `/certhash/<multihash of the certificate>`.
//!
//! A listener's address names its certificate, so it has to be the same after a restart: key and certificate are derived
//! from the identity key by HKDF and signed deterministically (RFC 6979). Nothing is kept on disk, and nobody learns
//! anything of the identity key from it. The certificate proves nothing about the peer: the noise handshake inside does.
//!
//! A dialer makes a new one for each connection: DTLS 1.2 shows certificates to whoever listens on the wire, who shall
//! not know the dialer again by it (webrtc-direct.md, "Browser to public Server", step 3).
//!
//! The curve is P-256, the one that every implementation of WebRTC has (RFC 8827, section 6.5). Nobody checks the dates:
//! a dialer compares the hash, and a listener knows no dialer's certificate beforehand.

use std::fmt;

use aws_lc_rs::{digest, hkdf, rand};
use p256::{
    SecretKey,
    ecdsa::{DerSignature, SigningKey, signature::Signer as _},
    elliptic_curve::sec1::ToSec1Point as _,
    pkcs8::EncodePrivateKey as _,
};
use peerage_core::{Keypair, Multiaddr, Protocol};
use rcgen::{CertificateParams, DistinguishedName, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd};
use zeroize::Zeroizing;

/// What the derived bytes are for. Another version of the certificate needs another name.
const PURPOSE: &[u8] = b"peerage webrtc-direct certificate 1";

/// Multihash of SHA-256: its code and its length.
const SHA256: [u8; 2] = [0x12, 32];

/// The SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// From a multihash, as `/certhash` has it; `None` if it is of another hash function, which would have to be the one
    /// that the other side takes as well (webrtc-direct.md, "Connection Security").
    pub fn from_multihash(bytes: &[u8]) -> Option<Self> {
        bytes.strip_prefix(&SHA256)?.try_into().ok().map(Self)
    }

    /// The multihash.
    pub fn to_multihash(&self) -> Vec<u8> {
        [&SHA256[..], &self.0].concat()
    }

    /// The bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Appends `/certhash/<this>`.
    pub(crate) fn name(&self, address: Multiaddr) -> Option<Multiaddr> {
        address.with(Protocol::Certhash(&self.to_multihash())).ok()
    }
}

impl fmt::Display for Fingerprint {
    /// As SDP and browsers show it: `3E:79:...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A certificate with its key.
pub(crate) struct Certificate {
    pub(crate) der: Vec<u8>,
    /// In PKCS #8.
    pub(crate) key: Zeroizing<Vec<u8>>,
    pub(crate) fingerprint: Fingerprint,
}

impl Certificate {
    /// The certificate of this identity: the same ever again.
    pub(crate) fn derive(identity: &Keypair) -> Self {
        Self::from_secret(&identity.to_protobuf())
    }

    /// A certificate that nobody has seen before; `None` if the operating system has no randomness to give.
    pub(crate) fn random() -> Option<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(seed.as_mut_slice()).ok()?;
        Some(Self::from_secret(seed.as_slice()))
    }

    #[allow(
        clippy::expect_used,
        reason = "every input is of this module's making, and the test makes one of it"
    )]
    fn from_secret(secret: &[u8]) -> Self {
        let (key, serial) = secrets(secret);
        let signer = Deterministic::new(&key);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date_time_ymd(1975, 1, 1);
        params.not_after = date_time_ymd(4096, 1, 1);
        let certificate = params.self_signed(&signer).expect("a certificate without extensions");
        let der = certificate.der().to_vec();
        let key = key.to_pkcs8_der().expect("a key of the curve").to_bytes();
        Self { fingerprint: Fingerprint::of(&der), der, key }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// The key and the serial number that follow from a secret.
#[allow(clippy::expect_used, reason = "HKDF gives up to 255 blocks, and one number in 2^32 is no key")]
fn secrets(secret: &[u8]) -> (SecretKey, [u8; 8]) {
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret);
    let expand = |part: &[u8]| {
        let mut bytes = Zeroizing::new([0; 32]);
        let info = [PURPOSE, part];
        let okm = derived.expand(&info, hkdf::HKDF_SHA256).expect("one block");
        okm.fill(bytes.as_mut_slice()).expect("one block");
        bytes
    };
    let key = (0..=u8::MAX)
        .find_map(|attempt| SecretKey::from_slice(expand(&[b'k', attempt]).as_slice()).ok())
        .expect("one of 256 is a key");
    let mut serial = [0; 8];
    serial.copy_from_slice(expand(b"s").first_chunk::<8>().expect("of 32"));
    // Positive and in the shortest form (RFC 5280, section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    (key, serial)
}

/// Signs as RFC 6979 says: the same message gets the same signature.
struct Deterministic {
    key: SigningKey,
    public: Vec<u8>,
}

impl Deterministic {
    fn new(key: &SecretKey) -> Self {
        Self { key: SigningKey::from(key), public: key.public_key().to_sec1_point(false).as_bytes().to_vec() }
    }
}

impl rcgen::PublicKeyData for Deterministic {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Deterministic {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature = self.key.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_certificate() {
        let identity = Keypair::from_ed25519_seed([7; 32]);
        let (one, two) = (Certificate::derive(&identity), Certificate::derive(&identity));
        assert!(one.der == two.der && one.key == two.key);
        // Whatever changes this changes the address of every node.
        assert_eq!(one.fingerprint.to_string(), PINNED);
        let other = Certificate::derive(&Keypair::from_ed25519_seed([8; 32]));
        assert_ne!(one.fingerprint, other.fingerprint);
        assert_ne!(Certificate::random().unwrap().der, Certificate::random().unwrap().der);
        assert!(!one.key.windows(32).any(|window| window == [7; 32]));
    }

    const PINNED: &str =
        "95:49:FA:CA:76:FE:7C:BD:86:52:F2:5F:46:98:B0:15:D5:53:61:79:59:E8:85:AE:1D:8F:36:6D:0E:2F:80:7D";

    #[test]
    fn it_is_signed_with_its_own_key() {
        use x509_parser::prelude::*;
        let der = Certificate::derive(&Keypair::generate()).der;
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        let spki = certificate.public_key().subject_public_key.data.to_vec();
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&spki).unwrap();
        let signature = DerSignature::from_bytes(&certificate.signature_value.data).unwrap();
        let signed = certificate.tbs_certificate.as_ref();
        p256::ecdsa::signature::Verifier::verify(&key, signed, &signature).unwrap();
    }

    #[test]
    fn fingerprints_are_named_in_addresses() {
        let fingerprint = Fingerprint::of(b"");
        let address = fingerprint.name("/ip4/127.0.0.1/udp/1/webrtc-direct".parse().unwrap()).unwrap();
        let text =
            "/ip4/127.0.0.1/udp/1/webrtc-direct/certhash/uEiDjsMRCmPwcFJr79MiZb7kkJ65B5GSbk0yklZkbeFK4VQ";
        assert_eq!(address.to_string(), text);
        assert_eq!(Fingerprint::from_multihash(&fingerprint.to_multihash()), Some(fingerprint));
        let mut other = fingerprint.to_multihash();
        other[0] = 0x13;
        assert_eq!(Fingerprint::from_multihash(&other), None);
        assert_eq!(Fingerprint::from_multihash(&fingerprint.to_multihash()[..33]), None);
    }
}
