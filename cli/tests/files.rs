//! `/send` in `peerage chat`: files between real processes, and from peers that do it badly.
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Peerage, directory};
use peerage::{Keypair, Multiaddr, Node, Stream, frame};
use peerage_cli::files::{
    MAX_OUTGOING,
    wire::{PROTOCOL, Refusal, Reply},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::spawn_blocking,
};

const ROOM: &str = "chat --room files --no-mdns";
const DIRECT: &str = "chat";

/// A participant, with a folder for what it receives.
struct Chat {
    process: Peerage,
    folder: PathBuf,
}

impl Chat {
    fn start(test: &str, how: &str, name: &str, address: &str) -> Self {
        let folder = directory(&format!("files-{test}")).join(name);
        let downloads = folder.display();
        let process =
            Peerage::start(&format!("{how} {address} --name {name} --downloads {downloads} --json"));
        Self { process, folder }
    }

    /// What is in the folder.
    fn received(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn say(&mut self, line: &str) {
        self.process.type_line(line);
    }

    fn event(&mut self, name: &str) -> Value {
        self.process.event(name)
    }
}

/// Two who see each other.
fn pair(test: &str, how: &str) -> (Chat, Chat) {
    let mut ada = Chat::start(&format!("{test}-ada"), how, "ada", "");
    let address = ada.process.address();
    let mut bob = Chat::start(&format!("{test}-bob"), how, "bob", &address);
    for one in [&mut ada, &mut bob] {
        one.event("joined");
    }
    (ada, bob)
}

fn file(test: &str, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory(&format!("files-{test}-from")).join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Sends 20 MiB from one to the other.
fn a_large_file_arrives(how: &str, test: &str) {
    let (mut ada, mut bob) = pair(test, how);
    let content = bytes(20 << 20);
    let path = file(test, "large report.bin", &content);
    ada.say(&format!("/send bob {}", path.display()));
    let offered = ada.event("file_offered");
    assert_eq!((&offered["size"], offered["name"].as_str()), (&Value::from(20 << 20), Some("bob")));
    let asked = bob.event("file_offer");
    assert_eq!((asked["name"].as_str(), asked["file"].as_str()), (Some("ada"), Some("large report.bin")));
    assert_eq!((&asked["size"], &asked["seconds"]), (&Value::from(20 << 20), &Value::from(120)));
    assert_eq!(offered["peer"].as_str().map(|peer| peer.starts_with("12D3KooW")), Some(true));
    bob.say(&format!("/accept {}", asked["id"]));
    let done = bob.event("file_done");
    assert_eq!(done["path"].as_str().map(Path::new), Some(&*bob.folder.join("large report.bin")));
    assert!(fs::read(bob.folder.join("large report.bin")).unwrap() == content, "the same bytes");
    assert_eq!(bob.received().len(), 1, "no partial file is left");
    ada.event("file_accepted");
    assert!(ada.event("file_done")["path"].is_null());
    // The chat went on.
    ada.say("did it arrive?");
    assert_eq!(bob.event("said")["text"], "did it arrive?");
    for mut one in [ada, bob] {
        one.process.close_stdin();
        one.process.ended().exits_with(0);
    }
}

#[test]
fn a_large_file_arrives_in_a_room() {
    a_large_file_arrives(ROOM, "large-room");
}

#[test]
fn a_large_file_arrives_over_direct_streams() {
    a_large_file_arrives(DIRECT, "large-direct");
}

#[test]
fn people_are_asked_in_words() {
    let mut ada = Peerage::start("chat --name ada");
    let paste = ada.line(|line| line.contains(" chat /ip4/127.0.0.1/tcp/"));
    let (_, address) = paste.split_once(" chat ").unwrap();
    let folder = directory("files-words").join("in");
    let mut bob = Peerage::start(&format!("chat {address} --name bob --downloads {}", folder.display()));
    ada.line(|line| line.ends_with(" bob joined"));
    bob.line(|line| line.ends_with(" ada joined"));
    let path = file("words", "note.txt", b"hello");
    ada.type_line(&format!("/send bob \"{}\"", path.display()));
    let offered = ada.line(|line| line.ends_with("); /cancel 1 withdraws it"));
    assert!(offered.contains("\"note.txt\", 5 B, is offered to bob (peer 12D3KooW"), "{offered}");
    let asked =
        bob.line(|line| line.contains("offers you \"note.txt\", 5 B: /accept 1 or /decline 1 within 120 s"));
    assert!(asked.contains("ada (peer 12D3KooW"), "{asked}");
    bob.type_line("/files");
    bob.note("1 \"note.txt\" from ada: 5 B, is offered");
    bob.type_line("/accept");
    bob.note("Taking \"note.txt\" from ada; /cancel 1 stops it.");
    bob.line(|line| line.contains("\"note.txt\" of ada is here, 5 B") && line.ends_with("note.txt"));
    ada.line(|line| line.ends_with(" bob accepts \"note.txt\""));
    ada.line(|line| line.contains(" bob has \"note.txt\", 5 B"));
    assert_eq!(fs::read(folder.join("note.txt")).unwrap(), b"hello");
    bob.type_line("/accept");
    bob.note("There is no file to say that about.");
    bob.type_line("/cancel 7");
    bob.note("there is no such file");
    ada.type_line("/send bob");
    ada.note("/send wants a name and a file");
    ada.type_line("/send zoe x");
    ada.note("x is not sent: nobody here is called zoe");
    ada.type_line(&format!("/send bob {}", folder.display()));
    ada.line(|line| line.contains(" bob does not have \"in\": the file cannot be read"));
    ada.type_line("/dance");
    ada.note("/send NAME FILE");
    ada.type_line("//dance");
    bob.line(|line| line.ends_with(" ada: /dance"));
}

#[test]
fn who_declines_gets_nothing() {
    let (mut ada, mut bob) = pair("decline", DIRECT);
    let path = file("decline", "x", b"x");
    ada.say(&format!("/send bob {}", path.display()));
    bob.event("file_offer");
    bob.say("/decline");
    assert_eq!(bob.event("file_failed")["why"], "you declined it");
    assert_eq!(ada.event("file_failed")["why"], "it was declined");
    assert!(!bob.folder.exists());
}

#[test]
fn what_is_piped_in_waits_for_the_receiver_and_for_the_end() {
    let mut ada = Chat::start("piped", DIRECT, "ada", "");
    let address = ada.process.address();
    let path = file("piped", "news.txt", b"news");
    let mut news = Peerage::start(&format!("chat {address} --name news --json"));
    news.type_line(&format!("/send ada {}", path.display()));
    news.close_stdin();
    ada.event("file_offer");
    ada.say("/accept");
    ada.event("file_done");
    news.ended().exits_with(0);
    assert_eq!(fs::read(ada.folder.join("news.txt")).unwrap(), b"news");

    let mut news = Peerage::start(&format!("chat {address} --name news --json"));
    news.type_line(&format!("/send ada {}", path.display()));
    news.close_stdin();
    ada.event("file_offer");
    ada.say("/decline");
    let error = news.ended().exits_with(1).events().pop().unwrap();
    assert_eq!(error["message"], "not sent: news.txt");
}

#[test]
fn a_script_fails_whatever_was_not_sent_and_whenever() {
    let (mut ada, mut news) = pair("script", DIRECT);
    let path = file("script", "news.txt", b"news");
    // All of it before the end of what is typed.
    news.say(&format!("/send ada {}", path.display()));
    ada.event("file_offer");
    ada.say("/decline");
    assert_eq!(news.event("file_failed")["unconfirmed"], false);
    news.say("/send zoe x.txt");
    let event = news.event("file_not_sent");
    assert_eq!((event["to"].as_str(), event["file"].as_str()), (Some("zoe"), Some("x.txt")));
    assert!(event["why"].as_str().unwrap().starts_with("nobody here is called zoe"), "{event}");
    for (command, why) in [
        ("accept 99", "there is no such file"),
        ("decline", "There is no file to say that about."),
        ("cancel it", "Files have numbers; /files lists them."),
        ("send ada", "/send wants a name and a file: /send ada report.pdf"),
    ] {
        news.say(&format!("/{command}"));
        let event = news.event("file_command_failed");
        assert_eq!((event["command"].as_str(), event["why"].as_str()), (Some(command), Some(why)));
    }
    news.process.close_stdin();
    let error = news.process.ended().exits_with(1).events().pop().unwrap();
    assert_eq!(error["message"], "not sent: news.txt, x.txt, /send ada");
    // Who only did not get something has nothing to say about it.
    ada.process.close_stdin();
    ada.process.ended().exits_with(0);
}

#[test]
fn who_is_not_there_to_answer_declines() {
    let (mut ada, mut bob) = pair("closed", DIRECT);
    let path = file("closed", "x", b"x");
    // Bob has typed all he had to, and stays only because his file is not answered.
    bob.say(&format!("/send ada {}", path.display()));
    bob.process.close_stdin();
    ada.event("file_offer");
    ada.say(&format!("/send bob {}", path.display()));
    assert_eq!(ada.event("file_failed")["why"], "it was declined");
    ada.say("/decline 1");
    bob.process.ended().exits_with(1);
}

#[test]
fn so_many_files_wait_for_somebody_and_not_one_more() {
    let mut ada = Peerage::start("chat --name ada --json");
    let address = ada.address();
    for _ in 0..MAX_OUTGOING {
        ada.type_line("/send bob x");
        ada.note("x is offered once bob is");
    }
    ada.type_line("/send bob x");
    let why = format!("{MAX_OUTGOING} files are on their way already");
    assert_eq!(ada.event("file_not_sent")["why"], why);
    // Somebody comes, and it is not bob.
    let _zoe = Peerage::start(&format!("chat {address} --name zoe --json"));
    for _ in 0..MAX_OUTGOING {
        ada.note("x is not sent: nobody here is called bob");
    }
    ada.type_line("/send zoe x");
    assert!(ada.event("file_failed")["why"].as_str().unwrap().starts_with("the file cannot be read"));
}

/// A participant that is not `peerage chat`, and offers what a test wants.
struct Stranger {
    node: Node,
    spoken: Stream,
}

impl Stranger {
    async fn join(address: &str) -> Self {
        let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
        hear(&node);
        let peer = node.connect(address.parse::<Multiaddr>().unwrap()).await.unwrap().peer;
        let mut spoken = node.open(peer, "/peerage/chat/1").await.unwrap();
        spoken.write_all(b"name mallory\n\n").await.unwrap();
        Self { node, spoken }
    }

    async fn offer(&self, name: &[u8], size: u8, hash: [u8; 32]) -> Stream {
        let peer = self.node.peers().swap_remove(0);
        let mut stream = self.node.open(peer, PROTOCOL.as_str()).await.unwrap();
        let name = [&[0x0a, u8::try_from(name.len()).unwrap()], name].concat();
        let message = [&name[..], &[0x10, size, 0x1a, 0x20], &hash].concat();
        let mut framed = Vec::new();
        frame::encode(&message, &mut framed);
        stream.write_all(&framed).await.unwrap();
        stream
    }
}

/// Who opens to speak is spoken to.
fn hear(node: &Node) {
    node.serve("/peerage/chat/1", |mut stream, _| async move {
        stream.read_to_end(&mut Vec::new()).await?;
        stream.close_write().await
    })
    .unwrap();
}

async fn reply(stream: &mut Stream) -> Reply {
    let mut decoder = frame::Decoder::new(64);
    loop {
        let byte = [stream.read_u8().await.unwrap()];
        if let Some(frame) = decoder.decode(&mut &byte[..]).unwrap() {
            return Reply::decode(&frame).unwrap();
        }
    }
}

/// A process in a test that is async itself.
async fn with<T: Send + 'static>(
    mut chat: Chat,
    work: impl FnOnce(&mut Chat) -> T + Send + 'static,
) -> (Chat, T) {
    spawn_blocking(move || {
        let result = work(&mut chat);
        (chat, result)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_offers_are_turned_away_and_reach_no_terminal() {
    let (mut ada, address) =
        with(Chat::start("hostile", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let mallory = Stranger::join(&address).await;
    for name in [
        &b"../../.bashrc"[..],
        b"/etc/passwd",
        b".ssh",
        b"C:\\x",
        b"a\x1b]0;owned\x07",
        "a\u{202e}gpj.exe".as_bytes(),
        b"CON",
        b"\xff",
        b"",
    ] {
        let mut stream = mallory.offer(name, 1, [0; 32]).await;
        assert_eq!(reply(&mut stream).await, Reply::No(Refusal::BadOffer), "{name:?}");
        let (chat, event) = with(ada, |ada| ada.event("file_turned_away")).await;
        assert_eq!(event["name"], "mallory");
        ada = chat;
    }
    assert!(!ada.folder.exists() && !ada.process.seen.iter().any(|line| line.contains("file_offer\"")));
    let evil = |c: char| c.is_control() || c == '\u{202e}';
    assert!(!ada.process.seen.iter().any(|line| line.contains(evil)), "{:?}", ada.process.seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_what_was_offered_is_removed_and_said() {
    let (mut ada, address) = with(Chat::start("wrong", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let mallory = Stranger::join(&address).await;
    for (body, refusal, why) in [
        (&b"right?"[..], Refusal::WrongHash, "SHA-256"),
        (b"much longer", Refusal::TooLong, "more than the 6 bytes"),
        (b"short", Refusal::TooShort, "5 of 6 bytes"),
    ] {
        let mut stream = mallory.offer(b"x.bin", 6, [0; 32]).await;
        let (chat, ()) = with(ada, |ada| {
            ada.event("file_offer");
            ada.say("/accept");
        })
        .await;
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(body).await.unwrap();
        stream.close_write().await.unwrap();
        assert_eq!(reply(&mut stream).await, Reply::No(refusal));
        drop(stream);
        let (chat, failed) = with(chat, |ada| ada.event("file_failed")).await;
        assert!(failed["why"].as_str().unwrap().contains(why), "{failed}");
        assert!(chat.received().is_empty(), "{:?}", chat.received());
        ada = chat;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_told_and_a_sender_that_vanishes_leaves_nothing() {
    let (ada, address) = with(Chat::start("vanish", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let mut mallory = Stranger::join(&address).await;
    let mut stream = mallory.offer(b"x.bin", 100, [0; 32]).await;
    let (ada, ()) = with(ada, |ada| {
        ada.event("file_offer");
        ada.say("/accept");
    })
    .await;
    assert_eq!(reply(&mut stream).await, Reply::Yes);
    stream.write_all(&[7; 50]).await.unwrap();
    let (ada, progress) =
        with(ada, |ada| ada.process.event_with("file_progress", |one| one["bytes"] == 50)).await;
    assert_eq!((&progress["percent"], progress["direction"].as_str()), (&Value::from(50), Some("in")));
    assert_eq!(ada.received(), [".x.bin.0.part"]);
    // The chat goes on meanwhile.
    mallory.spoken.write_all(b"still here\n").await.unwrap();
    let (ada, said) = with(ada, |ada| ada.event("said")).await;
    assert_eq!(said["text"], "still here");
    mallory.node.shutdown().await;
    let (ada, failed) = with(ada, |ada| ada.event("file_failed")).await;
    assert!(failed["why"].as_str().unwrap().starts_with("the sender broke off"), "{failed}");
    assert!(ada.received().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_receiver_cancels_and_whoever_leaves_leaves_nothing() {
    let (ada, address) = with(Chat::start("cancel", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let mallory = Stranger::join(&address).await;
    let begin = async |ada: Chat| {
        let mut stream = mallory.offer(b"x.bin", 100, [0; 32]).await;
        let (ada, ()) = with(ada, |ada| {
            ada.event("file_offer");
            ada.say("/accept");
        })
        .await;
        assert_eq!(reply(&mut stream).await, Reply::Yes);
        stream.write_all(&[7; 50]).await.unwrap();
        assert_eq!(ada.received(), [".x.bin.0.part"]);
        (ada, stream)
    };
    let (mut ada, mut stream) = begin(ada).await;
    ada.say("/cancel");
    assert_eq!(reply(&mut stream).await, Reply::No(Refusal::Cancelled));
    drop(stream);
    let (ada, failed) = with(ada, |ada| ada.event("file_failed")).await;
    assert_eq!(failed["why"], "you cancelled it");
    assert!(ada.received().is_empty());
    if cfg!(unix) {
        let (ada, stream) = begin(ada).await;
        let folder = ada.folder.clone();
        #[cfg(unix)]
        ada.process.interrupt();
        spawn_blocking(|| ada.process.ended().exits_with(0)).await.unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        drop(stream);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_is_closed_leaves_nothing() {
    // A process has it from whoever starts it, as under nohup.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let outlives = u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 1;
    let (ada, address) = with(Chat::start("hangup", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let mallory = Stranger::join(&address).await;
    let mut stream = mallory.offer(b"x.bin", 100, [0; 32]).await;
    let (mut ada, ()) = with(ada, |ada| {
        ada.event("file_offer");
        ada.say("/accept");
    })
    .await;
    assert_eq!(reply(&mut stream).await, Reply::Yes);
    assert_eq!(ada.received(), [".x.bin.0.part"]);
    let folder = ada.folder.clone();
    ada.process.hang_up();
    if outlives {
        ada.process.interrupt();
    }
    spawn_blocking(move || {
        ada.process.close_stdin();
        ada.process.ended().exits_with(0)
    })
    .await
    .unwrap();
    assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
    drop(stream);
}

#[cfg(target_os = "linux")]
#[test]
fn nohup_is_left_alone() {
    let mut shell = std::process::Command::new("sh");
    let command = format!("trap '' HUP; exec {} chat --json", env!("CARGO_BIN_EXE_peerage"));
    let mut ada = Peerage::spawn(shell.args(["-c", &command]));
    ada.address();
    ada.hang_up();
    ada.type_line("/accept");
    ada.event("file_command_failed");
    ada.close_stdin();
    ada.ended().exits_with(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_here_is_sent_to_while_somebody_else_is_on_the_way() {
    let (ada, address) =
        with(Chat::start("on-the-way", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    // Somebody who is heard, but never greets.
    let builder = Node::builder(Keypair::generate()).workers(1).listen("/ip4/127.0.0.1/tcp/0").unwrap();
    let silent = builder.start().await.unwrap();
    hear(&silent);
    let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
    hear(&node);
    let peer = node.connect(address.parse::<Multiaddr>().unwrap()).await.unwrap().peer;
    let mut spoken = node.open(peer, "/peerage/chat/1").await.unwrap();
    let greeting = format!("name mallory\npeer {}\n\n", silent.addresses()[0]);
    spoken.write_all(greeting.as_bytes()).await.unwrap();
    let path = file("on-the-way", "x", b"x");
    let (_ada, note) = with(ada, move |ada| {
        ada.event("joined");
        ada.say(&format!("/send mallory {}", path.display()));
        ada.say("/files");
        ada.process.note("")
    })
    .await;
    assert!(note.contains("\"x\" to mallory"), "{note}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_in_the_chat_offers_nothing() {
    let (mut ada, address) =
        with(Chat::start("outside", DIRECT, "ada", ""), |ada| ada.process.address()).await;
    let node = Node::builder(Keypair::generate()).workers(1).start().await.unwrap();
    node.connect(address.parse::<Multiaddr>().unwrap()).await.unwrap();
    let peer = node.peers().swap_remove(0);
    let mut stream = node.open(peer, PROTOCOL.as_str()).await.unwrap();
    let offer = [&b"\x0a\x01x\x10\x01\x1a\x20"[..], &[0; 32]].concat();
    let mut framed = Vec::new();
    frame::encode(&offer, &mut framed);
    stream.write_all(&framed).await.unwrap();
    assert_eq!(reply(&mut stream).await, Reply::No(Refusal::NotHere));
    ada.process.close_stdin();
    let ended = spawn_blocking(|| ada.process.ended()).await.unwrap().exits_with(0);
    let names: Vec<Value> = ended.events().into_iter().map(|mut event| event["event"].take()).collect();
    assert!(names.is_empty(), "{names:?}");
}
