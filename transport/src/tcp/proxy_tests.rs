//! Proxies that are written out, byte by byte.

use tokio::io::duplex;

use super::*;

const V4: &str = "192.0.2.1:4001";
const V6: &str = "[2001:db8::1]:4001";

/// What a proxy that says `answers` one after the other makes of a dial, and what it was told.
async fn lead(proxy: &str, to: &str, answers: &[u8]) -> (Result<(), ProxyError>, Vec<u8>, Vec<u8>) {
    let proxy: Proxy = proxy.parse().unwrap();
    let (mut near, mut far) = duplex(1 << 16);
    far.write_all(answers).await.unwrap();
    far.shutdown().await.unwrap();
    let result = proxy.lead(&mut near, to.parse().unwrap()).await;
    let mut rest = Vec::new();
    near.read_to_end(&mut rest).await.unwrap();
    drop(near);
    let mut told = Vec::new();
    far.read_to_end(&mut told).await.unwrap();
    (result, told, rest)
}

#[tokio::test]
async fn socks5_leads_to_both_families() {
    for (to, address) in [
        (V4, b"\x01\xc0\x00\x02\x01".to_vec()),
        (V6, [&b"\x04\x20\x01\x0d\xb8"[..], &[0; 11], &[1]].concat()),
    ] {
        for bound in [&b"\x01\0\0\0\0\0\0"[..], &[&[4][..], &[0; 18]].concat(), b"\x03\x02hi\0\0"] {
            let answers = [b"\x05\x00\x05\x00\x00", bound, b"the peer's"].concat();
            let (result, told, rest) = lead("socks5://127.0.0.1:1080", to, &answers).await;
            result.unwrap();
            assert_eq!(told, [b"\x05\x01\x00\x05\x01\x00", &address[..], b"\x0f\xa1"].concat());
            assert_eq!(rest, b"the peer's", "not a byte of it is taken");
        }
    }
}

#[tokio::test]
async fn socks5_with_credentials() {
    let proxy = "socks5://alice:secret@127.0.0.1:1080";
    let (result, told, _) = lead(proxy, V4, b"\x05\x02\x01\x00\x05\x00\x00\x01\0\0\0\0\0\0").await;
    result.unwrap();
    assert!(told.starts_with(b"\x05\x02\x00\x02\x01\x05alice\x06secret\x05\x01"), "{told:?}");
    let (result, _, _) = lead(proxy, V4, b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0").await;
    result.unwrap();
    for (proxy, answers) in
        [(proxy, &b"\x05\x02\x01\x01"[..]), (proxy, b"\x05\xff"), ("socks5://127.0.0.1:1", b"\x05\xff")]
    {
        assert!(matches!(lead(proxy, V4, answers).await.0, Err(ProxyError::Credentials)));
    }
}

#[tokio::test]
async fn socks5_says_whose_fault_it_is() {
    for (reply, fault) in [
        (1, Fault::Local),
        (2, Fault::Local),
        (3, Fault::Network),
        (4, Fault::Network),
        (5, Fault::Remote),
        (6, Fault::Network),
        (8, Fault::Local),
    ] {
        let answers = [&[5, 0, 5, reply][..], &[0; 8]].concat();
        assert_eq!(lead("socks5://127.0.0.1:1", V4, &answers).await.0.unwrap_err().fault(), fault, "{reply}");
    }
    for nonsense in [
        &b"\x04\x00"[..],
        b"HTTP/1.1 400\r\n\r\n",
        b"\x05\x02",
        b"\x05\x00\x04\x00\x00\x01",
        b"\x05\x00\x05\x00\x00\x09",
    ] {
        assert!(matches!(lead("socks5://127.0.0.1:1", V4, nonsense).await.0, Err(ProxyError::Protocol(_))));
    }
    for cut in 0..12 {
        let answers = &b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0"[..cut.min(11)];
        assert!(matches!(lead("socks5://127.0.0.1:1", V4, answers).await.0, Err(ProxyError::Io(_))));
    }
}

#[tokio::test]
async fn connect_of_http() {
    let answers = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\nthe peer's";
    let (result, told, rest) = lead("http://127.0.0.1:3128", V6, answers).await;
    result.unwrap();
    assert_eq!(told, b"CONNECT [2001:db8::1]:4001 HTTP/1.1\r\nHost: [2001:db8::1]:4001\r\n\r\n");
    assert_eq!(rest, b"the peer's");
    let (_, told, _) = lead("http://alice:secret@127.0.0.1:3128", V4, answers).await;
    let told = String::from_utf8(told).unwrap();
    assert!(told.contains("\r\nProxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"), "{told}");
    for (answer, fault) in [
        ("HTTP/1.1 407 x", Fault::Local),
        ("HTTP/1.1 403 x", Fault::Local),
        ("HTTP/1.0 502 x", Fault::Network),
        ("HTTP/1.1 504 x", Fault::Network),
        ("HTTP/1.1", Fault::Local),
        ("SSH-2.0 200 x", Fault::Local),
    ] {
        let (result, _, _) = lead("http://127.0.0.1:1", V4, format!("{answer}\r\n\r\n").as_bytes()).await;
        assert_eq!(result.unwrap_err().fault(), fault, "{answer}");
    }
}

#[tokio::test]
async fn answers_of_http_up_to_the_limit() {
    let answer = |len: usize| {
        let head = "HTTP/1.1 200 OK\r\nPad: ";
        format!("{head}{}\r\n\r\n", "x".repeat(len - head.len() - 4))
    };
    let (result, _, _) = lead("http://127.0.0.1:1", V4, answer(MAX_ANSWER_LEN).as_bytes()).await;
    result.unwrap();
    let (result, _, _) = lead("http://127.0.0.1:1", V4, answer(MAX_ANSWER_LEN + 1).as_bytes()).await;
    assert!(matches!(result, Err(ProxyError::Protocol("HTTP"))));
}

#[test]
fn proxies_in_text() {
    for text in ["socks5://127.0.0.1:1080", "http://[::1]:3128"] {
        assert_eq!(text.parse::<Proxy>().unwrap().to_string(), text);
        assert_eq!(format!("{text}/").parse::<Proxy>().unwrap().to_string(), text);
    }
    let secret = "http://a:b@c@127.0.0.1:1".parse::<Proxy>().unwrap();
    assert_eq!(secret.credentials, Some(("a".to_owned(), "b@c".to_owned())));
    assert_eq!(format!("{secret:?}"), "Proxy(http://127.0.0.1:1)", "nothing secret is printed");
    let with = |len: usize| format!("http://{}:x@127.0.0.1:1", "u".repeat(len)).parse::<Proxy>();
    assert!(with(MAX_CREDENTIAL_LEN).is_ok() && with(MAX_CREDENTIAL_LEN + 1).is_err() && with(0).is_err());
    for bad in [
        "",
        "127.0.0.1:1",
        "socks4://127.0.0.1:1",
        "http://example.com:1",
        "http://127.0.0.1",
        "http://a@127.0.0.1:1",
        "http://a\r\n:b@127.0.0.1:1",
    ] {
        assert_eq!(bad.parse::<Proxy>(), Err(BadProxy), "{bad}");
    }
}
