//! Keys of every type: the vectors of the spec, signatures of others, the forms and numbers that are refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{
    ALL, ECDSA_POINT, bit_string, der, ecdsa_info, hex, integer, message, rsa_info, rsa_modulus, vector,
};
use k256::ecdsa::Signature;
use peerage_core::identity::{
    DecodeError, DerError, KeyType, MAX_INLINE_KEY_LEN, MAX_RSA_BITS, MAX_RSA_EXPONENT, MIN_RSA_BITS,
};
use peerage_core::{Keypair, PublicKey};
use proptest::prelude::*;

/// A key of each type; the RSA key of the vectors, which need not be made.
fn keypairs() -> Vec<Keypair> {
    let mut keypairs: Vec<Keypair> = [KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa]
        .into_iter()
        .map(Keypair::generate_of)
        .collect();
    keypairs.push(Keypair::from_protobuf(&vector("rsa-private")).unwrap());
    keypairs
}

fn public(key_type: u8, data: &[u8]) -> Result<PublicKey, DecodeError> {
    PublicKey::from_protobuf(&message(key_type, data))
}

fn private(key_type: u8, data: &[u8]) -> Result<Keypair, DecodeError> {
    Keypair::from_protobuf(&message(key_type, data))
}

const RSA: u8 = 0;
const ED25519: u8 = 1;
const SECP256K1: u8 = 2;
const ECDSA: u8 = 3;

fn wrong_length(key_type: KeyType, len: usize) -> DecodeError {
    DecodeError::WrongLength { key_type, len }
}

fn bad_der(key_type: KeyType, error: DerError) -> DecodeError {
    DecodeError::Der { key_type, error }
}

// What the spec and other implementations say.

#[test]
fn the_vectors_of_the_spec() {
    for (name, key_type, inlined) in [
        ("ed25519", KeyType::Ed25519, true),
        ("secp256k1", KeyType::Secp256k1, true),
        ("ecdsa", KeyType::Ecdsa, false),
        ("rsa", KeyType::Rsa, false),
    ] {
        let encoded = vector(&format!("{name}-public"));
        let keypair = Keypair::from_protobuf(&vector(&format!("{name}-private"))).unwrap();
        let public = PublicKey::from_protobuf(&encoded).unwrap();
        assert_eq!(keypair.public(), &public, "{name}");
        assert_eq!(public.key_type(), key_type);
        assert_eq!(public.to_protobuf(), encoded, "{name}");
        assert_eq!(*keypair.to_protobuf(), vector(&format!("{name}-private")), "{name}");
        assert!(public.verify(b"message", &keypair.sign(b"message")), "{name}");

        // At most 42 bytes are the id itself, more are hashed.
        assert_eq!(encoded.len() <= MAX_INLINE_KEY_LEN, inlined, "{name}");
        let id = keypair.peer_id();
        assert_eq!(id.public_key(), inlined.then_some(public), "{name}");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &encoded);
        let expected = if inlined {
            [&[0x00, encoded.len() as u8][..], &encoded].concat()
        } else {
            [&[0x12, 32][..], hash.as_ref()].concat()
        };
        assert_eq!(id.as_bytes(), expected, "{name}");
        assert_eq!(id.to_string().starts_with("Qm"), !inlined, "{name}");
    }
}

/// RFC 6979, A.2.5, with SHA-256 and "sample".
#[test]
fn a_signature_of_rfc_6979() {
    let point = hex("0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6\
                     7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299");
    let r = hex("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716");
    let s = hex("f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8");
    let key = public(ECDSA, &ecdsa_info(&point)).unwrap();
    let signature = der(0x30, &[integer(&r), integer(&s)].concat());
    assert!(key.verify(b"sample", &signature));
    assert!(!key.verify(b"simple", &signature));
    // As js-libp2p writes them, with nothing around the numbers.
    assert!(!key.verify(b"sample", &[r, s].concat()));
}

/// The signature that Bitcoin's libraries test against: RFC 6979 with the key 1.
#[test]
fn a_signature_of_bitcoin() {
    let mut one = [0; 32];
    one[31] = 1;
    let keypair = private(SECP256K1, &one).unwrap();
    let r = hex("934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8");
    let s = hex("2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5");
    let signature = der(0x30, &[integer(&r), integer(&s)].concat());
    assert_eq!(keypair.sign(b"Satoshi Nakamoto"), signature);
    assert!(keypair.public().verify(b"Satoshi Nakamoto", &signature));
}

/// A key of the largest size and its signature, made with OpenSSL. Such signatures are the same whoever makes them.
#[test]
fn an_rsa_key_of_8192_bits() {
    let keypair = Keypair::from_protobuf(&vector("openssl-rsa-8192")).unwrap();
    let signature = vector("openssl-rsa-8192-signature");
    assert_eq!(signature.len() * 8, MAX_RSA_BITS);
    assert_eq!(keypair.sign(b"message"), signature);
    let public = PublicKey::from_protobuf(&keypair.public().to_protobuf()).unwrap();
    assert!(public.verify(b"message", &signature));
    assert!(!public.verify(b"massage", &signature));
}

// What holds for all types.

#[test]
fn keys_that_were_made_come_back() {
    for key_type in ALL {
        let keypair = Keypair::generate_of(key_type);
        assert_eq!(keypair.public().key_type(), key_type);
        let again = Keypair::from_protobuf(&keypair.to_protobuf()).unwrap();
        assert_eq!(again.public(), keypair.public());
        assert_eq!(again.to_protobuf(), keypair.to_protobuf());
        let public = PublicKey::from_protobuf(&keypair.public().to_protobuf()).unwrap();
        assert_eq!(public.peer_id(), keypair.peer_id());
        assert!(public.verify(b"message", &again.sign(b"message")), "{key_type}");
        assert!(public.verify(b"", &again.sign(b"")), "{key_type}");
        assert_ne!(Keypair::generate_of(key_type).public(), keypair.public());
        assert_eq!(format!("{keypair:?}"), format!("Keypair({key_type} of {})", keypair.peer_id()));
    }
    assert_eq!(Keypair::generate().public().key_type(), KeyType::Ed25519);
}

/// 2048 bits, as documented: the signature has as many.
#[test]
fn rsa_keys_are_made_with_2048_bits() {
    assert_eq!(Keypair::generate_of(KeyType::Rsa).sign(b"").len() * 8, MIN_RSA_BITS);
}

/// CVE-2019-15545: any signature of the right length was taken.
#[test]
fn cve_2019_15545_every_bit_counts() {
    for keypair in keypairs() {
        let key_type = keypair.public().key_type();
        let text = *b"message";
        let signature = keypair.sign(&text);
        let encoded = keypair.public().to_protobuf();
        // 4096-bit RSA is slow to check: every 7th bit, which meets every bit of a byte.
        let step = if key_type == KeyType::Rsa { 7 } else { 1 };
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        for bit in (0..signature.len() * 8).step_by(step) {
            assert!(!keypair.public().verify(&text, &flipped(&signature, bit)), "{key_type} {bit}");
        }
        for bit in 0..text.len() * 8 {
            assert!(!keypair.public().verify(&flipped(&text, bit), &signature), "{key_type} {bit}");
        }
        for bit in (0..encoded.len() * 8).step_by(step) {
            if let Ok(key) = PublicKey::from_protobuf(&flipped(&encoded, bit)) {
                assert_ne!(&key, keypair.public(), "{key_type} {bit}");
                assert!(!key.verify(&text, &signature), "{key_type} {bit}");
            }
        }
        for len in 0..signature.len() {
            assert!(!keypair.public().verify(&text, &signature[..len]), "{key_type} {len}");
        }
        assert!(!keypair.public().verify(&text, &[&signature[..], &[0]].concat()));
        assert!(!keypair.public().verify(&text, &vec![0; signature.len()]));
    }
}

#[test]
fn signatures_are_of_one_key_and_one_type() {
    let keypairs = keypairs();
    for signer in &keypairs {
        let signature = signer.sign(b"message");
        for other in &keypairs {
            let same = signer.public() == other.public();
            assert_eq!(other.public().verify(b"message", &signature), same);
        }
        let stranger = Keypair::generate_of(signer.public().key_type());
        assert!(!stranger.public().verify(b"message", &signature));
    }
}

/// As js-libp2p 3578 and 3587 had it: lengths that say more than there is, and malformed keys that were not refused.
#[test]
fn keys_that_are_cut_or_too_long() {
    for name in ["ed25519", "secp256k1", "ecdsa", "rsa"] {
        let (number, data) = common::parts(&vector(&format!("{name}-public")));
        for len in 0..data.len() {
            assert!(public(number, &data[..len]).is_err(), "{name} {len}");
        }
        assert!(public(number, &[&data[..], &[0]].concat()).is_err(), "{name}");
        let (number, data) = common::parts(&vector(&format!("{name}-private")));
        for len in 0..data.len() {
            assert!(private(number, &data[..len]).is_err(), "{name} {len}");
        }
        assert!(private(number, &[&data[..], &[0]].concat()).is_err(), "{name}");
    }
}

#[test]
fn types_are_not_mixed_up() {
    for name in ["ed25519", "secp256k1", "ecdsa", "rsa"] {
        let (number, data) = common::parts(&vector(&format!("{name}-public")));
        let (_, secret) = common::parts(&vector(&format!("{name}-private")));
        for other in (0..4).filter(|other| *other != number) {
            assert!(public(other, &data).is_err(), "{name} as {other}");
            assert!(private(other, &secret).is_err(), "{name} as {other}");
        }
        assert_eq!(public(4, &data), Err(DecodeError::UnknownType(4)));
    }
}

// secp256k1

#[test]
fn secp256k1_points() {
    let fails = |text: &str| public(SECP256K1, &hex(text)).unwrap_err();
    let not_on_curve = DecodeError::NotOnCurve(KeyType::Secp256k1);
    let x = |last: &str| format!("{}{last}", "00".repeat(31));
    // x = 1 is of a point, x = 5 of none.
    assert!(public(SECP256K1, &hex(&format!("02{}", x("01")))).is_ok());
    assert_eq!(fails(&format!("02{}", x("05"))), not_on_curve);
    // The field's prime, and 1 once more.
    let p = |last: &str| format!("{}fffffffefffffc{last}", "ff".repeat(24));
    assert_eq!(fails(&format!("02{}", p("2f"))), not_on_curve);
    assert_eq!(fails(&format!("02{}", p("30"))), not_on_curve);
    assert_eq!(fails(&format!("02{}", "ff".repeat(32))), not_on_curve);
    // The neutral element; other tags.
    assert_eq!(fails("00"), wrong_length(KeyType::Secp256k1, 1));
    // 5 is a form without the sign of y, which libraries take.
    for tag in ["00", "01", "04", "05", "06", "07", "ff"] {
        assert_eq!(fails(&format!("{tag}{}", x("01"))), not_on_curve, "{tag}");
    }
}

/// Some decoders take them; whoever hashed the key as it came would see another peer.
#[test]
fn secp256k1_points_that_are_not_compressed() {
    let point = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798\
                 483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";
    assert!(public(SECP256K1, &hex(&format!("02{}", &point[..64]))).is_ok());
    for tag in ["04", "06", "07"] {
        let key = hex(&format!("{tag}{point}"));
        assert_eq!(public(SECP256K1, &key), Err(wrong_length(KeyType::Secp256k1, 65)));
    }
    assert_eq!(public(SECP256K1, &hex(point)), Err(wrong_length(KeyType::Secp256k1, 64)));
}

#[test]
fn secp256k1_private_numbers() {
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd03641";
    let out_of_range = DecodeError::OutOfRange(KeyType::Secp256k1);
    let read = |text: &str| private(SECP256K1, &hex(text));
    assert_eq!(read(&"00".repeat(32)).unwrap_err(), out_of_range);
    assert!(read(&format!("{order}40")).is_ok());
    assert_eq!(read(&format!("{order}41")).unwrap_err(), out_of_range);
    assert_eq!(read(&"ff".repeat(32)).unwrap_err(), out_of_range);
    for len in [31, 33] {
        assert_eq!(read(&"01".repeat(len)).unwrap_err(), wrong_length(KeyType::Secp256k1, len));
    }
}

/// BIP 62: of the two signatures of a message, the one with the smaller s.
#[test]
fn secp256k1_signatures_cannot_be_turned_over() {
    let keypair = Keypair::generate_of(KeyType::Secp256k1);
    for number in 0..32_u8 {
        let signature = keypair.sign(&[number]);
        let parsed = Signature::from_der(&signature).unwrap();
        let turned = Signature::from_scalars(parsed.r(), -parsed.s()).unwrap();
        assert!(keypair.public().verify(&[number], &signature));
        assert!(!keypair.public().verify(&[number], turned.to_der().as_bytes()));
    }
}

#[test]
fn secp256k1_signatures_have_one_encoding() {
    let keypair = Keypair::generate_of(KeyType::Secp256k1);
    let parsed = Signature::from_der(&keypair.sign(b"m")).unwrap();
    let (r, s) = parsed.split_bytes();
    let verify = |signature: &[u8]| keypair.public().verify(b"m", signature);
    let numbers = [integer(&r), integer(&s)].concat();
    assert!(verify(&der(0x30, &numbers)));
    assert!(!verify(&[&[0x30, 0x81, numbers.len() as u8][..], &numbers].concat()));
    let padded = [der(0x02, &[&[0, 0][..], &r].concat()), integer(&s)].concat();
    assert!(!verify(&der(0x30, &padded)));
    assert!(!verify(&[r, s].concat()));
    for zero in [[integer(&[0]), integer(&s)], [integer(&r), integer(&[0])]] {
        assert!(!verify(&der(0x30, &zero.concat())));
    }
}

// ECDSA

#[test]
fn ecdsa_points() {
    let fails = |point: &[u8]| public(ECDSA, &ecdsa_info(point)).unwrap_err();
    let not_on_curve = DecodeError::NotOnCurve(KeyType::Ecdsa);
    let point = hex(ECDSA_POINT);
    assert!(public(ECDSA, &ecdsa_info(&point)).is_ok());

    let mut beside = point.clone();
    beside[64] ^= 1;
    assert_eq!(fails(&beside), not_on_curve);
    assert_eq!(fails(&[&[4][..], &[0; 64]].concat()), not_on_curve);
    // The neutral element, a compressed point, and the hybrid forms, which say y twice.
    assert_eq!(fails(&[0]), wrong_length(KeyType::Ecdsa, 1));
    assert_eq!(fails(&[&[2][..], &point[1..33]].concat()), wrong_length(KeyType::Ecdsa, 33));
    for tag in [0, 2, 3, 5, 6, 7] {
        assert_eq!(fails(&[&[tag][..], &point[1..]].concat()), not_on_curve, "{tag}");
    }

    // x = 0 is of a point; the field's prime is not another way to say so.
    let y = hex("66485c780e2f83d72433bd5d84a06bb6541c2af31dae871728bf856a174f93f4");
    let p = hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    assert!(public(ECDSA, &ecdsa_info(&[&[4][..], &[0; 32], &y].concat())).is_ok());
    assert_eq!(fails(&[&[4][..], &p, &y].concat()), not_on_curve);
}

/// go-libp2p reads some of them.
#[test]
fn other_curves_are_named() {
    for (oid, len, name) in [
        ("2b81040021", 57, "P-224"),
        ("2b81040022", 97, "P-384"),
        ("2b81040023", 133, "P-521"),
        ("2b8104000a", 65, "secp256k1"),
        ("2b240303020801010d", 129, "an unknown curve"),
    ] {
        let algorithm = der(0x30, &[der(6, &hex("2a8648ce3d0201")), der(6, &hex(oid))].concat());
        let info = der(0x30, &[algorithm, bit_string(&vec![4; len])].concat());
        assert_eq!(public(ECDSA, &info), Err(DecodeError::Curve(name)));
        let key = [der(2, &[1]), der(4, &vec![1; len / 2]), der(0xa0, &der(6, &hex(oid)))].concat();
        assert_eq!(private(ECDSA, &der(0x30, &key)).unwrap_err(), DecodeError::Curve(name));
    }
}

/// The shape of a private key with nothing secret in it, which neither the spec nor go-libp2p has.
#[test]
fn the_ecdsa_public_keys_of_js_are_not_of_the_spec() {
    let key = [
        der(2, &[1]),
        der(0xa0, &der(6, &hex("2a8648ce3d030107"))),
        der(0xa1, &bit_string(&hex(ECDSA_POINT))),
    ];
    let error = public(ECDSA, &der(0x30, &key.concat())).unwrap_err();
    assert_eq!(error, bad_der(KeyType::Ecdsa, DerError::Tag { expected: 0x30, found: 2 }));
}

#[test]
fn ecdsa_public_keys_have_one_form() {
    let point = bit_string(&hex(ECDSA_POINT));
    let (oid, curve) = (der(6, &hex("2a8648ce3d0201")), der(6, &hex("2a8648ce3d030107")));
    let algorithm = der(0x30, &[&oid[..], &curve].concat());
    let good = [&algorithm[..], &point].concat();
    let fails = |bytes: &[u8]| public(ECDSA, bytes).unwrap_err();
    assert!(public(ECDSA, &der(0x30, &good)).is_ok());
    let ecdsa = |error| bad_der(KeyType::Ecdsa, error);

    let long_form = [&[0x30, 0x81, good.len() as u8][..], &good].concat();
    assert_eq!(fails(&long_form), ecdsa(DerError::Length));
    assert_eq!(fails(&[&[0x30, 0x80][..], &good, &[0, 0]].concat()), ecdsa(DerError::Length));
    assert_eq!(fails(&der(0x30, &[&good[..], &[5, 0]].concat())), ecdsa(DerError::Trailing));
    let extended = der(0x30, &[&oid[..], &curve, &[5, 0]].concat());
    assert_eq!(fails(&der(0x30, &[&extended[..], &point].concat())), ecdsa(DerError::Trailing));
    let rsa = der(0x30, &[der(6, &hex("2a864886f70d010101")), curve].concat());
    assert_eq!(fails(&der(0x30, &[&rsa[..], &point].concat())), ecdsa(DerError::Constant));
    let mut bits = point.clone();
    bits[2] = 1;
    assert_eq!(fails(&der(0x30, &[&algorithm[..], &bits].concat())), ecdsa(DerError::Constant));
}

#[test]
fn ecdsa_private_keys() {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc6325";
    let curve = der(0xa0, &der(6, &hex("2a8648ce3d030107")));
    let secret = "3e5b1fe9712e6c314942a750bd67485de3c1efe85b1bfb520ae8f9ae3dfa4a4c";
    let key = |version: u8, secret: &str, rest: &[u8]| {
        private(ECDSA, &der(0x30, &[&der(2, &[version])[..], &der(4, &hex(secret)), rest].concat()))
    };
    let point = der(0xa1, &bit_string(&hex(ECDSA_POINT)));
    let whole = [&curve[..], &point].concat();
    let keypair = Keypair::from_protobuf(&vector("ecdsa-private")).unwrap();
    // With and without the public half, which is written in any case.
    for rest in [&whole, &curve] {
        let read = key(1, secret, rest).unwrap();
        assert_eq!(read.public(), keypair.public());
        assert_eq!(read.to_protobuf(), keypair.to_protobuf());
    }

    let ecdsa = |error| bad_der(KeyType::Ecdsa, error);
    let out_of_range = DecodeError::OutOfRange(KeyType::Ecdsa);
    for rest in [&whole, &curve] {
        assert_eq!(key(1, &"00".repeat(32), rest).unwrap_err(), out_of_range);
        assert_eq!(key(1, &format!("{order}51"), rest).unwrap_err(), out_of_range);
        assert_eq!(key(1, &"ff".repeat(32), rest).unwrap_err(), out_of_range);
    }
    assert!(key(1, &format!("{order}50"), &curve).is_ok());
    assert_eq!(key(1, &"01".repeat(32), &whole).unwrap_err(), DecodeError::Mismatch);
    let other = der(0xa1, &bit_string(&hex(&ECDSA_POINT.replace("62", "63"))));
    assert!(key(1, secret, &[&curve[..], &other].concat()).is_err());
    for len in [31, 33] {
        assert_eq!(key(1, &"01".repeat(len), &curve).unwrap_err(), wrong_length(KeyType::Ecdsa, len));
    }
    assert_eq!(key(2, secret, &whole).unwrap_err(), ecdsa(DerError::Constant));
    assert_eq!(key(1, secret, &[]).unwrap_err(), ecdsa(DerError::Truncated));
    assert_eq!(key(1, secret, &point).unwrap_err(), ecdsa(DerError::Tag { expected: 0xa0, found: 0xa1 }));
    assert_eq!(key(1, secret, &[&whole[..], &[5, 0]].concat()).unwrap_err(), ecdsa(DerError::Trailing));
}

// RSA

/// CVE-2023-39533: signatures with huge keys took the processor of whoever checked them.
#[test]
fn cve_2023_39533_rsa_sizes() {
    let key = |bits| public(RSA, &rsa_info(&integer(&rsa_modulus(bits)), &integer(&[1, 0, 1])));
    for bits in [MIN_RSA_BITS, 2049, 3072, 4095, MAX_RSA_BITS - 1, MAX_RSA_BITS] {
        assert!(key(bits).is_ok(), "{bits}");
    }
    for bits in [1, 8, 512, 1024, MIN_RSA_BITS - 1, MAX_RSA_BITS + 1, 16_000] {
        assert_eq!(key(bits), Err(DecodeError::RsaBits(bits)));
    }
    // More than fits into an encoded public key, which a private key may have.
    assert!(matches!(key(16_384), Err(DecodeError::TooLong { .. })));
    let numbers = [der(2, &[0]), integer(&rsa_modulus(16_384))].concat();
    assert_eq!(private(RSA, &der(0x30, &numbers)).unwrap_err(), DecodeError::RsaBits(16_384));
}

/// The modulus is measured before anything else is looked at: what follows it is not even there.
#[test]
fn the_size_of_an_rsa_key_is_refused_before_the_rest_is_read() {
    for bits in [MIN_RSA_BITS - 1, MAX_RSA_BITS + 1] {
        let modulus = integer(&rsa_modulus(bits));
        let garbage = [0xff; 40];
        assert_eq!(public(RSA, &rsa_info(&modulus, &garbage)), Err(DecodeError::RsaBits(bits)));
        assert_eq!(public(RSA, &rsa_info(&modulus, &[])), Err(DecodeError::RsaBits(bits)));
        let numbers = [&der(2, &[0])[..], &modulus, &garbage].concat();
        assert_eq!(private(RSA, &der(0x30, &numbers)).unwrap_err(), DecodeError::RsaBits(bits));
    }
}

#[test]
fn rsa_exponents() {
    let key = |exponent: &[u8]| public(RSA, &rsa_info(&integer(&rsa_modulus(2048)), exponent));
    let of = |exponent: u64| {
        let bytes = exponent.to_be_bytes();
        key(&integer(&bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(7)..]))
    };
    let max = u64::from(MAX_RSA_EXPONENT);
    for exponent in [3, 5, 17, 65_537, max - 2, max] {
        assert!(of(exponent).is_ok(), "{exponent}");
    }
    let beyond = [0xffff_ffff, 0x1_0000_0001, 0x1_0000_0003, u64::MAX];
    for exponent in [0, 1, 2, 65_536, max + 1, max + 2].into_iter().chain(beyond) {
        assert_eq!(of(exponent), Err(DecodeError::RsaExponent), "{exponent}");
    }
    // As long as the modulus: checking one signature would take a thousand times as long.
    assert_eq!(key(&integer(&rsa_modulus(2048))), Err(DecodeError::RsaExponent));
    let negative = key(&der(2, &[0x81]));
    assert_eq!(negative, Err(bad_der(KeyType::Rsa, DerError::Integer)));
}

#[test]
fn rsa_moduli() {
    let key = |modulus: &[u8]| public(RSA, &rsa_info(modulus, &integer(&[1, 0, 1])));
    let mut even = rsa_modulus(2048);
    *even.last_mut().unwrap() = 0xfe;
    assert_eq!(key(&integer(&even)), Err(DecodeError::RsaModulus));
    assert_eq!(key(&integer(&[0])), Err(DecodeError::RsaBits(0)));
    let malformed = Err(bad_der(KeyType::Rsa, DerError::Integer));
    // Without the zero in front it is negative; with two of them there is one too many.
    assert_eq!(key(&der(2, &rsa_modulus(2048))), malformed);
    assert_eq!(key(&der(2, &[&[0, 0][..], &rsa_modulus(2048)].concat())), malformed);
    assert_eq!(key(&der(2, &[&[0][..], &rsa_modulus(2047)].concat())), malformed);
    assert_eq!(key(&der(2, &[])), malformed);
}

#[test]
fn rsa_public_keys_have_one_form() {
    let numbers = [integer(&rsa_modulus(2048)), integer(&[1, 0, 1])].concat();
    let oid = der(6, &hex("2a864886f70d010101"));
    let info = |algorithm: &[u8], key: &[u8], rest: &[u8]| {
        public(RSA, &der(0x30, &[&der(0x30, algorithm)[..], &bit_string(key), rest].concat()))
    };
    let algorithm = [&oid[..], &[5, 0]].concat();
    let key = der(0x30, &numbers);
    assert!(info(&algorithm, &key, &[]).is_ok());

    let rsa = |error| Err(bad_der(KeyType::Rsa, error));
    assert_eq!(info(&oid, &key, &[]), rsa(DerError::Truncated));
    assert_eq!(info(&[&algorithm[..], &[5, 0]].concat(), &key, &[]), rsa(DerError::Trailing));
    assert_eq!(info(&[&oid[..], &[5, 1, 0]].concat(), &key, &[]), rsa(DerError::Constant));
    let pss = [&der(6, &hex("2a864886f70d01010a"))[..], &[5, 0]].concat();
    assert_eq!(info(&pss, &key, &[]), rsa(DerError::Constant));
    assert_eq!(info(&algorithm, &key, &[0]), rsa(DerError::Trailing));
    assert_eq!(info(&algorithm, &[&key[..], &[0]].concat(), &[]), rsa(DerError::Trailing));
    let three = der(0x30, &[&numbers[..], &integer(&[1])].concat());
    assert_eq!(info(&algorithm, &three, &[]), rsa(DerError::Trailing));
    // The key alone, as PKCS#1 has it.
    assert_eq!(public(RSA, &key), rsa(DerError::Tag { expected: 0x30, found: 2 }));
    let three_bytes = [&[0x30, 0x83, 0, 1, 9][..], &numbers].concat();
    assert_eq!(info(&algorithm, &three_bytes, &[]), rsa(DerError::Length));
}

#[test]
fn rsa_private_numbers_belong_together() {
    let (_, data) = common::parts(&vector("rsa-private"));
    let numbers = common::integers(&data);
    assert_eq!(numbers.len(), 9);
    let key = |numbers: &[Vec<u8>]| {
        let encoded: Vec<u8> = numbers.iter().flat_map(|number| integer(number)).collect();
        private(RSA, &der(0x30, &encoded))
    };
    assert!(key(&numbers).is_ok());
    for at in 1..9 {
        let mut changed = numbers.clone();
        // By two, so that what was odd stays odd.
        *changed[at].last_mut().unwrap() ^= 2;
        assert_eq!(key(&changed).unwrap_err(), DecodeError::Mismatch, "number {at}");
    }
    let rsa = |error| bad_der(KeyType::Rsa, error);
    let mut changed = numbers.clone();
    changed[0] = vec![1];
    assert_eq!(key(&changed).unwrap_err(), rsa(DerError::Constant));
    assert_eq!(key(&numbers[..8]).unwrap_err(), rsa(DerError::Truncated));
    changed = numbers.clone();
    changed.push(vec![1]);
    assert_eq!(key(&changed).unwrap_err(), rsa(DerError::Trailing));
    changed = numbers.clone();
    changed[3] = rsa_modulus(MAX_RSA_BITS + 1);
    assert_eq!(key(&changed).unwrap_err(), DecodeError::OutOfRange(KeyType::Rsa));
    changed = numbers;
    *changed[1].last_mut().unwrap() &= 0xfe;
    assert_eq!(key(&changed).unwrap_err(), DecodeError::RsaModulus);
}

#[test]
fn types_by_name() {
    for key_type in ALL {
        assert_eq!(key_type.to_string().to_lowercase().parse(), Ok(key_type));
    }
    for name in ["", "RSA", "rsa ", "dsa"] {
        assert!(name.parse::<KeyType>().is_err());
    }
}

#[test]
fn lengths_by_type() {
    assert_eq!(public(ED25519, &[7; 31]), Err(wrong_length(KeyType::Ed25519, 31)));
    assert_eq!(public(SECP256K1, &[]), Err(wrong_length(KeyType::Secp256k1, 0)));
    assert_eq!(public(ECDSA, &[]), Err(bad_der(KeyType::Ecdsa, DerError::Truncated)));
    assert_eq!(public(RSA, &[]), Err(bad_der(KeyType::Rsa, DerError::Truncated)));
}

proptest! {
    #[test]
    fn strangers_keys(number in 0..5_u8, data: Vec<u8>) {
        let _ = public(number, &data);
        let _ = private(number, &data);
    }

    /// A good key with some bytes changed: refused, or another key that has one encoding all the same.
    #[test]
    fn keys_that_were_tampered_with(
        at in 0..4_usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let name = ["ed25519-public", "secp256k1-public", "ecdsa-public", "rsa-public"][at];
        let mut bytes = vector(name);
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(key) = PublicKey::from_protobuf(&bytes) {
            let encoded = key.to_protobuf();
            prop_assert_eq!(PublicKey::from_protobuf(&encoded), Ok(key.clone()));
            prop_assert_eq!(key.peer_id().public_key().is_some(), encoded.len() <= MAX_INLINE_KEY_LEN);
        }
        let mut secret = vector(&name.replace("public", "private"));
        let last = secret.len() - 1;
        secret[last] ^= 1;
        let _ = Keypair::from_protobuf(&secret);
    }

    #[test]
    fn strangers_signatures(signature: Vec<u8>, at in 0..3_usize) {
        let name = ["secp256k1-public", "ecdsa-public", "rsa-public"][at];
        let key = PublicKey::from_protobuf(&vector(name)).unwrap();
        prop_assert!(!key.verify(b"message", &signature));
    }
}
