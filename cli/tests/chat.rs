//! `peerage chat`: who joins, what they say, who leaves; and what strangers may not do.
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use common::{Peerage, command, run};
use peerage::{Keypair, Multiaddr, Node, Stream};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    task::spawn_blocking,
};

const PROTOCOL: &str = "/peerage/chat/1";

fn of<'a>(name: &'a str, key: &'a str, value: &'a str) -> impl Fn(&Value) -> bool {
    move |event| event["name"] == name && (key.is_empty() || event[key] == value)
}

fn chat(name: &str, address: &str) -> Peerage {
    Peerage::start(&format!("chat {address} --name {name} --json"))
}

#[test]
fn two_chat_and_one_leaves() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    let mut bob = chat("bob", &address);
    ada.event_with("joined", of("bob", "", ""));
    bob.event_with("joined", of("ada", "", ""));
    ada.type_line("hello bob");
    bob.event_with("said", of("ada", "text", "hello bob"));
    bob.type_line("hello ada, how are you?");
    let said = ada.event_with("said", of("bob", "text", "hello ada, how are you?"));
    assert!(said["time"].as_str().unwrap().ends_with('Z'));
    bob.type_line("bye");
    bob.close_stdin();
    bob.ended().exits_with(0);
    // In order: nothing that was said is overtaken by the leaving.
    let next = ada.event_with("said", |_| true);
    assert_eq!(next["text"], "bye");
    let left = ada.event_with("left", of("bob", "", ""));
    assert!(left["why"].is_null(), "{left}");
    ada.close_stdin();
    ada.ended().exits_with(0);
}

#[test]
fn people_see_lines_and_the_command_to_paste() {
    let mut ada = Peerage::start("chat --name ada");
    let paste = ada.line(|line| line.contains(" chat /ip4/127.0.0.1/tcp/"));
    assert!(paste.trim().starts_with(env!("CARGO_BIN_EXE_peerage")), "as it was called: {paste}");
    let (_, address) = paste.split_once(" chat ").unwrap();
    let mut bob = Peerage::start(&format!("chat {address} --name bob"));
    ada.line(|line| line.ends_with(" bob joined"));
    bob.line(|line| line.ends_with(" ada joined"));
    bob.type_line("hello");
    let line = ada.line(|line| line.ends_with(" bob: hello"));
    let (time, _) = line.split_once(' ').unwrap();
    assert_eq!(time.split(':').filter(|part| part.len() == 2).count(), 3, "{line}");
    bob.close_stdin();
    ada.line(|line| line.ends_with(" bob left"));
}

#[test]
fn what_cargo_runs_is_run_by_cargo_again() {
    let mut ada = Peerage::spawn(command("chat").env("CARGO_MANIFEST_DIR", "/somewhere"));
    ada.line(|line| line.starts_with("  cargo run -") && line.contains(" -- chat /ip4/127.0.0.1/tcp/"));
}

#[test]
fn who_joins_one_meets_all() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    let mut bob = chat("bob", &address);
    ada.event_with("joined", of("bob", "", ""));
    bob.event_with("joined", of("ada", "", ""));
    let mut eve = chat("eve", &address);
    eve.event("joined");
    eve.event("joined");
    ada.event_with("joined", of("eve", "", ""));
    bob.event_with("joined", of("eve", "", ""));
    eve.type_line("hi all");
    ada.event_with("said", of("eve", "text", "hi all"));
    bob.event_with("said", of("eve", "text", "hi all"));
    // The others go on when the one who was dialed leaves.
    ada.close_stdin();
    ada.ended().exits_with(0);
    bob.event_with("left", of("ada", "", ""));
    eve.event_with("left", of("ada", "", ""));
    bob.type_line("still here");
    eve.event_with("said", of("bob", "text", "still here"));
}

#[test]
fn what_is_piped_in_reaches_all_and_then_it_leaves() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    let mut bob = chat("bob", &address);
    ada.event_with("joined", of("bob", "", ""));
    bob.event_with("joined", of("ada", "", ""));
    let mut news = chat("news", &address);
    let lines: Vec<String> = (0..1000).map(|number| format!("line {number}")).collect();
    lines.iter().for_each(|line| news.type_line(line));
    news.close_stdin();
    for listener in [&mut ada, &mut bob] {
        for line in &lines {
            assert_eq!(listener.event("said")["text"], line.as_str());
        }
        listener.event_with("left", of("news", "", ""));
    }
    news.ended().exits_with(0);
}

#[test]
fn what_is_typed_into_an_empty_room_waits_for_whoever_joins() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    ada.type_line("anybody?");
    ada.note("kept for whoever joins first");
    ada.type_line("hello?");
    ada.close_stdin();
    ada.note("to deliver 2 lines");
    let mut bob = chat("bob", &address);
    bob.event_with("said", of("ada", "text", "anybody?"));
    bob.event_with("said", of("ada", "text", "hello?"));
    bob.event_with("left", of("ada", "", ""));
    ada.ended().exits_with(0);
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_and_tells_what_nobody_heard() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    let mut bob = chat("bob", &address);
    ada.event_with("joined", of("bob", "", ""));
    bob.event_with("joined", of("ada", "", ""));
    bob.interrupt();
    bob.ended().exits_with(0);
    ada.event_with("left", of("bob", "", ""));
    ada.type_line("are you there?");
    ada.note("kept");
    ada.interrupt();
    let error = ada.ended().exits_with(1).events().pop().unwrap();
    assert!(error["message"].as_str().unwrap().ends_with(": 1 line"), "{error}");
}

#[test]
fn nobody_to_join_is_a_failure() {
    let error = &run("chat /ip4/127.0.0.1/tcp/1 --json").exits_with(1).events()[0];
    assert_eq!(error["report"]["attempts"][0]["stage"], "connect");
    let mut server = Peerage::start("serve --json");
    let ended = run(&format!("chat {}", server.address())).exits_with(1);
    assert!(ended.stderr.contains("does not serve /peerage/chat/1"), "{}", ended.stderr);
    let ended = run("chat --name !!!").exits_with(1);
    assert!(ended.stderr.contains("try --name ada"), "{}", ended.stderr);
}

#[test]
fn names_that_clash_are_told_apart() {
    let mut ada = chat("ada", "");
    let address = ada.address();
    let _other = chat("Ada", &address);
    let joined = ada.event("joined");
    let peer = joined["peer"].as_str().unwrap();
    let short = &peer[peer.len() - 6..];
    assert_eq!(joined["name"], format!("Ada ({short})"));
}

/// A participant that is not `peerage chat`: it says what a test wants, and keeps what it is told.
struct Stranger {
    node: Node,
    spoken: Stream,
    heard: mpsc::Receiver<Stream>,
}

impl Stranger {
    async fn join(address: &str, greeting: &[u8]) -> Self {
        let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
        let (arrived, heard) = mpsc::channel(4);
        node.serve(PROTOCOL, move |stream, _| {
            let arrived = arrived.clone();
            async move {
                let _ = arrived.send(stream).await;
            }
        })
        .unwrap();
        let peer = node.connect(address.parse::<Multiaddr>().unwrap()).await.unwrap().peer;
        let mut spoken = node.open(peer, PROTOCOL).await.unwrap();
        spoken.write_all(greeting).await.unwrap();
        Self { node, spoken, heard }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.spoken.write_all(bytes).await.unwrap();
    }
}

/// A process in a test that is async itself.
async fn with<T: Send + 'static>(
    mut process: Peerage,
    work: impl FnOnce(&mut Peerage) -> T + Send + 'static,
) -> (Peerage, T) {
    spawn_blocking(move || {
        let result = work(&mut process);
        (process, result)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_do_not_reach_the_terminal() {
    for json in ["", " --json"] {
        let process = Peerage::start(&format!("chat --name ada{json}"));
        let (process, address) = with(process, |ada| {
            let line = ada.line(|line| line.contains("/ip4/127.0.0.1"));
            let from = line.find("/ip4/").unwrap();
            line[from..].trim_end_matches(['"', ']', '}', ',']).split('"').next().unwrap().to_owned()
        })
        .await;
        let greeting = "name \x1b]0;owned\x07m\u{202e}allory\x1b[31m (root)\nwhat \x1b[2J\n\n";
        let mut mallory = Stranger::join(&address, greeting.as_bytes()).await;
        mallory
            .say("\x1b[2J\x1b[1;1Hroot@host:~# \u{9b}31m\x08\x08 rm\r\u{200f}\u{2028}\x00 done\n".as_bytes())
            .await;
        let (process, said) = with(process, |ada| ada.line(|line| line.contains("done"))).await;
        // Not text, and so the end of it.
        mallory.say(b"\xff\xfe\x1b[2J\n").await;
        let (process, left) = with(process, |ada| ada.line(|line| line.contains("not UTF-8"))).await;
        assert!(
            said.contains("0ownedmallory31mroot") && left.contains("0ownedmallory31mroot"),
            "{said}\n{left}"
        );
        let all = process.seen.join("\n");
        let evil =
            |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{202e}' | '\u{200f}' | '\u{2028}');
        assert_eq!(all.chars().filter(evil).count(), 0, "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_without_an_end_costs_its_speaker_the_room() {
    let (ada, address) = with(chat("ada", ""), Peerage::address).await;
    let mut endless = Stranger::join(&address, b"name endless\n\n").await;
    endless.say(&[b'x'; 5000]).await;
    let (_, left) = with(ada, |ada| ada.event("left")).await;
    assert!(left["why"].as_str().unwrap().contains("more than 4096 bytes"), "{left}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_listen_is_dropped_and_the_others_miss_nothing() {
    const LINES: usize = 3000;
    let (ada, address) = with(chat("ada", ""), Peerage::address).await;
    let deaf = Stranger::join(&address, b"name deaf\n\n").await;
    let (ada, _) = with(ada, |ada| ada.event_with("joined", of("deaf", "", ""))).await;
    let (bob, _) = with(chat("bob", &address), |bob| bob.event_with("joined", of("ada", "", ""))).await;
    let (ada, _) = with(ada, |ada| ada.event_with("joined", of("bob", "", ""))).await;
    let text = |number: usize| format!("{number} {}", "x".repeat(1000));
    let (typing, hearing) = tokio::join!(
        with(ada, move |ada| {
            (0..LINES).for_each(|number| ada.type_line(&text(number)));
            ada.event_with("left", of("deaf", "", ""))
        }),
        with(bob, move |bob| {
            for number in 0..LINES {
                assert_eq!(bob.event("said")["text"], text(number));
            }
        }),
    );
    let (_ada, left) = typing;
    assert!(left["why"].as_str().unwrap().contains("behind"), "{left}");
    drop((hearing, deaf));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_of_the_others_and_when_one_leaves() {
    let (ada, address) = with(chat("ada", ""), Peerage::address).await;
    let (bob, bobs) = with(chat("bob", &address), Peerage::address).await;
    let (ada, _) = with(ada, |ada| ada.event_with("joined", of("bob", "", ""))).await;
    let mut stranger = Stranger::join(&address, b"name 7\n\n").await;
    let mut heard = stranger.heard.recv().await.unwrap();
    let (mut ada, _) = with(ada, |ada| ada.event_with("joined", of("7", "", ""))).await;
    ada.type_line("good day");
    ada.close_stdin();
    let mut all = String::new();
    heard.read_to_string(&mut all).await.unwrap();
    // Ada may be gone before this returns: it is all that she waits for.
    let _ = heard.close_write().await;
    assert!(all.starts_with("name ada\nat /ip4/127.0.0.1/tcp/"), "{all}");
    assert!(all.contains(&format!("\npeer {bobs}\n")), "{all}\n{bobs}");
    assert!(all.ends_with("\n\ngood day\n"), "{all}");
    spawn_blocking(|| ada.ended().exits_with(0)).await.unwrap();
    drop(bob);
    stranger.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introductions_that_lead_nowhere_are_reported_and_harm_nobody() {
    let (ada, address) = with(chat("ada", ""), Peerage::address).await;
    let nobody = Keypair::generate().peer_id();
    let greeting =
        format!("name liar\npeer /ip4/127.0.0.1/tcp/1/p2p/{nobody}\npeer /ip4/127.0.0.1/tcp/2\n\n");
    let mut liar = Stranger::join(&address, greeting.as_bytes()).await;
    let (ada, unreachable) = with(ada, |ada| ada.event("unreachable")).await;
    assert_eq!(unreachable["peer"], nobody.to_string());
    liar.say(b"oops\n").await;
    with(ada, |ada| ada.event_with("said", of("liar", "text", "oops"))).await;
}
