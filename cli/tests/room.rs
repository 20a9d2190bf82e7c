//! `peerage chat --room`: who is found, who is there, what is said to all and to one.
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use common::Peerage;
use serde_json::Value;

fn of<'a>(name: &'a str, text: &'a str) -> impl Fn(&Value) -> bool {
    move |event| event["name"] == name && (text.is_empty() || event["text"] == text)
}

fn chat(room: &str, name: &str, more: &str) -> Peerage {
    Peerage::start(&format!("chat --room {room} --no-mdns --name {name} --json {more}"))
}

#[test]
fn whoever_joins_one_meets_all_and_all_hear_each_other() {
    let mut ada = chat("tea", "ada", "");
    let address = ada.address();
    let mut bob = chat("tea", "bob", &address);
    let mut eve = chat("tea", "eve", &address);
    for (one, others) in [(&mut ada, ["bob", "eve"]), (&mut bob, ["ada", "eve"]), (&mut eve, ["ada", "bob"])]
    {
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.push(one.event("joined")["name"].as_str().unwrap().to_owned());
        }
        seen.sort();
        assert_eq!(seen, others);
    }
    // bob and eve have no connection: ada passes it on.
    bob.type_line("hello everybody");
    for one in [&mut ada, &mut eve] {
        one.event_with("said", of("bob", "hello everybody"));
    }
    bob.close_stdin();
    bob.ended().exits_with(0);
    for one in [&mut ada, &mut eve] {
        let left = one.event_with("left", of("bob", ""));
        assert!(left["why"].is_null(), "{left}");
    }
}

#[test]
fn what_is_said_to_one_is_heard_by_one() {
    let mut ada = chat("secret", "ada", "");
    let address = ada.address();
    let mut bob = chat("secret", "bob", &address);
    let mut eve = chat("secret", "eve", &address);
    bob.event_with("joined", of("ada", ""));
    ada.event_with("joined", of("bob", ""));
    // What is said before ada passes on what comes from bob, eve may never hear.
    let mut seen = [eve.event("joined"), eve.event("joined")].map(|joined| joined["name"].clone());
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, ["ada", "bob"]);
    bob.type_line("/msg ada between us");
    bob.type_line("//msg is not for me");
    // One goes directly, the other by gossip.
    let mut heard: Vec<String> = (0..2)
        .map(|_| ada.line(|line| line.contains(r#""event":"said""#) || line.contains(r#""event":"direct""#)))
        .collect();
    heard.sort();
    assert!(heard[0].contains("direct") && heard[0].contains("between us"), "{heard:?}");
    assert!(heard[1].contains("said") && heard[1].contains("/msg is not for me"), "{heard:?}");
    eve.event_with("said", of("bob", "/msg is not for me"));
    assert!(!eve.seen.iter().any(|line| line.contains("between us")));
    bob.type_line("/msg zoe hello");
    bob.note("nobody here is called zoe");
    bob.type_line("/who");
    bob.note("Here: ");
    bob.type_line("/dance");
    bob.note("/msg NAME TEXT");
}

#[test]
fn rooms_are_apart() {
    let mut ada = chat("red", "ada", "");
    let address = ada.address();
    let mut bob = chat("blue", "bob", &address);
    let mut eve = chat("red", "eve", &address);
    ada.event_with("joined", of("eve", ""));
    bob.type_line("is this red?");
    bob.note("kept for whoever joins first");
    eve.type_line("this is red");
    ada.event_with("said", of("eve", "this is red"));
    assert!(!ada.seen.iter().any(|line| line.contains("bob")));
}

#[test]
fn what_is_piped_in_is_heard_before_it_leaves() {
    let mut ada = chat("news", "ada", "");
    let address = ada.address();
    let mut news = chat("news", "news", &address);
    let lines: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    lines.iter().for_each(|line| news.type_line(line));
    news.close_stdin();
    for line in &lines {
        assert_eq!(ada.event("said")["text"], line.as_str());
    }
    ada.event_with("left", of("news", ""));
    news.ended().exits_with(0);
}

#[test]
fn nodes_of_one_machine_find_each_other() {
    let room = format!("found-{}", std::process::id());
    let start = |name: &str| Peerage::start(&format!("chat --room {room} --name {name} --json"));
    let mut ada = start("ada");
    let mut bob = start("bob");
    ada.event_with("joined", of("bob", ""));
    bob.event_with("joined", of("ada", ""));
    ada.type_line("found you");
    bob.event_with("said", of("ada", "found you"));
}

#[test]
fn a_room_has_a_name() {
    let error = Peerage::start("chat --room a/b --json").ended().exits_with(1).events().pop().unwrap();
    assert!(error["message"].as_str().unwrap().contains("no name of a room"), "{error}");
}
