//! Certificates (TLS spec, "Peer Authentication"): how ours is made, and what is asked of theirs. No I/O, no clock.

use aws_lc_rs::rand;
use peerage_core::{
    Keypair, PublicKey,
    identity::{DecodeError, Proofs},
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, SerialNumber, date_time_ymd};
use rustls::{
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
};
use x509_parser::{
    asn1_rs::{Any, BitString, FromDer, OctetString, Sequence, ToDer},
    certificate::{X509Certificate, X509CertificateParser},
    extensions::X509Extension,
    nom::Parser,
    x509::X509Version,
};

use super::{Error, MAX_CERTIFICATE, error::internal};
use crate::Fault;

/// The libp2p public key extension, 1.3.6.1.4.1.53594.1.1.
pub(super) const EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];

/// What is signed, before the key of the certificate.
const SIGNED_PREFIX: &[u8] = b"libp2p-tls-handshake:";

/// The first bytes of elements in DER. x509-parser is content with other bits in them, and the signature does not cover
/// the outermost.
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;

/// RFC 5280, section 4.1.2.2, allows twenty.
const SERIAL: usize = 16;

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The peer sent a chain, where the spec wants one certificate.
    #[error("{0} certificates, one allowed")]
    Chain(usize),
    /// It is longer than is looked at.
    #[error("{len} bytes, {max} allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// It is not an X.509 certificate of version 3, or has what none of this protocol has.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// It is no longer valid: it is old, or a clock is wrong.
    #[error("expired")]
    Expired,
    /// It is not valid yet: a clock is wrong.
    #[error("not yet valid")]
    NotYetValid,
    /// It has an extension that must be understood, and is not.
    #[error("the critical extension {0} is unknown")]
    UnknownCritical(String),
    /// Its key must not be used for signing handshakes.
    #[error("its key is not for signatures")]
    KeyUsage,
    /// It lacks the libp2p extension.
    #[error("no libp2p extension")]
    NoExtension,
    /// It has the libp2p extension more than once.
    #[error("more than one libp2p extension")]
    DoubledExtension,
    /// It is signed in a way that this build cannot check. What the spec asks for it can, so this is the peer's doing.
    #[error("signature algorithm unknown")]
    UnknownAlgorithm,
    /// It is not signed with its own key.
    #[error("not self-signed")]
    SelfSignature,
    /// The identity key is malformed, or of a kind that this build does not know.
    #[error("the peer's identity key: {0}")]
    Key(#[source] DecodeError),
    /// The identity key did not sign the key of the certificate: somebody poses as the peer.
    #[error("the identity's signature is wrong")]
    BadSignature,
}

impl CertificateError {
    /// Who was at fault.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Key(DecodeError::Curve(_)) => Fault::Local,
            _ => Fault::Remote,
        }
    }
}

/// A fresh key, and a certificate for it that carries `identity`.
///
/// The libp2p extension is the only one: js looks for it in the first place alone. The validity is that of the spec's
/// examples, 1975 to 4096: the certificate lives as long as its configuration, which no date in it could say, and
/// nobody's clock makes it invalid.
pub(super) fn issue(identity: &Keypair) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(internal)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial()?);
    params.not_before = date_time_ymd(1975, 1, 1);
    params.not_after = date_time_ymd(4096, 1, 1);
    let extension = signed_key(identity, &rcgen::PublicKeyData::subject_public_key_info(&key))?;
    params.custom_extensions = vec![CustomExtension::from_oid_content(&EXTENSION, extension)];
    let certificate = params.self_signed(&key).map_err(internal)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Ok((certificate.der().clone(), key.into()))
}

/// Random, positive and in the shortest form.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; SERIAL];
    rand::fill(&mut bytes).map_err(|_| internal("no randomness"))?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// `SignedKey`, the content of the extension: the identity's key, and its signature on that of the certificate.
pub(super) fn signed_key(identity: &Keypair, certificate_key: &[u8]) -> Result<Vec<u8>, Error> {
    let signature = identity.sign(&[SIGNED_PREFIX, certificate_key].concat());
    let octets = |bytes: &[u8]| OctetString::new(bytes).to_der_vec().map_err(internal);
    let content = [octets(&identity.public().to_protobuf())?, octets(&signature)?].concat();
    Sequence::new(content.into()).to_der_vec().map_err(internal)
}

/// The key of the certificate, a `SubjectPublicKeyInfo` in DER.
pub(super) fn subject_key(der: &[u8]) -> Result<&[u8], CertificateError> {
    Ok(parse(der)?.tbs_certificate.subject_pki.raw)
}

/// What the certificate proves: that its key belongs to the peer with the key that is returned. That its sender has
/// that key is proved by the handshake.
pub(super) fn check(
    der: &[u8],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
    proofs: &Proofs,
) -> Result<PublicKey, CertificateError> {
    let certificate = parse(der)?;
    check_validity(&certificate, now)?;
    let extension = find_extension(&certificate)?;
    check_self_signature(der, &certificate, algorithms, proofs)?;
    check_signed_key(extension, certificate.tbs_certificate.subject_pki.raw, proofs)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    if der.len() > MAX_CERTIFICATE {
        return Err(CertificateError::TooLong { len: der.len(), max: MAX_CERTIFICATE });
    }
    // Extensions are left alone, so that one that does not matter cannot be malformed.
    let parsed = X509CertificateParser::new().with_deep_parse_extensions(false).parse(der);
    let (rest, certificate) = parsed.map_err(|_| CertificateError::Malformed("not a certificate"))?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed("something follows it"));
    }
    let tbs = &certificate.tbs_certificate;
    if tbs.version != X509Version::V3 {
        return Err(CertificateError::Malformed("not of version 3"));
    }
    // RFC 5280, section 4.1.1.2.
    if tbs.signature != certificate.signature_algorithm {
        return Err(CertificateError::Malformed("two signature algorithms"));
    }
    // "Certificates MUST omit" them.
    if tbs.issuer_uid.is_some() || tbs.subject_uid.is_some() {
        return Err(CertificateError::Malformed("unique ids"));
    }
    Ok(certificate)
}

/// Both ends are included (RFC 5280, section 4.1.2.5).
fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotYetValid);
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

/// The content of the libp2p extension, wherever it is among the others.
///
/// Of those that may be critical, two are understood: py-libp2p sends them. Basic constraints are about certificates
/// that sign others, of which there are none here; key usage has to allow signatures (RFC 8446, section 4.4.2.2).
fn find_extension<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a [u8], CertificateError> {
    const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
    const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];
    let mut found = None;
    for extension in certificate.extensions() {
        if is(extension, &EXTENSION) {
            if found.replace(extension.value).is_some() {
                return Err(CertificateError::DoubledExtension);
            }
        } else if is(extension, &KEY_USAGE) {
            let (_, usage) =
                BitString::from_der(extension.value).map_err(|_| CertificateError::Malformed("key usage"))?;
            if usage.data.first().is_none_or(|bits| bits & 0x80 == 0) {
                return Err(CertificateError::KeyUsage);
            }
        } else if extension.critical && !is(extension, &BASIC_CONSTRAINTS) {
            return Err(CertificateError::UnknownCritical(extension.oid.to_id_string()));
        }
    }
    found.ok_or(CertificateError::NoExtension)
}

fn is(extension: &X509Extension<'_>, id: &[u64]) -> bool {
    extension.oid.iter().is_some_and(|arcs| arcs.eq(id.iter().copied()))
}

/// Algorithms are told by the bytes of their identifiers, parameters included, as webpki does.
fn check_self_signature(
    der: &[u8],
    certificate: &X509Certificate<'_>,
    algorithms: &WebPkiSupportedAlgorithms,
    proofs: &Proofs,
) -> Result<(), CertificateError> {
    let (_, outer) = sequence(der)?;
    let (after_tbs, _) = sequence(outer)?;
    let (after_algorithm, signature_algorithm) = sequence(after_tbs)?;
    if after_algorithm.first() != Some(&BIT_STRING) {
        return Err(CertificateError::Malformed("no signature"));
    }
    let key = &certificate.tbs_certificate.subject_pki;
    let (_, key_info) = sequence(key.raw)?;
    let (_, key_algorithm) = sequence(key_info)?;

    let algorithm = algorithms
        .all
        .iter()
        .find(|one| {
            one.signature_alg_id().as_ref() == signature_algorithm
                && one.public_key_alg_id().as_ref() == key_algorithm
        })
        .ok_or(CertificateError::UnknownAlgorithm)?;
    let signature = &certificate.signature_value;
    if signature.unused_bits != 0 || key.subject_public_key.unused_bits != 0 {
        return Err(CertificateError::Malformed("a signature or key that ends within a byte"));
    }
    let verify = || {
        let (key, message) = (&key.subject_public_key.data, certificate.tbs_certificate.as_ref());
        algorithm.verify_signature(key, message, &signature.data).is_ok()
    };
    // Key, message, signature and the algorithm's name are all in it.
    if proofs.hold(&[der], verify) { Ok(()) } else { Err(CertificateError::SelfSignature) }
}

/// What follows the sequence that `der` begins with, and what is in it.
fn sequence(der: &[u8]) -> Result<(&[u8], &[u8]), CertificateError> {
    match Any::from_der(der) {
        Ok((rest, any)) if der.first() == Some(&SEQUENCE) => Ok((rest, any.data)),
        _ => Err(CertificateError::Malformed("not a certificate")),
    }
}

fn check_signed_key(
    content: &[u8],
    certificate_key: &[u8],
    proofs: &Proofs,
) -> Result<PublicKey, CertificateError> {
    let malformed = |_| CertificateError::Malformed("libp2p extension");
    let (rest, sequence) = Sequence::from_der(content).map_err(malformed)?;
    let (after_key, key) = OctetString::from_der(&sequence.content).map_err(malformed)?;
    let (after_signature, signature) = OctetString::from_der(after_key).map_err(malformed)?;
    if !rest.is_empty() || !after_signature.is_empty() {
        return Err(CertificateError::Malformed("libp2p extension"));
    }
    let key = PublicKey::from_protobuf(key.as_cow()).map_err(CertificateError::Key)?;
    if !proofs.verify(&key, &[SIGNED_PREFIX, certificate_key].concat(), signature.as_cow()) {
        return Err(CertificateError::BadSignature);
    }
    Ok(key)
}
