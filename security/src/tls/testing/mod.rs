//! Certificates that prove nothing, for the tests of everything that judges certificates.

pub mod vectors;

use peerage_core::Keypair;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, date_time_ymd,
};

use super::{
    CertificateError, MAX_CERTIFICATE,
    certificate::{self, EXTENSION, signed_key},
};

/// A certificate of which something is wrong, and its own key.
#[derive(Debug)]
#[non_exhaustive]
pub struct Hostile {
    /// What it is.
    pub name: &'static str,
    /// In DER.
    pub certificate: Vec<u8>,
    /// Its key, in PKCS #8.
    pub key: Vec<u8>,
    /// What has to be said of it, today.
    pub wrong: CertificateError,
}

/// One of `identity`'s that is in order, and its key in PKCS #8.
#[allow(clippy::expect_used, reason = "for tests")]
pub fn issue(identity: &Keypair) -> (Vec<u8>, Vec<u8>) {
    let (certificate, key) = certificate::issue(identity).expect("randomness");
    (certificate.to_vec(), key.secret_der().to_vec())
}

/// Certificates of the peer with this identity, each spoiled in one way.
#[allow(clippy::expect_used, reason = "for tests")]
pub fn hostile(identity: &Keypair) -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut spoiled = |name, wrong, spoil: &dyn Fn(&mut CertificateParams)| {
        let key = KeyPair::generate().expect("randomness");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.custom_extensions = vec![extension(identity, &key)];
        spoil(&mut params);
        let certificate = params.self_signed(&key).expect("signed").der().to_vec();
        all.push(Hostile { name, certificate, key: key.serialize_der(), wrong });
    };
    spoiled("expired", CertificateError::Expired, &|params| params.not_after = date_time_ymd(2020, 1, 1));
    spoiled("of the future", CertificateError::NotYetValid, &|params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    spoiled("without the extension", CertificateError::NoExtension, &|params| {
        params.custom_extensions.clear();
    });
    spoiled("with two of them", CertificateError::DoubledExtension, &|params| {
        params.custom_extensions.extend(params.custom_extensions.clone());
    });
    spoiled("with a critical one of no kind", unknown_critical(), &|params| {
        let mut unknown = CustomExtension::from_oid_content(&UNKNOWN, vec![5; 9]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    });
    spoiled("for signing certificates alone", CertificateError::KeyUsage, &|params| {
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    });
    spoiled("of another key", CertificateError::BadSignature, &|params| {
        let another = KeyPair::generate().expect("randomness");
        params.custom_extensions = vec![extension(identity, &another)];
    });
    for content in [&b""[..], b"\x30\x00", b"\x30\x04\x04\x00\x04\x00\x00", b"\x04\x00"] {
        spoiled(
            "with an extension that is none",
            CertificateError::Malformed("libp2p extension"),
            &|params| {
                params.custom_extensions =
                    vec![CustomExtension::from_oid_content(&EXTENSION, content.to_vec())];
            },
        );
    }

    let (own, issuer) = (KeyPair::generate().expect("randomness"), KeyPair::generate().expect("randomness"));
    let mut params = CertificateParams::default();
    params.custom_extensions = vec![extension(identity, &own)];
    let signed = params.signed_by(&own, &Issuer::from_params(&params, &issuer)).expect("signed");
    all.push(Hostile {
        name: "signed by another",
        certificate: signed.der().to_vec(),
        key: own.serialize_der(),
        wrong: CertificateError::SelfSignature,
    });

    params.custom_extensions.push(CustomExtension::from_oid_content(&UNKNOWN, vec![0; MAX_CERTIFICATE]));
    let certificate = params.self_signed(&own).expect("signed").der().to_vec();
    let wrong = CertificateError::TooLong { len: certificate.len(), max: MAX_CERTIFICATE };
    all.push(Hostile { name: "too long", certificate, key: own.serialize_der(), wrong });
    all
}

/// An extension that nobody knows.
const UNKNOWN: [u64; 8] = [1, 3, 6, 1, 4, 1, 53594, 99];

fn unknown_critical() -> CertificateError {
    CertificateError::UnknownCritical("1.3.6.1.4.1.53594.99".to_owned())
}

#[allow(clippy::expect_used, reason = "for tests")]
fn extension(identity: &Keypair, key: &KeyPair) -> CustomExtension {
    let content = signed_key(identity, &key.subject_public_key_info()).expect("signed");
    CustomExtension::from_oid_content(&EXTENSION, content)
}
