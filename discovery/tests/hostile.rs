//! What a program of this machine may send on loopback.

mod common;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use common::*;
use peerage_core::Keypair;
use peerage_discovery::mdns::{ANSWER_EVERY, Event, MAX_FOUND_PER_MINUTE, MAX_MESSAGE, Mdns};
use socket2::{Domain, Socket, Type};
use tokio::time::{Instant, interval, timeout};

const SERVICE: &[u8] = b"\x04_p2p\x04_udp\x05local\0";

/// Speaks to the group, and hears it.
struct Stranger {
    socket: UdpSocket,
    group: SocketAddr,
}

impl Stranger {
    fn new(port: u16) -> Self {
        let group = SocketAddr::from((Ipv4Addr::new(224, 0, 0, 251), port));
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("shared");
        socket.bind(&group.into()).expect("bound");
        socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST).expect("joined");
        socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).expect("on loopback");
        socket.set_nonblocking(true).expect("set");
        Self { socket: socket.into(), group }
    }

    fn say(&self, message: &[u8]) {
        // What does not fit is lost: there is enough of it.
        let _ = self.socket.send_to(message, self.group);
    }

    /// Answers that were heard since.
    fn answers(&self) -> u32 {
        let mut buffer = [0; 9000];
        let mut answers = 0;
        while let Ok(length) = self.socket.recv(&mut buffer) {
            answers += u32::from(length > 2 && buffer[2] & 0x80 != 0);
        }
        answers
    }
}

fn header(flags: u16, counts: [u16; 4]) -> Vec<u8> {
    let numbers = [0, flags].into_iter().chain(counts);
    numbers.flat_map(u16::to_be_bytes).collect()
}

/// An instance that says that this peer is at that address.
fn announcement(label: &str, text: &str) -> Vec<u8> {
    records(label, text, 120)
}

/// Takes an instance back.
fn goodbye(label: &str) -> Vec<u8> {
    records(label, "", 0)
}

fn records(label: &str, text: &str, ttl: u8) -> Vec<u8> {
    let mut instance = vec![u8::try_from(label.len()).expect("short")];
    instance.extend(label.as_bytes());
    instance.extend(SERVICE);
    let text = [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let record = |name: &[u8], kind: u16, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        [name, &kind.to_be_bytes(), &[0, 1, 0, 0, 0, ttl], &length, data].concat()
    };
    let records = [record(SERVICE, 12, &instance), record(&instance, 16, &text)].concat();
    [header(0x8400, [0, 1, 0, 1]), records].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_little_and_end() {
    let port = port();
    let (alice, alices) = node(1, Mdns::default().port(port)).await;
    let mut events = alices.events();
    let (bob, _) = node(2, Mdns::default().port(port)).await;
    found(&mut events, bob.peer_id()).await;

    let stranger = Stranger::new(port);
    let question = [header(0, [1, 0, 0, 0]), SERVICE.to_vec(), vec![0, 12, 0, 1]].concat();
    let (began, mut answers) = (Instant::now(), 0);
    for _ in 0..5000 {
        stranger.say(&question);
        answers += stranger.answers();
    }
    // One a second from each of the two, and what was on its way at both ends.
    let seconds = began.elapsed().div_duration_f64(ANSWER_EVERY).ceil();
    assert!(f64::from(answers) <= 2.0 * (seconds + 2.0), "{answers} answers in {seconds} s");

    let loops = [header(0x8400, [0, 2, 0, 0]), b"\xc0\x0e\xc0\x0c".repeat(20)].concat();
    let many = [header(0x8400, [0, 1000, 0, 0]), SERVICE.to_vec(), vec![0; 8000]].concat();
    let noise: Vec<u8> = (0..=MAX_MESSAGE).map(|n| u8::try_from(n * 31 % 251).expect("a byte")).collect();
    for n in 0..1000 {
        stranger.say(&loops);
        stranger.say(&many);
        stranger.say(&noise[..noise.len() - n % 2]);
    }

    // Peers that are made up, until no more are found; bob is one of them.
    let (began, mut made_up) = (Instant::now(), Vec::new());
    let mut invent = || {
        let n: usize = made_up.len();
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        let peer = Keypair::from_ed25519_seed(seed).peer_id();
        let text = format!("dnsaddr=/ip4/127.0.0.1/tcp/1/p2p/{peer}");
        stranger.say(&announcement(&format!("made-up-{n}"), &text));
        made_up.push(peer);
    };
    let known = async || alices.peers().await.expect("it runs");
    while known().await.len() < MAX_FOUND_PER_MINUTE {
        assert!(began.elapsed() < PATIENCE, "they are not found");
        invent();
    }
    for _ in 0..MAX_FOUND_PER_MINUTE {
        invent();
    }
    // The one thing that still changes something: by it is known that what came before was read. One may get lost.
    let first =
        known().await.into_iter().find(|found| found.peer != bob.peer_id()).expect("there are many").peer;
    let label =
        made_up.iter().position(|peer| *peer == first).map(|n| format!("made-up-{n}")).expect("made up");
    let taking_back = async {
        let mut again = interval(Duration::from_millis(100));
        loop {
            tokio::select! {
            _ = again.tick() => stranger.say(&goodbye(&label)),
                            event = events.next() => match event.expect("it runs") {
                                Event::Expired { peer } if peer == first => return,
                                _ => {}
                            },
                        }
        }
    };
    timeout(PATIENCE, taking_back).await.expect("goodbyes are heard");
    let known = known().await;
    assert!(known.len() < MAX_FOUND_PER_MINUTE, "{}", known.len());
    assert!(known.iter().any(|found| found.peer == bob.peer_id()), "who was there before is still");
    assert_eq!(alice.connections().len(), 0, "nobody is dialed");
    alice.connect(bob.peer_id()).await.expect("it works as before");
    bob.shutdown().await;
    alice.shutdown().await;
}
