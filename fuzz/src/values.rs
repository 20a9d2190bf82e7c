//! Values that are decoded from bytes or text, without a peer.

use peerage_core::{
    Keypair, Multiaddr, PeerId, ProtocolId, PublicKey, envelope::Envelope, frame, identity::KeyType,
    multistream, peer_record::PeerRecord, protobuf, varint,
};

pub(crate) fn keypair() -> Keypair {
    Keypair::from_ed25519_seed([7; 32])
}

pub(crate) fn varint(data: &[u8]) {
    if let Ok(Some((value, used))) = varint::decode(data) {
        let mut again = Vec::new();
        varint::encode(value, &mut again);
        assert_eq!(again, data[..used], "only the shortest form is one");
    }
}

pub(crate) fn varint_seeds() -> Vec<Vec<u8>> {
    let values = [0, 127, 128, 1 << 14, u64::from(u32::MAX), (1 << 63) - 1];
    values
        .map(|value| {
            let mut bytes = Vec::new();
            varint::encode(value, &mut bytes);
            bytes
        })
        .into()
}

/// Frames of at most 100 bytes, whole and in pieces.
pub(crate) fn frame(data: &[u8]) {
    const MAX: usize = 100;
    let read = |size: usize| {
        let (mut decoder, mut frames) = (frame::Decoder::new(MAX), Vec::new());
        for mut piece in data.chunks(size) {
            while !piece.is_empty() {
                match decoder.decode(&mut piece) {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => {}
                    Err(error) => return (frames, Some(error.to_string())),
                }
                assert!(decoder.buffered() <= MAX + 10, "{} bytes are held", decoder.buffered());
            }
        }
        (frames, None)
    };
    let whole = read(data.len().max(1));
    assert_eq!(whole, read(1));
    assert!(whole.0.iter().all(|frame| frame.len() <= MAX));
}

pub(crate) fn frame_seeds() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    frame::encode(b"hello", &mut bytes);
    frame::encode(&[], &mut bytes);
    frame::encode(&[1; 100], &mut bytes);
    vec![bytes, vec![101], vec![0xff; 11]]
}

pub(crate) fn protobuf(data: &[u8]) {
    for field in protobuf::fields(data) {
        if field.is_err() {
            return;
        }
    }
}

pub(crate) fn protobuf_seeds() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    protobuf::put_varint(1, 300, &mut bytes);
    protobuf::put_bytes(2, b"bytes", &mut bytes);
    vec![bytes]
}

pub(crate) fn multiaddr(data: &[u8]) {
    let Ok(address) = Multiaddr::from_bytes(data) else { return };
    assert_eq!(address.as_bytes(), data);
    let text = address.to_string();
    assert_eq!(text.parse::<Multiaddr>().as_ref(), Ok(&address), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    examine(&address);
}

pub(crate) fn multiaddr_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.parse::<Multiaddr>() {
        Ok(address) => {
            assert_eq!(Multiaddr::from_bytes(address.as_bytes()).as_ref(), Ok(&address));
            examine(&address);
        }
        Err(error) => drop(error.to_string()),
    }
}

fn examine(address: &Multiaddr) {
    let mut again = Multiaddr::empty();
    for part in address {
        again.push(part).expect("every part of an address may stand in one");
    }
    assert_eq!(&again, address);
    let (_, peer) = address.split_peer();
    assert!(peer.is_none() || peer == address.peer_id());
    let _ = (address.is_loopback(), address.is_private(), address.is_unspecified(), address.is_relayed());
    let _ = address.socket_addr();
}

const ADDRESSES: [&str; 8] = [
    "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA",
    "/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1/webtransport",
    "/dns4/example.com/tcp/443/tls/sni/example.com/ws",
    "/dns/example.com/tcp/443/tls/http/http-path/a%2Fb",
    "/ip4/1.2.3.4/udp/1/webrtc-direct/certhash/uEiAsGPzpiPGQzSlVHRXrUCT5EkTV7YFrV4VZ3hpEKTd_zg",
    "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234",
    "/unix/run/node.sock",
    "/ip4/1.2.3.4/tcp/1/p2p-circuit/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
];

pub(crate) fn multiaddr_seeds() -> Vec<Vec<u8>> {
    ADDRESSES.iter().filter_map(|text| Some(text.parse::<Multiaddr>().ok()?.as_bytes().to_vec())).collect()
}

pub(crate) fn multiaddr_text_seeds() -> Vec<Vec<u8>> {
    ADDRESSES.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn peer_id(data: &[u8]) {
    if let Ok(id) = PeerId::from_bytes(data) {
        assert_eq!(id.as_bytes(), data);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_cid().parse(), Ok(id));
        let _ = id.public_key();
    }
    if let Ok(id) = std::str::from_utf8(data).unwrap_or_default().parse::<PeerId>() {
        assert_eq!(PeerId::from_bytes(id.as_bytes()), Ok(id));
    }
}

pub(crate) fn peer_id_seeds() -> Vec<Vec<u8>> {
    let id = keypair().peer_id();
    vec![
        id.to_bytes(),
        id.to_string().into(),
        id.to_cid().into(),
        b"QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".to_vec(),
    ]
}

pub(crate) fn public_key(data: &[u8]) {
    let Ok(key) = PublicKey::from_protobuf(data) else { return };
    let encoded = key.to_protobuf();
    assert_eq!(PublicKey::from_protobuf(&encoded).as_ref(), Ok(&key));
    assert_eq!(key.peer_id(), PeerId::from_public_key(&key));
    let _ = key.verify(b"message", data);
}

/// One key of each kind; RSA keys take a second to make.
fn keypairs() -> Vec<Keypair> {
    let kinds = [KeyType::Ed25519, KeyType::Secp256k1, KeyType::Ecdsa];
    kinds.into_iter().map(Keypair::generate_of).chain([keypair()]).collect()
}

pub(crate) fn public_key_seeds() -> Vec<Vec<u8>> {
    keypairs().iter().map(|keypair| keypair.public().to_protobuf()).collect()
}

pub(crate) fn private_key(data: &[u8]) {
    let Ok(keypair) = Keypair::from_protobuf(data) else { return };
    let again = Keypair::from_protobuf(&keypair.to_protobuf()).expect("what was written is read");
    assert_eq!(again.peer_id(), keypair.peer_id());
    let signature = keypair.sign(b"message");
    assert!(keypair.public().verify(b"message", &signature));
    assert!(!keypair.public().verify(b"another", &signature));
}

pub(crate) fn private_key_seeds() -> Vec<Vec<u8>> {
    keypairs().iter().map(|keypair| keypair.to_protobuf().to_vec()).collect()
}

pub(crate) fn envelope(data: &[u8]) {
    let Ok(envelope) = Envelope::decode(data) else { return };
    let again = Envelope::decode(&envelope.encode()).expect("what was written is read");
    assert_eq!(again.signer(), envelope.signer());
    if let Ok(record) = PeerRecord::open(&envelope) {
        assert_eq!(record.peer_id(), envelope.signer().peer_id(), "a record is its signer's own");
    }
}

pub(crate) fn envelope_seeds() -> Vec<Vec<u8>> {
    let addresses = ADDRESSES.iter().filter_map(|text| text.parse().ok()).take(3).collect();
    let keypair = keypair();
    let record = PeerRecord::new(keypair.peer_id(), 1, addresses);
    let record = record.ok().and_then(|record| record.seal(&keypair).ok()).map(|envelope| envelope.encode());
    let other = Envelope::seal(&keypair, "domain", &[1, 2], b"payload".to_vec()).encode();
    record.into_iter().chain([other]).collect()
}

pub(crate) fn protocol_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(id) = ProtocolId::new(text) {
        assert_eq!(id.as_str(), text);
    }
}

pub(crate) fn protocol_id_seeds() -> Vec<Vec<u8>> {
    vec![b"/ipfs/id/1.0.0".to_vec()]
}

/// The listener's side of multistream-select, whole and byte by byte.
pub(crate) fn multistream_listener(data: &[u8]) {
    let read = |size: usize| {
        let mut listener = multistream::Listener::new();
        let (mut said, mut rest) = (Vec::new(), data);
        let mut held: Vec<u8> = Vec::new();
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() && listener.outcome().is_none() {
            let (piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            held.extend_from_slice(piece);
            match listener
                .handle_input(&held, |name| (name == "/yes/1").then(|| ProtocolId::from_static("/yes/1")))
            {
                Ok(used) => drop(held.drain(..used)),
                Err(error) => result = Err(error.to_string()),
            }
            while let Some(bytes) = listener.poll_transmit() {
                said.extend(bytes);
            }
        }
        // How much was answered before an error was noticed depends on the pieces.
        if result.is_err() {
            said.clear();
        }
        (said, result, listener.outcome().cloned())
    };
    assert_eq!(read(data.len().max(1)), read(1));
}

pub(crate) fn multistream_dialer(data: &[u8]) {
    let protocols = vec![ProtocolId::from_static("/no/1"), ProtocolId::from_static("/yes/1")];
    let Ok(mut dialer) = multistream::Dialer::new(protocols) else { return };
    let mut held = data.to_vec();
    loop {
        while dialer.poll_transmit().is_some() {}
        match dialer.handle_input(&held) {
            Ok(0) | Err(_) => break,
            Ok(used) => drop(held.drain(..used)),
        }
        if dialer.outcome().is_some() {
            return;
        }
    }
    let _ = dialer.handle_end();
}

pub(crate) fn multistream_seeds() -> Vec<Vec<u8>> {
    let lines = |lines: &[&str]| {
        let mut bytes = Vec::new();
        for line in lines {
            frame::encode(format!("{line}\n").as_bytes(), &mut bytes);
        }
        bytes
    };
    let header = "/multistream/1.0.0";
    vec![
        lines(&[header, "/no/1", "/yes/1"]),
        lines(&[header, "ls", "/yes/1"]),
        lines(&[header, "na", "/yes/1"]),
        lines(&[header, "na", "na"]),
    ]
}
