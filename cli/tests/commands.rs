//! `listen`, `serve`, `ping` and `identify`, as processes that meet on loopback.
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use std::io::{Read as _, Write as _};

use common::{Peerage, run};
use peerage::{Keypair, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Somewhere nobody listens.
const DEAD: &str = "/ip4/127.0.0.1/tcp/1";

#[test]
fn what_is_served_is_pinged_and_identified() {
    let mut server = Peerage::start("serve --json --security noise --muxer yamux");
    let listening = server.event("listening");
    let peer = listening["peer"].as_str().unwrap().to_owned();
    let address = listening["addrs"][0].as_str().unwrap().to_owned();
    assert!(
        address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&format!("/p2p/{peer}")),
        "{address}"
    );

    let pinged = run(&format!("ping {address} -c 3 -i 0.01 --json")).exits_with(0);
    let events = pinged.events();
    assert_eq!(events[0]["event"], "connected");
    let pongs: Vec<_> = events.iter().filter(|event| event["event"] == "pong").collect();
    assert_eq!(pongs.iter().map(|pong| pong["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(pongs.iter().all(|pong| pong["peer"] == peer.as_str() && pong["rtt_ms"].as_f64().unwrap() > 0.0));
    let summary = events.last().unwrap();
    assert_eq!((&summary["event"], &summary["sent"]), (&"summary".into(), &3.into()));
    assert_eq!((&summary["answered"], &summary["loss_percent"]), (&3.into(), &0.0.into()));
    assert!(summary["min_ms"].as_f64() <= summary["p50_ms"].as_f64());
    assert!(summary["p50_ms"].as_f64() <= summary["max_ms"].as_f64());

    let identified = &run(&format!("identify {address} --json")).exits_with(0).events()[0];
    assert_eq!((&identified["event"], &identified["peer"]), (&"identified".into(), &peer.as_str().into()));
    assert!(identified["agent"].as_str().unwrap().starts_with("peerage/"));
    assert!(identified["protocols"].as_array().unwrap().contains(&"/peerage/echo/1".into()));
    assert!(identified["observed"].as_str().unwrap().starts_with("/ip4/127.0.0.1/tcp/"));
    assert_eq!(identified["signed_record"], "valid");

    server.event("disconnected");
}

#[test]
fn people_are_told_the_same() {
    let mut server = Peerage::start("serve");
    let address = server.line(|line| line.starts_with("  /ip4/")).trim().to_owned();
    let pinged = run(&format!("ping {address} -c 2 -i 0")).exits_with(0);
    assert!(pinged.stdout.contains("seq=2") && pinged.stdout.contains("2 sent, 2 answered, 0% loss"));
    assert!(!pinged.stdout.contains('\x1b'), "no colours in a pipe");
    let identified = run(&format!("identify {address}")).exits_with(0);
    assert!(identified.stdout.contains("/peerage/echo/1"), "{}", identified.stdout);
    server.line(|line| line.contains("connected at"));
    server.line(|line| line.contains("is peerage/"));
}

#[tokio::test]
async fn echoes_come_back() {
    let (address, mut server) = tokio::task::spawn_blocking(|| {
        let mut server = Peerage::start("serve --json");
        (server.address(), server)
    })
    .await
    .unwrap();
    let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
    let address: peerage::Multiaddr = address.parse().unwrap();
    let peer = node.connect(address).await.unwrap().peer;
    let stream = node.open(peer, "/peerage/echo/1").await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let sent: Vec<u8> = (0..1 << 20).map(|i: u32| (i * 31 + 7) as u8).collect();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut back));
    read.unwrap();
    assert!(back == sent);
    let echoed = tokio::task::spawn_blocking(move || server.event("echoed")).await.unwrap();
    assert_eq!((&echoed["bytes"], &echoed["peer"]), (&sent.len().into(), &node.peer_id().to_string().into()));
}

#[test]
fn websockets_and_their_certificates() {
    let mut server = Peerage::start("serve --json --listen /ip4/127.0.0.1/tcp/0/ws");
    let address = server.address();
    assert!(address.contains("/ws/p2p/"), "{address}");
    let dialed = run(&format!("dial {address} --explain --json")).exits_with(0);
    assert!(dialed.stdout.contains("\"websocket\""), "{}", dialed.stdout);
    run(&format!("ping {address} -c 1")).exits_with(0);
    let wrong = run(&format!("ping {} -c 1", address.replace("/ws/", "/tls/ws/"))).exits_with(1);
    assert!(
        wrong.stderr.contains("hint: something answers there, but opens no WebSocket"),
        "{}",
        wrong.stderr
    );

    let none = run("listen --listen /ip4/127.0.0.1/tcp/0/tls/ws").exits_with(1);
    assert!(none.stderr.contains("needs a certificate"), "{}", none.stderr);
    let missing = run("listen --wss-cert /missing --wss-key /missing").exits_with(1);
    assert!(missing.stderr.contains("cannot read /missing"), "{}", missing.stderr);
}

#[test]
fn a_dead_port_is_explained() {
    let ended = run(&format!("ping {DEAD} -c 3")).exits_with(1);
    assert!(ended.stdout.is_empty());
    for part in
        ["cannot connect with", "failed at connect", "refused", "hint: nobody accepts connections there"]
    {
        assert!(ended.stderr.contains(part), "{part} is not in\n{}", ended.stderr);
    }
    let error = &run(&format!("identify {DEAD} --json")).exits_with(1).events()[0];
    assert_eq!(error["event"], "error");
    let attempt = &error["report"]["attempts"][0];
    assert_eq!((&attempt["stage"], &attempt["result"]), (&"connect".into(), &"failed".into()));
    assert!(error["hint"].as_str().unwrap().contains("nobody accepts"));
}

#[test]
fn a_dial_is_explained() {
    let mut server = Peerage::start("listen --json --listen /ip4/127.0.0.1/tcp/0");
    let address = server.address();
    let (there, peer) = address.split_once("/p2p/").unwrap();
    let port = there.rsplit_once('/').unwrap().1;
    let named = format!("/dns4/localhost/tcp/{port}/p2p/{peer}");

    let dialed = run(&format!("dial {named}")).exits_with(0);
    assert!(dialed.stdout.starts_with(&format!("Connected with {peer} at {there} in ")), "{}", dialed.stdout);
    assert_eq!(dialed.stdout.lines().count(), 1);

    let explained = run(&format!("dial {named} --explain")).exits_with(0);
    let lines: Vec<_> = explained.stdout.lines().collect();
    let row = |start: &str| lines.iter().position(|line| line.starts_with(start)).expect(start);
    let (name, literal) = (row(&format!("/dns4/localhost/tcp/{port} ")), row(&format!("  {there} ")));
    assert!(name < literal && lines[name + 1].contains("stands for 1 address"), "{}", explained.stdout);
    // Where the stages end is the machine's business; that they end well is not.
    assert!(lines[literal].trim_end_matches(['|', ' ']).ends_with('+'), "{}", explained.stdout);
    assert!(lines[literal + 1].contains("connected"), "{}", explained.stdout);
    assert!(lines[1..].iter().all(|line| line.chars().count() <= 100), "{}", explained.stdout);
    assert!(explained.stdout.contains("? dns") && !explained.stdout.contains('\x1b'));

    let event = &run(&format!("dial {named} --json")).exits_with(0).events()[0];
    assert_eq!((&event["event"], &event["peer"]), (&"connected".into(), &peer.into()));
    assert_eq!(event["address"], there);
    let attempts = event["report"]["attempts"].as_array().unwrap();
    assert_eq!((&attempts[0]["result"], &attempts[0]["stage"]), (&"resolved".into(), &"dns".into()));
    assert_eq!((&attempts[1]["result"], &attempts[1]["via"]), (&"connected".into(), &0.into()));
    assert!(attempts[1]["stages_ms"]["security"].as_f64() <= attempts[1]["stages_ms"]["muxer"].as_f64());
    assert!(attempts[1]["ended_ms"].as_f64().unwrap() <= event["took_ms"].as_f64().unwrap());
}

#[test]
fn a_failed_dial_is_explained() {
    let ended = run(&format!("dial {DEAD} --explain")).exits_with(1);
    assert!(ended.stdout.contains("x|") && ended.stdout.contains("failed at connect, the peer's fault"));
    assert!(ended.stderr.contains("hint: nobody accepts connections there"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("failed at connect"), "once is enough: {}", ended.stderr);
    let ended = run("dial /ip4/127.0.0.1/udp/1 --explain").exits_with(1);
    assert!(ended.stdout.contains("not tried, no transport"), "{}", ended.stdout);
    assert!(ended.stderr.contains("hint: this build dials"), "{}", ended.stderr);
    let event = &run("dial /ip4/127.0.0.1/udp/1 --json").exits_with(1).events()[0];
    assert_eq!(event["report"]["attempts"][0]["skipped"], "unsupported");
}

#[test]
fn something_else_than_libp2p_is_explained() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let ended = run(&format!("ping /ip4/127.0.0.1/tcp/{port} -c 1")).exits_with(1);
    assert!(ended.stderr.contains("failed at security"), "{}", ended.stderr);
    assert!(ended.stderr.contains("check that the port is a libp2p node's"), "{}", ended.stderr);
}

#[test]
fn somebody_else_is_not_pinged() {
    let mut server = Peerage::start("listen --json");
    let address = server.address();
    let (there, _) = address.split_once("/p2p/").unwrap();
    let wanted = Keypair::generate().peer_id();
    let ended = run(&format!("ping {there}/p2p/{wanted} -c 1")).exits_with(1);
    assert!(ended.stderr.contains("answered instead"), "{}", ended.stderr);
    run(&format!("ping {there} -c 1")).exits_with(0);
}

#[test]
fn wrong_arguments_exit_with_2_and_say_what_is_right() {
    for (args, said) in [
        ("", "Usage"),
        ("dance", "dance"),
        ("ping", "ADDR"),
        ("ping 127.0.0.1:4001", "/ip4/127.0.0.1/tcp/4001"),
        ("ping 12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA", "say where it is"),
        ("ping /ip4/127.0.0.1/tcp/1 -c many", "many"),
        ("ping /ip4/127.0.0.1/tcp/1 -i -1", "expected 0 to"),
        ("listen --security rot13", "noise"),
        ("listen --muxer none", "yamux"),
        ("listen --lan --listen /ip4/127.0.0.1/tcp/0", "--lan"),
        ("id --lan", "opens no connections"),
    ] {
        let ended = run(args).exits_with(2);
        assert!(ended.stderr.contains(said), "{args}: {}", ended.stderr);
        assert!(ended.stdout.is_empty());
    }
}

#[test]
fn help_has_examples() {
    for command in ["", "id", "listen", "serve", "dial", "ping", "identify", "chat"] {
        let help = run(&format!("{command} --help")).exits_with(0);
        assert!(help.stdout.contains("Examples:\n  peerage "), "{command}");
    }
}

#[test]
fn a_port_in_use_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let ended = run(&format!("listen --listen /ip4/127.0.0.1/tcp/{port}")).exits_with(1);
    assert!(ended.stderr.contains(&format!("if port {port} is in use")), "{}", ended.stderr);
    let ended = run("listen --listen /memory/7").exits_with(1);
    assert!(ended.stderr.contains("this build listens on"), "{}", ended.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_listener_and_its_peers_see_it_leave() {
    let mut server = Peerage::start("serve --json");
    let address = server.address();
    let mut pinger = Peerage::start(&format!("ping {address} -c 0 -i 0.01 --json"));
    pinger.event("pong");
    pinger.interrupt();
    let summary = pinger.ended().exits_with(0).events().pop().unwrap();
    assert_eq!(summary["event"], "summary");
    assert_eq!(summary["sent"], summary["answered"]);
    server.event("disconnected");
    server.interrupt();
    server.ended().exits_with(0);
}

#[cfg(unix)]
#[test]
fn pings_without_an_answer_are_a_failure() {
    let mut server = Peerage::start("listen --json");
    let address = server.address();
    let mut pinger = Peerage::start(&format!("ping {address} -c 0 -i 0.01 --json"));
    pinger.event("pong");
    server.interrupt();
    server.ended().exits_with(0);
    pinger.event("lost");
    pinger.interrupt();
    let summary = pinger.ended().exits_with(1).events().pop().unwrap();
    assert_eq!(summary["event"], "summary");
    assert!(summary["loss_percent"].as_f64().unwrap() > 0.0);
}

#[cfg(unix)]
#[test]
fn who_stops_reading_ends_it_quietly() {
    let mut server = Peerage::start("listen --json");
    let address = server.address();
    let mut pinger = Peerage::start(&format!("ping {address} -c 0 -i 0"));
    pinger.line(|line| line.starts_with("pong"));
    let ended = pinger.stop_reading().ended();
    assert_eq!(ended.status.code(), Some(141));
    assert_eq!(ended.stderr, "");
}

#[test]
fn metrics_are_served_on_loopback() {
    let mut listener = Peerage::start("listen --json --metrics 0");
    let url = listener.event("metrics")["url"].as_str().unwrap().to_owned();
    let at = url.strip_prefix("http://").unwrap().strip_suffix("/metrics").unwrap();
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    assert!(stream.peer_addr().unwrap().ip().is_loopback());
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("# EOF\n"), "{answer}");
    assert!(answer.contains("peerage_listen_addresses 1\n"), "{answer}");
}

#[test]
fn the_tree_of_actors_is_shown() {
    let mut listener = Peerage::start("listen --tree --json");
    let tree = listener.event("tree");
    let actors = tree["actors"].as_array().unwrap();
    assert!(
        actors.iter().any(|actor| actor["path"] == "protocols/ping" && actor["state"] == "running"),
        "{tree}"
    );
    let mut listener = Peerage::start("listen --tree");
    listener.line(|line| line.trim_start().starts_with("ping ") && line.contains("running"));
}

/// Also beside others that are on this machine.
#[cfg(unix)]
#[test]
fn nodes_of_one_machine_find_each_other() {
    let (mut alice, mut bob) =
        (Peerage::start("listen --mdns --json"), Peerage::start("serve --mdns --json"));
    let (of_alice, of_bob) = (alice.event("listening"), bob.event("listening"));
    let is = |other: &serde_json::Value| {
        let (peer, address) = (other["peer"].clone(), other["addrs"][0].as_str().unwrap().to_owned());
        move |found: &serde_json::Value| {
            let at = |found: &serde_json::Value| address.starts_with(found.as_str().unwrap());
            found["peer"] == peer && found["addrs"].as_array().unwrap().iter().any(at)
        }
    };
    alice.event_with("found", is(&of_bob));
    bob.event_with("found", is(&of_alice));
    bob.interrupt();
    alice.event_with("expired", |expired| expired["peer"] == of_bob["peer"]);
}
