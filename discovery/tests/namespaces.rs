//! Two nodes at the two ends of a cable, in network namespaces that the test makes. Nothing of it leaves them.
//!
//! Each test runs its own program again, inside: the namespaces are those of processes.

#![cfg(target_os = "linux")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use common::*;
use peerage_core::{Multiaddr, PeerId};
use peerage_discovery::mdns::{Interfaces, Mdns, PORT};
use peerage_host::Node;
use tokio::{task::spawn_blocking, time::timeout};

/// Set in the programs that run inside, to which of them it is.
const ROLE: &str = "PEERAGE_TEST_NAMESPACE";

/// This program again, in a new network namespace, with one of its tests alone.
fn inside(test: &str, role: &str, wrapper: &[&str]) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(program).args([test, "--exact", "--nocapture"]).env(ROLE, role);
    command
}

/// Runs the test inside and returns `false`, or, inside, returns `true`. Where this user may make no namespaces that is
/// said, and in CI it is a failure.
fn enter(test: &str) -> bool {
    if std::env::var_os(ROLE).is_some() {
        return true;
    }
    let ways: [&[&str]; 2] = [&["unshare", "--net"], &["unshare", "--map-root-user", "--net"]];
    let works = |way: &&&[&str]| {
        let tried = Command::new(way[0]).args(&way[1..]).args(["ip", "link", "set", "lo", "up"]).status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(way) = ways.iter().find(works) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "CI has to have network namespaces, unshare and ip"
        );
        eprintln!("skipped: no network namespaces here; it takes unshare, ip, and the right to make them");
        return false;
    };
    assert!(inside(test, "alice", way).status().expect("it runs").success(), "inside");
    false
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip is there");
    assert!(status.success(), "ip {arguments}");
}

/// The other end's program: it reads lines of what to do, and says who it is.
struct Other(Child);

impl Other {
    /// A cable from `near` to `far`, which is in the other's namespace.
    fn start(test: &str) -> Self {
        let mut command = inside(test, "bob", &["unshare", "--net"]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut other = Self(child);
        assert_eq!(other.line(), "in its namespace");
        ip("link set lo up");
        ip(&format!("link add near type veth peer name far netns {}", other.0.id()));
        // So that nothing but what is tested is sent.
        std::fs::write("/proc/sys/net/ipv6/conf/near/disable_ipv6", "1").expect("the system's own file");
        ip("addr add 10.9.0.1/24 dev near");
        ip("link set near up");
        other
    }

    fn say(&mut self, line: &str) {
        let stdin = self.0.stdin.as_mut().expect("piped");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads");
    }

    /// The next line that is not of the test's own frame.
    fn line(&mut self) -> String {
        let stdout = self.0.stdout.as_mut().expect("piped");
        let lines = BufReader::with_capacity(1, stdout).lines();
        let mut lines = lines.map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix("> ").map(str::to_owned)).expect("it lives")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn told(line: &str) {
    println!("\n> {line}");
}

fn next_line() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

async fn on_the_lan(
    seed: u8,
    listen: &str,
    interfaces: Interfaces,
) -> (Node, peerage_discovery::mdns::Handle) {
    let builder = Node::builder(keypair(seed)).workers(1).listen(listen).expect("an address");
    let (node, handle) = builder.with(Mdns::default().interfaces(interfaces));
    (node.start().await.expect("it starts"), handle)
}

fn peer(seed: u8) -> PeerId {
    keypair(seed).peer_id()
}

/// Messages that have left by the cable.
fn sent() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/dev").expect("the system's own file");
    let near = text.lines().find_map(|line| line.trim().strip_prefix("near:")).expect("an interface");
    // Eight numbers of what came, then bytes and packets of what went.
    near.split_whitespace().nth(9).and_then(|count| count.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_two_ends_of_a_cable() {
    const TEST: &str = "the_two_ends_of_a_cable";
    if !enter(TEST) {
        return;
    }
    if std::env::var_os(ROLE).is_some_and(|role| role == "bob") {
        told("in its namespace");
        assert_eq!(next_line(), "begin");
        ip("link set lo up");
        ip("addr add 10.9.0.2/24 dev far");
        ip("link set far up");
        let (bob, bobs) = on_the_lan(2, "/ip4/0.0.0.0/tcp/4001", Interfaces::Lan).await;
        let mut events = bobs.events();
        told("listens");
        told(&found(&mut events, peer(1)).await.join(" "));
        assert_eq!(next_line(), "stop");
        bob.shutdown().await;
        return;
    }
    let mut other = spawn_blocking(|| Other::start(TEST)).await.expect("no panic");

    // Nodes that were told nothing of it stay on loopback, though they listen everywhere.
    let before = sent();
    let (alice, alices) = on_the_lan(1, "/ip4/0.0.0.0/tcp/4001", Interfaces::Loopback).await;
    let (carol, carols) = on_the_lan(3, "/ip4/0.0.0.0/tcp/4003", Interfaces::Loopback).await;
    found(&mut alices.events(), carol.peer_id()).await;
    found(&mut carols.events(), alice.peer_id()).await;
    alice.shutdown().await;
    carol.shutdown().await;
    assert_eq!(sent(), before, "nothing has left this machine");

    let (alice, alices) = on_the_lan(1, "/ip4/0.0.0.0/tcp/4001", Interfaces::Lan).await;
    let mut events = alices.events();
    other.say("begin");
    // Of each other they know what the cable reaches, and nothing of loopback.
    assert_eq!(found(&mut events, peer(2)).await, ["/ip4/10.9.0.2/tcp/4001"]);
    let mut other = spawn_blocking(move || {
        assert_eq!(other.line(), "listens");
        assert_eq!(other.line(), "/ip4/10.9.0.1/tcp/4001");
        other
    })
    .await
    .expect("no panic");
    let connected = alice.connect(peer(2)).await.expect("connected");
    assert_eq!(connected.peer, peer(2));

    // Another implementation sees all of it, SRV and address records included.
    let browser = mdns_sd::ServiceDaemon::new_with_port(PORT).expect("it starts");
    let browsed = browser.browse("_p2p._udp.local.").expect("it browses");
    let resolving = spawn_blocking(move || {
        let is_bobs = |service: &mdns_sd::ResolvedService| {
            let text = service.txt_properties.get_property_val_str("dnsaddr").unwrap_or_default();
            text.parse::<Multiaddr>().is_ok_and(|address| address.peer_id() == Some(peer(2)))
        };
        loop {
            if let mdns_sd::ServiceEvent::ServiceResolved(service) = browsed.recv().expect("it runs")
                && is_bobs(&service)
            {
                return service;
            }
        }
    });
    let service = timeout(PATIENCE, resolving).await.expect("resolved in time").expect("no panic");
    assert_eq!(service.port, 4001);
    assert!(service.addresses.iter().any(|ip| ip.to_string() == "10.9.0.2"), "{:?}", service.addresses);
    browser.shutdown().expect("it stops");

    other.say("stop");
    expired(&mut events, peer(2)).await;
    alice.shutdown().await;
}
