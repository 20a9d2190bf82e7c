//! The system's resolver against a name server that is written here: byte by byte, on loopback, and mostly hostile.
//!
//! Where the clock is paused, nothing that is asserted depends on who is faster: either answer is an error.
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use peerage_core::Multiaddr;
use peerage_security::Fault;
use peerage_transport::dns::{self, DnsError, LOOKUP_TIMEOUT, MAX_ANSWERS, Resolver, System};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    time::Instant,
};

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;
/// A pointer to the name that was asked for.
const THAT_NAME: &[u8] = &[0xc0, 12];

struct Query<'a> {
    bytes: &'a [u8],
    tcp: bool,
}

impl Query<'_> {
    fn id(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Name, type and class.
    fn question(&self) -> &[u8] {
        let name = self.bytes[12..].iter().position(|byte| *byte == 0).unwrap();
        &self.bytes[12..12 + name + 5]
    }

    fn kind(&self) -> u16 {
        let question = self.question();
        u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]])
    }

    /// A response with these flags beside "response", and records that are `count` by their header.
    fn response(&self, id: u16, flags: u16, count: u16, records: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [id, 0x8180 | flags, 1, count, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(self.question());
        bytes.extend(records);
        bytes
    }

    fn answer(&self, records: &[Vec<u8>]) -> Vec<u8> {
        self.response(self.id(), 0, u16::try_from(records.len()).unwrap(), &records.concat())
    }
}

fn record(name: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1_u16.to_be_bytes());
    bytes.extend(60_u32.to_be_bytes());
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn text(strings: &[&str]) -> Vec<u8> {
    let string = |text: &&str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    record(THAT_NAME, TXT, &strings.iter().flat_map(string).collect::<Vec<_>>())
}

fn ip4(last: u8) -> Vec<u8> {
    record(THAT_NAME, A, &[192, 0, 2, last])
}

/// A server that answers with what `answers` says, by UDP and by TCP, and a resolver that asks it.
async fn server(answers: impl Fn(&Query<'_>) -> Vec<Vec<u8>> + Clone + Send + 'static) -> System {
    let (udp, tcp, at) = sockets().await;
    let by_udp = answers.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((len, from)) = udp.recv_from(&mut buffer).await {
            for answer in by_udp(&Query { bytes: &buffer[..len], tcp: false }) {
                let _ = udp.send_to(&answer, from).await;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            while let Ok(len) = stream.read_u16().await {
                let mut query = vec![0; len.into()];
                if stream.read_exact(&mut query).await.is_err() {
                    break;
                }
                for answer in answers(&Query { bytes: &query, tcp: true }) {
                    let _ = stream.write_u16(u16::try_from(answer.len()).unwrap()).await;
                    let _ = stream.write_all(&answer).await;
                }
            }
        }
    });
    System::with_servers([at])
}

/// A port that is free for both.
async fn sockets() -> (UdpSocket, TcpListener, SocketAddr) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(at).await {
            return (udp, tcp, at);
        }
    }
}

async fn resolve(resolver: &System, address: &str) -> Result<Vec<String>, DnsError> {
    let mut all = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let address: Multiaddr = address.parse().unwrap();
    dns::resolve(resolver, &address, deadline, |found| all.extend(found.iter().map(Multiaddr::to_string)))
        .await?;
    Ok(all)
}

/// In virtual time, in which the resolver does not wait for long, and an hour passes at once.
fn paused(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
}

#[tokio::test]
async fn addresses_of_both_families_and_records() {
    let resolver = server(|query| {
        vec![match query.kind() {
            A => query.answer(&[ip4(1), ip4(2)]),
            AAAA => {
                let mut ip = [0; 16];
                ip[15] = 1;
                query.answer(&[record(THAT_NAME, AAAA, &ip)])
            }
            TXT => query.answer(&[
                text(&["dnsaddr=/ip4/192.0.2.7", "/tcp/4001"]),
                text(&["something else"]),
                text(&["dnsaddr=/dns4/other.example/tcp/1"]),
            ]),
            kind => panic!("nobody asks for {kind}"),
        }]
    })
    .await;
    let mut found = resolve(&resolver, "/dns/peer.example/tcp/1/ws").await.unwrap();
    found.sort_unstable();
    assert_eq!(found, ["/ip4/192.0.2.1/tcp/1/ws", "/ip4/192.0.2.2/tcp/1/ws", "/ip6/::1/tcp/1/ws"]);
    let found = resolve(&resolver, "/dnsaddr/peer.example").await.unwrap();
    assert_eq!(found, ["/ip4/192.0.2.7/tcp/4001", "/dns4/other.example/tcp/1"]);
}

#[tokio::test]
async fn the_spelling_of_a_record() {
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    let resolver = server(move |query| {
        seen.lock().unwrap().push(query.question().to_vec());
        vec![query.answer(&[text(&["dnsaddr=/ip4/192.0.2.7/tcp/1"])])]
    })
    .await;
    resolve(&resolver, "/dnsaddr/peer.example").await.unwrap();
    assert_eq!(asked.lock().unwrap()[0], b"\x08_dnsaddr\x04peer\x07example\0\0\x10\0\x01");
}

#[tokio::test]
async fn what_does_not_exist() {
    // NXDOMAIN for one family, nothing for the other.
    let resolver = server(|query| {
        let no_such_name = if query.kind() == A { 3 } else { 0 };
        vec![query.response(query.id(), no_such_name, 0, &[])]
    })
    .await;
    for address in ["/dns4/peer.example/tcp/1", "/dns6/peer.example/tcp/1", "/dns/peer.example/tcp/1"] {
        let error = resolve(&resolver, address).await.unwrap_err();
        assert_eq!(error, DnsError::NotFound("peer.example".to_owned()), "{address}");
        assert_eq!(error.fault(), Fault::Remote);
    }
}

#[tokio::test]
async fn a_thousand_answers_by_tcp() {
    let resolver = server(|query| {
        if !query.tcp {
            return vec![query.response(query.id(), 0x0200, 0, &[])];
        }
        let records: Vec<_> = (0..1000_u16)
            .map(|n| {
                let [high, low] = n.to_be_bytes();
                record(THAT_NAME, A, &[10, 0, high, low])
            })
            .collect();
        vec![query.answer(&records)]
    })
    .await;
    let found = resolve(&resolver, "/dns4/peer.example/tcp/1").await.unwrap();
    assert_eq!(found.len(), MAX_ANSWERS);
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    // Another id than was asked with, then the right one.
    let resolver = server(|query| {
        let other = query.id().wrapping_add(1);
        vec![query.response(other, 0, 1, &ip4(66)), query.answer(&[ip4(1)])]
    })
    .await;
    assert_eq!(resolve(&resolver, "/dns4/peer.example/tcp/1").await.unwrap(), ["/ip4/192.0.2.1/tcp/1"]);
}

#[tokio::test]
async fn records_of_other_names_are_none() {
    let resolver = server(|query| {
        let bank = record(b"\x04bank\x07example\0", A, &[192, 0, 2, 66]);
        vec![query.answer(&[bank])]
    })
    .await;
    let found = resolve(&resolver, "/dns4/peer.example/tcp/1").await;
    assert!(
        !matches!(&found, Ok(found) if found.iter().any(|address| address.contains("192.0.2.66"))),
        "{found:?}"
    );
}

#[test]
fn who_says_nothing_or_nonsense_is_given_up() {
    type Answer = fn(&Query<'_>) -> Vec<Vec<u8>>;
    let hostile: [(&str, Answer); 10] = [
        ("nothing", |_| vec![]),
        ("no message", |_| vec![vec![0; 3], vec![0xff; 12]]),
        ("9,000 bytes", |query| vec![[query.answer(&[ip4(1)]), vec![0; 9000]].concat()]),
        ("a pointer to itself", |query| {
            let here = u8::try_from(12 + query.question().len()).unwrap();
            vec![query.answer(&[record(&[0xc0, here], A, &[192, 0, 2, 66])])]
        }),
        ("pointers to each other", |query| {
            let here = u8::try_from(12 + query.question().len()).unwrap();
            vec![query.answer(&[record(&[0xc0, here + 2, 0xc0, here], A, &[192, 0, 2, 66])])]
        }),
        ("a name that stands for itself", |query| vec![query.answer(&[record(THAT_NAME, CNAME, THAT_NAME)])]),
        ("more records than there are", |query| vec![query.response(query.id(), 0, 0xffff, &ip4(66))]),
        ("a record longer than the message", |query| {
            let mut record = ip4(66);
            let len = record.len();
            record[len - 5] = 0xff;
            vec![query.answer(&[record])]
        }),
        ("a question", |query| vec![query.bytes.to_vec()]),
        ("truncated, by TCP as well", |query| vec![query.response(query.id(), 0x0200, 1, &[])]),
    ];
    for (what, answer) in hostile {
        paused(async move {
            let resolver = server(answer).await;
            let began = Instant::now();
            let found = resolve(&resolver, "/dns4/peer.example/tcp/1").await;
            if what != "9,000 bytes" {
                assert!(found.is_err(), "{what}: {found:?}");
            }
            assert!(began.elapsed() <= LOOKUP_TIMEOUT, "{what}: {:?}", began.elapsed());
        });
    }
}

#[test]
fn a_broken_server_is_the_networks_fault() {
    paused(async {
        let resolver = server(|_| vec![]).await;
        let error = resolve(&resolver, "/dns/peer.example/tcp/1").await.unwrap_err();
        assert_eq!(error.fault(), Fault::Network, "{error}");
        let resolver = server(|query| vec![query.response(query.id(), 2, 0, &[])]).await;
        let error = resolve(&resolver, "/dns/peer.example/tcp/1").await.unwrap_err();
        assert_eq!(error.fault(), Fault::Network, "{error}");
    });
}

/// Whoever has a name can have its server say that it cannot answer. That throws nothing away that others said.
#[tokio::test]
async fn a_server_that_cannot_answer_costs_nobody_elses_answers() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolver = server(move |query| {
        if query.question().starts_with(b"\x04evil") {
            return vec![query.response(query.id(), 2, 0, &[])];
        }
        count.fetch_add(1, Ordering::Relaxed);
        vec![query.answer(&[ip4(1)])]
    })
    .await;
    for _ in 0..3 {
        resolve(&resolver, "/dns4/good.example/tcp/1").await.unwrap();
        resolve(&resolver, "/dns4/evil.example/tcp/1").await.unwrap_err();
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the answer was remembered");
}

#[tokio::test]
async fn this_machine_is_known_without_a_server() {
    // Whatever the machine's configuration is, nobody is asked for these.
    for resolver in [System::new(), System::with_servers([])] {
        assert_eq!(resolve(&resolver, "/dns4/localhost/tcp/1").await.unwrap(), ["/ip4/127.0.0.1/tcp/1"]);
        let both = resolve(&resolver, "/dns/localhost/tcp/1").await.unwrap();
        assert!(both.contains(&"/ip4/127.0.0.1/tcp/1".to_owned()), "{both:?}");
    }
}

#[tokio::test]
async fn nobody_to_ask() {
    let error = resolve(&System::with_servers([]), "/dns4/peer.example/tcp/1").await.unwrap_err();
    assert!(matches!(error, DnsError::Failed(_)), "{error}");
}

#[tokio::test]
async fn what_is_no_name() {
    let resolver = System::with_servers([]);
    let long = "x".repeat(64);
    for name in [&long, "a..b"] {
        let error = resolver.ip4(name).await.unwrap_err();
        assert_eq!(error, DnsError::BadName(name.to_owned()));
    }
    let error = resolve(&resolver, "/ip4/192.0.2.1/tcp/1").await.unwrap_err();
    assert_eq!(error, DnsError::BadName("/ip4/192.0.2.1/tcp/1".to_owned()));
}

/// One resolver may outlive a runtime that used it.
#[test]
fn a_resolver_is_used_on_one_runtime_after_another() {
    let mut servers = tokio::runtime::Builder::new_multi_thread();
    let servers = servers.worker_threads(1).enable_all().build().unwrap();
    // By TCP, which keeps a connection, and a task for it.
    let resolver = servers.block_on(server(|query| {
        let (flags, count) = if query.tcp { (0, 1) } else { (0x0200, 0) };
        vec![query.response(query.id(), flags, count, if query.tcp { &ANSWER } else { &[] })]
    }));
    for name in ["one", "two", "three"] {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let found = runtime.block_on(resolve(&resolver, &format!("/dns4/{name}.example/tcp/1")));
        assert_eq!(found.unwrap(), [format!("/ip4/{}/tcp/1", IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))]);
    }
}

const ANSWER: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
