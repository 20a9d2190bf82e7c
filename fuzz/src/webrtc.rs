//! What webrtc-direct reads of strangers: STUN checks, the names in them, and the messages on channels.

use peerage_transport::webrtc::fuzzing;

fn source() -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], 4001))
}

/// A name that is accepted is made of what ICE allows, and nothing longer than it allows.
pub(crate) fn name(data: &[u8]) {
    let Some((server, client)) = fuzzing::name(data) else { return };
    for part in [&server, &client] {
        let proper = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        assert!((4..=256).contains(&part.len()) && part.bytes().all(proper));
    }
    assert_eq!(format!("{server}:{client}").as_bytes(), data);
    // With its password, it is answered, by no more than was asked.
    let check = fuzzing::check(data, &server);
    let answer = fuzzing::answer(&check, source()).expect("an answer");
    assert!(answer.len() <= check.len());
}

pub(crate) fn name_seeds() -> Vec<Vec<u8>> {
    vec![
        b"libp2p+webrtc+v1/abcdefgh:libp2p+webrtc+v1/abcdefgh".to_vec(),
        b"libp2p+webrtc+v2/0123456789abcdefghijkl:Ab+/".to_vec(),
        b"libp2p+webrtc+v1/abcd\r\na=x:abcd".to_vec(),
        b"evtj:h6vY".to_vec(),
    ]
}

/// Whatever is answered is answered by no more than was asked.
pub(crate) fn stun(data: &[u8]) {
    if let Some(answer) = fuzzing::answer(data, source()) {
        assert!(answer.len() <= data.len() && answer.get(4..20) == data.get(4..20));
    }
}

pub(crate) fn stun_seeds() -> Vec<Vec<u8>> {
    let server = |name: &[u8]| {
        String::from_utf8_lossy(name.split(|byte| *byte == b':').next().unwrap_or_default()).into_owned()
    };
    name_seeds().into_iter().map(|name| fuzzing::check(&name, &server(&name))).collect()
}

/// Cut anywhere, the bytes of a channel say the same.
pub(crate) fn messages(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    assert_eq!(fuzzing::messages([bytes]), fuzzing::messages(bytes.chunks(size)));
}

pub(crate) fn messages_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x03\x04\x12\x02hi".to_vec(),
        b"\x01\x02\x08\x00\x02\x08\x03".to_vec(),
        b"\x02\x05\x08\x02\x18\x82\x20".to_vec(),
        b"\x05\xff\xff\x01".to_vec(),
    ]
}
