//! Keys and peer ids against the vectors of the spec (libp2p/specs, peer-ids/peer-ids.md).

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use peerage_core::identity::{
    DecodeError, KeyType, MAX_INLINE_KEY_LEN, MAX_PRIVATE_KEY_LEN, MAX_PUBLIC_KEY_LEN, MAX_TEXT_LEN,
    ParseError,
};
use peerage_core::{Keypair, PeerId, PublicKey, protobuf};
use proptest::prelude::*;

const ED25519_PRIVATE: &str = "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
const ED25519_PUBLIC: &str = "080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";

fn hex(text: &str) -> Vec<u8> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).unwrap()
}

#[test]
fn ed25519_vectors() {
    let keypair = Keypair::from_protobuf(&hex(ED25519_PRIVATE)).unwrap();
    assert_eq!(HEXLOWER.encode(&keypair.public().to_protobuf()), ED25519_PUBLIC);
    assert_eq!(HEXLOWER.encode(&keypair.to_protobuf()), ED25519_PRIVATE);
    let public = PublicKey::from_protobuf(&hex(ED25519_PUBLIC)).unwrap();
    assert_eq!(&public, keypair.public());
    assert_eq!(public.key_type(), KeyType::Ed25519);
    assert_eq!(public.peer_id(), keypair.peer_id());
}

/// RFC 8032, section 7.1, tests 1 and 2.
#[test]
fn rfc_8032_signatures() {
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (seed, message, signature) in vectors {
        let keypair = Keypair::from_ed25519_seed(hex(seed).try_into().unwrap());
        assert_eq!(HEXLOWER.encode(&keypair.sign(&hex(message))), signature);
        assert!(keypair.public().verify(&hex(message), &hex(signature)));
    }
}

#[test]
fn any_encoding_is_read_and_one_is_written() {
    let (_, data) = ED25519_PUBLIC.split_at(8);
    let variants = [
        format!("1220{data}0801"),         // the other order
        format!("088100 1220{data}"),      // a longer varint
        format!("0801 1220{data} 1a0161"), // an unknown field
        format!("0801 1201ff 1220{data}"), // a repeated field: the last counts
        format!("0800 1220{data} 0801"),
    ];
    for variant in variants {
        let key = PublicKey::from_protobuf(&hex(&variant.replace(' ', ""))).unwrap();
        assert_eq!(HEXLOWER.encode(&key.to_protobuf()), ED25519_PUBLIC);
    }
}

#[test]
fn what_is_not_a_public_key() {
    let fails = |text: &str| PublicKey::from_protobuf(&hex(text)).unwrap_err();
    assert_eq!(fails(""), DecodeError::Missing("type"));
    assert_eq!(fails("08041200"), DecodeError::UnknownType(4));
    assert_eq!(fails("0801"), DecodeError::Missing("data"));
    assert_eq!(fails("12020102"), DecodeError::Missing("type"));
    assert_eq!(fails("08010801"), DecodeError::Missing("data"));
    assert!(matches!(fails("0801122001"), DecodeError::Malformed(_)));
    for len in [31, 33] {
        let text = format!("080112{len:02x}{}", "07".repeat(len));
        assert_eq!(fails(&text), DecodeError::WrongLength { key_type: KeyType::Ed25519, len });
    }
}

#[test]
fn size_caps() {
    let padded = |key: &str, len: usize| {
        let mut bytes = hex(key);
        let padding = len - bytes.len() - 3;
        protobuf::put_bytes(9, &vec![0; padding], &mut bytes);
        assert_eq!(bytes.len(), len);
        bytes
    };
    assert!(PublicKey::from_protobuf(&padded(ED25519_PUBLIC, MAX_PUBLIC_KEY_LEN)).is_ok());
    assert_eq!(
        PublicKey::from_protobuf(&padded(ED25519_PUBLIC, MAX_PUBLIC_KEY_LEN + 1)),
        Err(DecodeError::TooLong { len: MAX_PUBLIC_KEY_LEN + 1, max: MAX_PUBLIC_KEY_LEN })
    );
    assert!(Keypair::from_protobuf(&padded(ED25519_PRIVATE, MAX_PRIVATE_KEY_LEN - 1)).is_ok());
    assert!(matches!(
        Keypair::from_protobuf(&vec![0; MAX_PRIVATE_KEY_LEN + 1]),
        Err(DecodeError::TooLong { max: MAX_PRIVATE_KEY_LEN, .. })
    ));
}

#[test]
fn private_key_forms() {
    let (seed, public) = ED25519_PRIVATE[8..].split_at(64);
    let keypair = Keypair::from_protobuf(&hex(&format!("08011260{seed}{public}{public}"))).unwrap();
    assert_eq!(HEXLOWER.encode(&keypair.to_protobuf()), ED25519_PRIVATE);
    assert_eq!(keypair.peer_id(), Keypair::from_ed25519_seed(hex(seed).try_into().unwrap()).peer_id());

    let zeros = "00".repeat(32);
    let fails = |text: String| Keypair::from_protobuf(&hex(&text)).unwrap_err();
    assert_eq!(fails(format!("08011260{seed}{public}{zeros}")), DecodeError::Mismatch);
    assert_eq!(fails(format!("08011240{seed}{zeros}")), DecodeError::Mismatch);
    let wrong = |len| DecodeError::WrongLength { key_type: KeyType::Ed25519, len };
    assert_eq!(fails(format!("08011220{seed}")), wrong(32));
    assert_eq!(fails(format!("08011241{seed}{public}00")), wrong(65));
    assert_eq!(fails(format!("0801123f{}", "01".repeat(63))), wrong(63));
}

#[test]
fn signatures_bind_message_and_key() {
    let (alice, bob) = (Keypair::generate(), Keypair::generate());
    assert_ne!(alice.peer_id(), bob.peer_id());
    let signature = alice.sign(b"message");
    assert!(alice.public().verify(b"message", &signature));
    assert!(!alice.public().verify(b"massage", &signature));
    assert!(!bob.public().verify(b"message", &signature));
    assert!(!alice.public().verify(b"message", &signature[..63]));
    assert!(!alice.public().verify(b"message", b""));
}

#[test]
fn secrets_are_not_printed() {
    let keypair = Keypair::from_protobuf(&hex(ED25519_PRIVATE)).unwrap();
    let printed = format!("{keypair:?}");
    assert_eq!(printed, format!("Keypair(Ed25519 of {})", keypair.peer_id()));
}

/// The three examples of "String representation", and the ids of the keys above as go-libp2p prints them.
#[test]
fn peer_id_texts() {
    let hashed: PeerId = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap();
    let cid = "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe";
    assert_eq!(cid.parse(), Ok(hashed));
    assert_eq!(hashed.to_cid(), cid);
    assert_eq!(hashed.to_string(), "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N");
    assert_eq!(hashed.public_key(), None);

    let text = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";
    let inline: PeerId = text.parse().unwrap();
    assert_eq!(inline.to_string(), text);
    assert_eq!(inline.as_bytes()[..2], [0x00, 36]);
    assert_eq!(inline.public_key().unwrap().peer_id(), inline);
    assert_eq!(format!("{inline:?}"), format!("PeerId({text})"));
}

/// `from_bytes` takes any 42 bytes for a key, and only one encoding of a key is an id.
#[test]
fn an_id_that_inlines_another_encoding_has_no_key() {
    let (_, data) = ED25519_PUBLIC.split_at(8);
    for (encoding, has_key) in [
        (ED25519_PUBLIC.to_owned(), true),
        (format!("1220{data}0801"), false),
        (format!("088100 1220{data}"), false),
        (format!("0801 1220{data} 1a0161"), false),
    ] {
        let key = hex(&encoding.replace(' ', ""));
        let id = PeerId::from_bytes(&[&[0x00, key.len() as u8][..], &key].concat()).unwrap();
        assert!(PublicKey::from_protobuf(&key).is_ok());
        assert_eq!(id.public_key().map(|key| key.peer_id()), has_key.then_some(id), "{encoding}");
    }
}

/// The same id in every multibase, from the AutoTLS and IPNS documentation's way of writing them.
#[test]
fn peer_id_in_every_base() {
    let id: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse().unwrap();
    let cid = [&[0x01, 0x72][..], id.as_bytes()].concat();
    let base58 = format!("z{}", bs58::encode(&cid).into_string());
    let base36 = format!("k{}", base36(&cid));
    assert!(base36.starts_with("k51qzi5uqu5d"), "{base36}");
    for text in [base58, base36, id.to_cid()] {
        assert_eq!(text.parse(), Ok(id), "{text}");
    }
}

/// Long division, unlike the decoder's multiplication.
fn base36(bytes: &[u8]) -> String {
    let mut number = bytes.to_vec();
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 36) as u8;
            rest = value % 36;
        }
        digits.push(char::from_digit(rest, 36).unwrap());
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    std::iter::repeat_n('0', zeros).chain(digits.into_iter().rev()).collect()
}

#[test]
fn texts_that_are_no_peer_ids() {
    let fails = |text: &str| text.parse::<PeerId>().unwrap_err();
    assert_eq!(fails(""), ParseError::Empty);
    assert_eq!(fails("xyz"), ParseError::UnknownForm);
    assert_eq!(fails("é"), ParseError::UnknownForm);
    assert_eq!(fails("Qm0"), ParseError::BadText { form: "base58" });
    assert_eq!(fails("12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5S"), ParseError::BadMultihash);
    assert_eq!(fails("bAFZ"), ParseError::BadText { form: "lower case base32" });
    assert_eq!(fails("b1"), ParseError::BadText { form: "lower case base32" });
    assert_eq!(fails("kA"), ParseError::BadText { form: "lower case base36" });
    // The same hash as a CID of a file (dag-pb).
    assert_eq!(
        fails("bafybeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe"),
        ParseError::NotLibp2pKey
    );
    assert_eq!(fails("b"), ParseError::NotLibp2pKey);
    assert_eq!(fails(&"1".repeat(MAX_TEXT_LEN)), ParseError::BadMultihash);
    assert_eq!(fails(&"1".repeat(MAX_TEXT_LEN + 1)), ParseError::TooLong { len: MAX_TEXT_LEN + 1 });
}

#[test]
fn multihashes_that_are_no_peer_ids() {
    let inline = |len: usize| [&[0x00, len as u8][..], &vec![7; len]].concat();
    assert!(PeerId::from_bytes(&inline(MAX_INLINE_KEY_LEN)).is_ok());
    let long = inline(MAX_INLINE_KEY_LEN + 1);
    let sha2_256 = [&[0x12, 32][..], &[1; 32]].concat();
    let extra = [&sha2_256[..], &[0]].concat();
    let sha1 = [&[0x11, 20][..], &[1; 20]].concat();
    let short = [&[0x12, 31][..], &[1; 31]].concat();
    assert!(PeerId::from_bytes(&sha2_256).is_ok());
    for bytes in [&long[..], &extra, &sha2_256[..33], &sha1, &short, &[], &[0], &[0, 1], &[0x80, 0x00, 0x00]]
    {
        assert_eq!(PeerId::from_bytes(bytes), Err(ParseError::BadMultihash), "{bytes:?}");
    }
}

#[test]
fn ids_sort_as_their_bytes() {
    let mut ids: Vec<PeerId> = (0..=MAX_INLINE_KEY_LEN)
        .map(|len| PeerId::from_bytes(&[&[0x00, len as u8][..], &vec![0; len]].concat()).unwrap())
        .collect();
    ids.reverse();
    let mut by_bytes = ids.clone();
    ids.sort();
    by_bytes.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(ids, by_bytes);
}

fn any_peer_id() -> impl Strategy<Value = PeerId> {
    let inline = proptest::collection::vec(any::<u8>(), 0..=MAX_INLINE_KEY_LEN)
        .prop_map(|digest| [&[0x00, digest.len() as u8], &digest[..]].concat());
    let hashed = any::<[u8; 32]>().prop_map(|digest| [&[0x12, 32], &digest[..]].concat());
    prop_oneof![inline, hashed].prop_map(|bytes| PeerId::from_bytes(&bytes).unwrap())
}

proptest! {
    #[test]
    fn peer_ids_round_trip(id in any_peer_id()) {
        prop_assert_eq!(PeerId::from_bytes(&id.to_bytes()), Ok(id));
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(id.to_cid().parse(), Ok(id));
        let base36 = format!("k{}", base36(&[&[0x01, 0x72], id.as_bytes()].concat()));
        prop_assert!(base36.len() <= MAX_TEXT_LEN);
        prop_assert_eq!(base36.parse(), Ok(id));
    }

    #[test]
    fn keys_round_trip(seed: [u8; 32], message: Vec<u8>) {
        let keypair = Keypair::from_ed25519_seed(seed);
        let again = Keypair::from_protobuf(&keypair.to_protobuf()).unwrap();
        prop_assert_eq!(again.public(), keypair.public());
        prop_assert!(keypair.public().verify(&message, &again.sign(&message)));
        let inlined = keypair.peer_id().public_key();
        prop_assert_eq!(inlined.as_ref(), Some(keypair.public()));
    }

    #[test]
    fn strangers_bytes(bytes: Vec<u8>, text: String, form in "(1|Qm|b|k|z)[0-9a-zA-Z]{0,95}") {
        let _ = PublicKey::from_protobuf(&bytes);
        let _ = Keypair::from_protobuf(&bytes);
        let _ = PeerId::from_bytes(&bytes);
        let _ = text.parse::<PeerId>();
        let _ = form.parse::<PeerId>();
    }
}
