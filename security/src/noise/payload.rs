//! `NoiseHandshakePayload` (noise spec, "The libp2p Handshake Payload").

use peerage_core::{
    ProtocolId, PublicKey,
    identity::Proofs,
    protobuf::{self, Value},
};

use super::{Error, MAX_MUXERS, MAX_PAYLOAD};

/// What is signed, before the static key (noise spec, "Static Key Authentication").
const SIGNED_PREFIX: &[u8] = b"noise-libp2p-static-key:";

/// The bytes under an identity's signature.
pub(super) fn signed(static_key: &[u8]) -> Vec<u8> {
    [SIGNED_PREFIX, static_key].concat()
}

pub(super) fn encode(key: &[u8], signature: &[u8], muxers: &[ProtocolId]) -> Vec<u8> {
    let mut out = Vec::new();
    protobuf::put_bytes(1, key, &mut out);
    protobuf::put_bytes(2, signature, &mut out);
    if !muxers.is_empty() {
        let mut extensions = Vec::new();
        for muxer in muxers {
            protobuf::put_bytes(2, muxer.as_str().as_bytes(), &mut extensions);
        }
        protobuf::put_bytes(4, &extensions, &mut out);
    }
    out
}

/// A payload whose signature was checked.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) public_key: PublicKey,
    /// The names that we could know among those sent; `None` if no list was sent.
    pub(super) muxers: Option<Vec<ProtocolId>>,
}

/// Reads a decrypted payload and checks that its identity signed `static_key`, the key of this handshake.
///
/// Unknown fields are skipped, and so are the certificate hashes (extension 1), which only webtransport has.
pub(super) fn decode(bytes: &[u8], static_key: &[u8], proofs: &Proofs) -> Result<Payload, Error> {
    if bytes.len() > MAX_PAYLOAD {
        return Err(Error::PayloadTooLarge { len: bytes.len(), max: MAX_PAYLOAD });
    }
    let (mut key, mut signature, mut muxers) = (None, None, None);
    for field in protobuf::fields(bytes) {
        let field = field?;
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => key = Some(bytes),
            (2, Value::Bytes(bytes)) => signature = Some(bytes),
            // Repeated occurrences of a message are one message, as protobuf has it.
            (4, Value::Bytes(bytes)) => extensions(bytes, &mut muxers)?,
            _ => {}
        }
    }
    let key = key.ok_or(Error::Missing("identity key"))?;
    let signature = signature.ok_or(Error::Missing("signature"))?;
    let public_key = PublicKey::from_protobuf(key).map_err(Error::Key)?;
    if !proofs.verify(&public_key, &signed(static_key), signature) {
        return Err(Error::BadSignature);
    }
    Ok(Payload { public_key, muxers: muxers.map(|list| list.known) })
}

#[derive(Default)]
struct Muxers {
    known: Vec<ProtocolId>,
    named: usize,
}

fn extensions(bytes: &[u8], muxers: &mut Option<Muxers>) -> Result<(), Error> {
    for field in protobuf::fields(bytes) {
        let field = field?;
        let (2, Value::Bytes(name)) = (field.number, field.value) else {
            continue;
        };
        let list = muxers.get_or_insert_default();
        list.named = list.named.saturating_add(1);
        if list.named > MAX_MUXERS {
            return Err(Error::TooManyMuxers { max: MAX_MUXERS });
        }
        // What is no protocol's name is none that we have.
        if let Some(Ok(name)) = std::str::from_utf8(name).ok().map(ProtocolId::try_from) {
            list.known.push(name);
        }
    }
    Ok(())
}

/// Settles on a muxer: "the first item from the initiator's list that both parties support" (inlined muxer
/// negotiation, "Multiplexer Negotiation over Noise"). Without a list from both, nothing is settled.
pub(super) fn choose(
    initiator: Option<&[ProtocolId]>,
    responder: Option<&[ProtocolId]>,
) -> Result<Option<ProtocolId>, Error> {
    let (Some(initiator), Some(responder)) = (initiator, responder) else {
        return Ok(None);
    };
    match initiator.iter().find(|muxer| responder.contains(muxer)) {
        Some(muxer) => Ok(Some(muxer.clone())),
        None => Err(Error::NoCommonMuxer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peerage_core::Keypair;

    const STATIC: &[u8] = &[7; 32];

    fn parts() -> (Vec<u8>, Vec<u8>) {
        let keypair = Keypair::from_ed25519_seed([1; 32]);
        (keypair.public().to_protobuf(), keypair.sign(&signed(STATIC)))
    }

    /// By who has seen the honest one before, and believes nobody else the more for it.
    fn decode(bytes: &[u8], static_key: &[u8]) -> Result<Payload, Error> {
        let (proofs, (key, signature)) = (Proofs::default(), parts());
        super::decode(&encode(&key, &signature, &[]), STATIC, &proofs).expect("it is honest");
        super::decode(bytes, static_key, &proofs)
    }

    fn ids(names: &[&str]) -> Vec<ProtocolId> {
        names.iter().map(|name| ProtocolId::new(*name).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (key, signature) = parts();
        for names in [&[][..], &["/yamux/1.0.0"], &["/yamux/1.0.0", "/mplex/6.7.0"]] {
            let payload = decode(&encode(&key, &signature, &ids(names)), STATIC).unwrap();
            assert_eq!(payload.public_key.to_protobuf(), key);
            assert_eq!(payload.muxers, (!names.is_empty()).then(|| ids(names)));
        }
    }

    #[test]
    fn every_bit_of_key_and_signature_counts() {
        let (key, signature) = parts();
        // The first four bytes of the key are its framing; changed, it is another message, and mostly none.
        for bit in 0..key.len() * 8 {
            let mut key = key.clone();
            key[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&encode(&key, &signature, &[]), STATIC).is_err(), "key bit {bit}");
        }
        for bit in 0..signature.len() * 8 {
            let mut signature = signature.clone();
            signature[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&encode(&key, &signature, &[]), STATIC).unwrap_err();
            assert!(matches!(error, Error::BadSignature), "signature bit {bit}");
        }
    }

    #[test]
    fn a_signature_over_anything_else_is_refused() {
        let keypair = Keypair::from_ed25519_seed([1; 32]);
        let key = keypair.public().to_protobuf();
        let (_, signature) = parts();
        let other = decode(&encode(&key, &signature, &[]), &[8; 32]).unwrap_err();
        assert!(matches!(other, Error::BadSignature), "of another handshake's static key");
        for message in [&b""[..], STATIC, &signed(&[8; 32]), &[b"libp2p-tls-handshake:", STATIC].concat()] {
            let error = decode(&encode(&key, &keypair.sign(message), &[]), STATIC).unwrap_err();
            assert!(matches!(error, Error::BadSignature));
        }
    }

    #[test]
    fn both_fields_must_be_there() {
        let (key, signature) = parts();
        let only = |number, bytes: &[u8]| {
            let mut out = Vec::new();
            protobuf::put_bytes(number, bytes, &mut out);
            decode(&out, STATIC).unwrap_err()
        };
        assert!(matches!(only(1, &key), Error::Missing("signature")));
        assert!(matches!(only(2, &signature), Error::Missing("identity key")));
        assert!(matches!(decode(&[], STATIC), Err(Error::Missing(_))));
    }

    #[test]
    fn a_key_that_is_none_or_not_ours_says_which() {
        let (_, signature) = parts();
        let mut rsa = Vec::new();
        protobuf::put_varint(1, 0, &mut rsa);
        protobuf::put_bytes(2, &[0; 64], &mut rsa);
        let error = decode(&encode(&rsa, &signature, &[]), STATIC).unwrap_err();
        // Once this build has RSA, these 64 bytes are the peer's fault.
        assert!(matches!(error, Error::Key(_)), "{error:?}");
        let error = decode(&encode(b"\xff", &signature, &[]), STATIC).unwrap_err();
        assert!(matches!(error, Error::Key(_)));
        assert_eq!(error.fault(), crate::Fault::Remote);
    }

    #[test]
    fn the_payload_is_limited_before_it_is_read() {
        let (key, signature) = parts();
        let exact = |len: usize| {
            let mut out = encode(&key, &signature, &[]);
            // A field nobody knows: key of two bytes, length of two.
            protobuf::put_bytes(99, &vec![0; len - out.len() - 4], &mut out);
            assert_eq!(out.len(), len);
            out
        };
        assert!(decode(&exact(MAX_PAYLOAD), STATIC).is_ok());
        let error = decode(&exact(MAX_PAYLOAD + 1), STATIC).unwrap_err();
        assert!(matches!(error, Error::PayloadTooLarge { len, max } if len == max + 1));
    }

    #[test]
    fn muxers_are_counted_even_if_they_have_no_name() {
        let (key, signature) = parts();
        let with = |count: usize, split: bool| {
            let mut out = encode(&key, &signature, &[]);
            let mut extensions = Vec::new();
            for _ in 0..count {
                protobuf::put_bytes(2, b"", &mut extensions);
                if split {
                    protobuf::put_bytes(4, &std::mem::take(&mut extensions), &mut out);
                }
            }
            protobuf::put_bytes(4, &extensions, &mut out);
            decode(&out, STATIC)
        };
        for split in [false, true] {
            assert_eq!(with(MAX_MUXERS, split).unwrap().muxers, Some(vec![]), "a list, if not of use");
            assert!(matches!(with(MAX_MUXERS + 1, split), Err(Error::TooManyMuxers { .. })));
        }
    }

    #[test]
    fn the_initiators_order_decides() {
        let both = |a: &[&str], b: &[&str]| {
            let (a, b) = (ids(a), ids(b));
            choose(Some(&a), Some(&b))
        };
        let chosen = |a: &[&str], b: &[&str]| both(a, b).unwrap().unwrap().to_string();
        assert_eq!(chosen(&["/y", "/m"], &["/m", "/y"]), "/y");
        assert_eq!(chosen(&["/m", "/y"], &["/y", "/m"]), "/m");
        assert_eq!(chosen(&["/z", "/m"], &["/y", "/m"]), "/m");
        assert_eq!(chosen(&["/y"], &["/m", "/y"]), "/y");
        assert!(matches!(both(&["/y"], &["/m"]), Err(Error::NoCommonMuxer)));
        assert!(matches!(both(&["/y"], &[]), Err(Error::NoCommonMuxer)));
        let list = ids(&["/y"]);
        assert!(matches!(choose(Some(&list), None), Ok(None)));
        assert!(matches!(choose(None, Some(&list)), Ok(None)));
        assert!(matches!(choose(None, None), Ok(None)));
    }
}
