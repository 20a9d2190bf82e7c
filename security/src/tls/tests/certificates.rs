//! What certificates are taken, and what is said of the others.

use std::{sync::LazyLock, time::Duration};

use data_encoding::HEXLOWER;
use peerage_core::{
    PublicKey,
    identity::{KeyType, Proofs},
};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::{crypto::aws_lc_rs::default_provider, pki_types::UnixTime, server::ParsedCertificate};

use super::{
    super::{certificate::*, testing::vectors},
    MAX_CERTIFICATE, key,
};
use crate::Fault;

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;

fn check_at(der: &[u8], now: u64) -> Result<PublicKey, CertificateError> {
    // What one test has seen, others have: nobody is believed the more for what was seen of somebody else.
    static PROOFS: LazyLock<Proofs> = LazyLock::new(Proofs::default);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    check(der, now, &default_provider().signature_verification_algorithms, &PROOFS)
}

fn checked(der: &[u8]) -> Result<PublicKey, CertificateError> {
    check_at(der, NOW)
}

fn extension(content: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&EXTENSION, content)
}

/// An extension that nobody knows.
fn unknown(len: usize, critical: bool) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 53594, 99], vec![5; len]);
    extension.set_criticality(critical);
    extension
}

/// A certificate of peer 1 that differs from an honest one in what `alter` does.
pub(super) fn altered(alter: impl FnOnce(&mut CertificateParams)) -> (Vec<u8>, KeyPair) {
    of_kind(&rcgen::PKCS_ECDSA_P256_SHA256, alter)
}

fn of_kind(
    algorithm: &'static SignatureAlgorithm,
    alter: impl FnOnce(&mut CertificateParams),
) -> (Vec<u8>, KeyPair) {
    let certificate_key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let content = signed_key(&key(1), &certificate_key.subject_public_key_info()).unwrap();
    params.custom_extensions = vec![extension(content)];
    alter(&mut params);
    (params.self_signed(&certificate_key).unwrap().der().to_vec(), certificate_key)
}

fn check_altered(alter: impl FnOnce(&mut CertificateParams)) -> Result<PublicKey, CertificateError> {
    checked(&altered(alter).0)
}

fn vector(hex: &str) -> Vec<u8> {
    HEXLOWER.decode(hex.as_bytes()).unwrap()
}

#[test]
fn the_certificates_of_the_spec() {
    for (hex, key_type, peer) in [
        (vectors::ED25519, KeyType::Ed25519, "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"),
        (vectors::ECDSA, KeyType::Ecdsa, "QmfXbAwNjJLXfesgztEHe8HwgVDCMMpZ9Eax1HYq6hn9uE"),
        (vectors::SECP256K1, KeyType::Secp256k1, "16Uiu2HAkutTMoTzDw1tCvSRtu6YoixJwS46S1ZFxW8hSx9fWHiPs"),
    ] {
        let key = checked(&vector(hex)).unwrap();
        assert_eq!((key.key_type(), key.peer_id().to_string().as_str()), (key_type, peer));
    }
    assert_eq!(checked(&vector(vectors::FORGED)), Err(CertificateError::BadSignature));
}

#[test]
fn one_of_another_make() {
    const NEXT_YEAR: u64 = NOW + 366 * 24 * 60 * 60;
    let key = check_at(&vector(vectors::OPENSSL), NEXT_YEAR).unwrap();
    assert_eq!(key.to_protobuf()[4..], vector(vectors::OPENSSL_IDENTITY));
}

#[test]
fn ours_has_the_libp2p_extension_and_no_other() {
    let (one, _) = issue(&key(1)).unwrap();
    assert_eq!(checked(&one).unwrap(), *key(1).public());
    let (_, parsed) = x509_parser::parse_x509_certificate(&one).unwrap();
    let ids: Vec<_> = parsed.extensions().iter().map(|one| one.oid.to_id_string()).collect();
    assert_eq!(ids, ["1.3.6.1.4.1.53594.1.1"]);
    assert_eq!(parsed.raw_serial().len(), 16);
    // Each has a key and a serial number of its own.
    let (two, _) = issue(&key(1)).unwrap();
    let (_, other) = x509_parser::parse_x509_certificate(&two).unwrap();
    assert_ne!(parsed.raw_serial(), other.raw_serial());
    assert_ne!(parsed.public_key().raw, other.public_key().raw);
}

#[test]
fn it_is_valid_from_its_first_second_to_its_last() {
    let (der, _) = altered(|params| {
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2026, 1, 2);
    });
    const DAY: u64 = 24 * 60 * 60;
    assert_eq!(check_at(&der, NOW - 1), Err(CertificateError::NotYetValid));
    assert!(check_at(&der, NOW).is_ok());
    assert!(check_at(&der, NOW + DAY).is_ok());
    assert_eq!(check_at(&der, NOW + DAY + 1), Err(CertificateError::Expired));
    assert_eq!(check_at(&der, u64::MAX), Err(CertificateError::Expired));
    assert_eq!(check_at(&der, 0), Err(CertificateError::NotYetValid));
}

#[test]
fn the_extension_is_found_anywhere_once() {
    // As py-libp2p has it: two critical ones before it.
    let py = |params: &mut CertificateParams| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    };
    assert!(check_altered(py).is_ok());
    assert!(check_altered(|params| params.custom_extensions.insert(0, unknown(9, false))).is_ok());
    assert!(check_altered(|params| params.custom_extensions.push(unknown(9, false))).is_ok());
    // As rust-libp2p has it.
    assert!(check_altered(|params| params.custom_extensions[0].set_criticality(true)).is_ok());

    let missing = check_altered(|params| params.custom_extensions = vec![unknown(9, false)]);
    assert_eq!(missing, Err(CertificateError::NoExtension));
    assert_eq!(check_altered(|params| params.custom_extensions.clear()).unwrap_err().fault(), Fault::Remote);
    let doubled = check_altered(|params| {
        let again = params.custom_extensions[0].clone();
        params.custom_extensions.push(again);
    });
    assert_eq!(doubled, Err(CertificateError::DoubledExtension));
}

#[test]
fn what_is_critical_has_to_be_understood() {
    for at in [0, 1] {
        let result = check_altered(|params| params.custom_extensions.insert(at, unknown(9, true)));
        assert_eq!(result, Err(CertificateError::UnknownCritical("1.3.6.1.4.1.53594.99".to_owned())));
    }
    assert!(check_altered(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).is_ok());
    let for_signing_certificates_only =
        check_altered(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    assert_eq!(for_signing_certificates_only, Err(CertificateError::KeyUsage));
}

#[test]
fn the_identity_must_have_signed_this_key() {
    let (of_another, _) = issue(&key(1)).unwrap();
    let signed_another_key = check_altered(|params| {
        let content = signed_key(&key(1), subject_key(&of_another).unwrap()).unwrap();
        params.custom_extensions = vec![extension(content)];
    });
    assert_eq!(signed_another_key, Err(CertificateError::BadSignature));
    for content in [&b""[..], b"\x30\x00", b"\x30\x02\x04\x00", b"\x30\x04\x04\x00\x04\x00\x00", b"\x04\x00"]
    {
        let result = check_altered(|params| params.custom_extensions = vec![extension(content.to_vec())]);
        assert_eq!(result, Err(CertificateError::Malformed("libp2p extension")), "{content:?}");
    }
    let no_key = check_altered(|params| {
        params.custom_extensions = vec![extension(b"\x30\x04\x04\x00\x04\x00".to_vec())];
    });
    assert!(matches!(no_key, Err(CertificateError::Key(_))), "{no_key:?}");
}

#[test]
fn somebody_elses_signature_on_the_certificate() {
    let (issuer_key, certificate_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    let content = signed_key(&key(1), &certificate_key.subject_public_key_info()).unwrap();
    params.custom_extensions = vec![extension(content)];
    let issuer = Issuer::from_params(&params, &issuer_key);
    let der = params.signed_by(&certificate_key, &issuer).unwrap().der().to_vec();
    assert_eq!(checked(&der), Err(CertificateError::SelfSignature));
}

#[test]
fn keys_of_other_implementations() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        assert!(checked(&of_kind(algorithm, |_| ()).0).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn odd_but_honest_ones() {
    // UTCTime, GeneralizedTime, and dates that leave the range of 32 and of 34 bits.
    for (from, to) in [(1950, 2049), (1949, 2050), (1970, 9999), (1, 2038)] {
        let result = check_altered(|params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 12, 31);
        });
        assert!(result.is_ok(), "{from} to {to}: {result:?}");
    }
    for serial in [&[0][..], &[1], &[0xff; 20], &[0x80; 8]] {
        let result = check_altered(|params| params.serial_number = Some(SerialNumber::from_slice(serial)));
        assert!(result.is_ok(), "{serial:?}: {result:?}");
    }
    for name in ["", "libp2p.io", "ä", &"x".repeat(300)] {
        let result = check_altered(|params| params.distinguished_name.push(DnType::CommonName, name));
        assert!(result.is_ok(), "{name}: {result:?}");
    }
}

#[test]
fn length_is_limited() {
    let padded = |len| altered(|params| params.custom_extensions.push(unknown(len, false))).0;
    // The signature has one length more or less.
    let sized = |len: usize| {
        let room = len - padded(4000).len() + 4000;
        (0..).map(|i| padded(room - 4 + i % 8)).find(|der| der.len() == len).unwrap()
    };
    assert!(checked(&sized(MAX_CERTIFICATE)).is_ok());
    let error = checked(&sized(MAX_CERTIFICATE + 1)).unwrap_err();
    assert_eq!(error, CertificateError::TooLong { len: MAX_CERTIFICATE + 1, max: MAX_CERTIFICATE });
}

#[test]
fn every_bit_counts() {
    let (der, _) = issue(&key(1)).unwrap();
    assert!(checked(&der).is_ok() && checked(&der).is_ok(), "and again");
    for bit in 0..der.len() * 8 {
        let mut flipped = der.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(checked(&flipped).is_err(), "bit {bit} of {}", HEXLOWER.encode(&der));
    }
}

#[test]
fn nothing_may_be_missing_or_follow() {
    let (der, _) = issue(&key(1)).unwrap();
    for len in 0..der.len() {
        assert!(matches!(checked(&der[..len]), Err(CertificateError::Malformed(_))), "{len}");
    }
    assert!(matches!(checked(&[&der[..], &[0]].concat()), Err(CertificateError::Malformed(_))));
}

#[test]
fn older_versions_are_refused() {
    let mut der = issue(&key(1)).unwrap().0.to_vec();
    let version = der.windows(5).position(|five| five == [0xa0, 3, 2, 1, 2]).unwrap();
    for older in [0, 1] {
        der[version + 4] = older;
        assert_eq!(checked(&der), Err(CertificateError::Malformed("not of version 3")));
    }
}

/// Some bytes of an honest certificate replaced by others, with lengths that no longer fit.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let der = vector(vectors::ED25519);
    let len = der.len();
    (0..len, 0..40usize, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(move |(at, cut, new)| {
        let mut der = der.clone();
        der.splice(at..(at + cut).min(len), new);
        der
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(der in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = checked(&der);
        let _ = subject_key(&der);
    }

    #[test]
    fn no_mangled_certificate_panics_or_passes_as_another(der in mangled()) {
        let _ = subject_key(&der);
        if let Ok(key) = checked(&der) {
            prop_assert_eq!(der, vector(vectors::ED25519));
            prop_assert_eq!(key.key_type(), KeyType::Ed25519);
        }
    }

    /// A second reader, webpki's, finds a certificate in whatever passes here, and the same key in it.
    #[test]
    fn what_passes_is_a_certificate_to_others(
        serial in proptest::collection::vec(any::<u8>(), 1..20),
        name in ".{0,40}",
        padding in 0..2000usize,
    ) {
        let (der, certificate_key) = altered(|params| {
            params.serial_number = Some(SerialNumber::from_slice(&serial));
            params.distinguished_name.push(DnType::CommonName, name);
            params.custom_extensions.push(unknown(padding, false));
        });
        prop_assert!(checked(&der).is_ok());
        prop_assert_eq!(subject_key(&der).unwrap(), certificate_key.subject_public_key_info());
        let other = rustls::pki_types::CertificateDer::from(der);
        let other = ParsedCertificate::try_from(&other).unwrap();
        let key = other.subject_public_key_info();
        prop_assert_eq!(key.as_ref(), certificate_key.subject_public_key_info());
    }
}
