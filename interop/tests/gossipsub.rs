//! Nodes that obey one script of the gossipsub suite, as processes of their own, on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_peerage-interop");
const NODES: usize = 5;
const TOPIC: &str = "a-subnet";
/// As in the suite's scenario, and more than most buffers.
const BYTES: usize = 2 * 1024 * 48;

/// A directory of this test, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("interop-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file of hosts with free ports. All are held until all are known, so that they differ.
fn hosts() -> String {
    let held: Vec<TcpListener> = (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let line = |(node, held): (usize, &TcpListener)| {
        format!("{node} /ip4/127.0.0.1/tcp/{}\n", held.local_addr().unwrap().port())
    };
    held.iter().enumerate().map(line).collect()
}

fn start(node: usize, params: &Path, hosts: &Path) -> Child {
    let mut command = Command::new(PROGRAM);
    command.arg("--params").arg(params).args(["--node", &node.to_string(), "--hosts"]).arg(hosts);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn only(node: usize, instruction: Value) -> Value {
    json!({ "type": "ifNodeIDEquals", "nodeID": node, "instruction": instruction })
}

/// The suite's `subnet-blob-msg`, with fewer nodes and shorter waits: heartbeats that do not fall together, a validation
/// that takes its time, a mesh, and messages of different nodes.
fn subnet_blob_msg() -> String {
    let mut script = Vec::new();
    for node in 0..NODES {
        let params = json!({ "HeartbeatInitialDelay": 100_000_000 + 100_000 * (node + 1) });
        script.push(only(node, json!({ "type": "initGossipSub", "gossipSubParams": params })));
    }
    script.push(json!({ "type": "setTopicValidationDelay", "topicID": TOPIC, "delaySeconds": 0.005 }));
    // A ring: who is not next to the publisher gets messages through others.
    for node in 0..NODES {
        let next = (node + 1) % NODES;
        script.push(only(node, json!({ "type": "connect", "connectTo": [next] })));
    }
    script.push(json!({ "type": "subscribeToTopic", "topicID": TOPIC, "partial": false }));
    for message in 0..NODES {
        script.push(json!({ "type": "waitUntil", "elapsedSeconds": 8 + message }));
        let publish = json!({ "type": "publish", "messageID": message + 256, "messageSizeBytes": BYTES, "topicID": TOPIC });
        script.push(only(message, publish));
    }
    script.push(json!({ "type": "waitUntil", "elapsedSeconds": 20 }));
    json!({ "script": script }).to_string()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What each node says that obeys a script, until all have ended.
fn obey(name: &str, script: &str) -> (Vec<Output>, Vec<Vec<Value>>) {
    let dir = Dir::new(name);
    let (params, hosts) = (dir.write("params.json", script), dir.write("hosts.txt", &hosts()));
    let nodes: Vec<Child> = (0..NODES).map(|node| start(node, &params, &hosts)).collect();
    let outputs: Vec<Output> = nodes.into_iter().map(|node| node.wait_with_output().unwrap()).collect();
    let mut lines: Vec<Vec<Value>> = Vec::new();
    for (node, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "node {node}: {}", text(output));
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(said.iter().all(|line| line["time"].is_string()), "{said:?}");
        assert_eq!((&said[0]["msg"], &said[0]["node_id"]), (&json!("PeerID"), &json!(node)));
        lines.push(said);
    }
    (outputs, lines)
}

#[test]
fn every_message_reaches_every_node() {
    let (outputs, lines) = obey("gossipsub", &subnet_blob_msg());
    let peer = |(node, said): (usize, &Vec<Value>)| (said[0]["id"].as_str().unwrap().to_owned(), node);
    let peers: BTreeMap<String, usize> = lines.iter().enumerate().map(peer).collect();
    assert_eq!(peers.len(), NODES, "each has a key of its own");
    for (node, said) in lines.iter().enumerate() {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for line in &said[1..] {
            assert_eq!((&line["msg"], &line["topic"]), (&json!("Received Message"), &json!(TOPIC)));
            let from = peers[line["from"].as_str().unwrap()];
            assert!(
                [1, NODES - 1].contains(&((from + NODES - node) % NODES)),
                "{from} is no neighbour of {node}"
            );
            *times.entry(line["id"].as_str().unwrap()).or_default() += 1;
        }
        for message in 0..NODES {
            let (id, came) = ((message + 256).to_string(), usize::from(message != node));
            let times = times.remove(id.as_str()).unwrap_or_default();
            assert!(times >= came, "node {node} got message {id} {times} times: {}", text(&outputs[node]));
        }
        assert!(times.is_empty(), "{times:?} were not published");
    }
}

/// The suite's `partial-messages-chain` and `partial-messages-fanout` at once, with fewer nodes and messages: each node has other
/// parts of what is said in one topic; all of what is said in another is with one that does not want it itself.
fn partial_messages() -> String {
    let mut script = vec![json!({ "type": "initGossipSub", "gossipSubParams": {} })];
    for node in 1..NODES {
        script.push(only(node, json!({ "type": "connect", "connectTo": [node - 1] })));
    }
    script.push(json!({ "type": "subscribeToTopic", "topicID": TOPIC, "partial": true }));
    let fanout = json!({ "type": "subscribeToTopic", "topicID": "fanout", "partial": true });
    script.extend((1..NODES).map(|node| only(node, fanout.clone())));
    script.push(json!({ "type": "waitUntil", "elapsedSeconds": 8 }));
    for group in 0..3 {
        for part in 0..8 {
            let parts = json!({ "type": "addPartialMessage", "topicID": TOPIC, "groupID": group, "parts": 1 << part });
            script.push(only((group * 8 + part) % NODES, parts));
        }
        script.push(json!({ "type": "publishPartial", "topicID": TOPIC, "groupID": group }));
    }
    let all = json!({ "type": "addPartialMessage", "topicID": "fanout", "groupID": u64::MAX, "parts": 255 });
    script.push(only(0, all));
    let to: Vec<usize> = (1..NODES).collect();
    let publish =
        json!({ "type": "publishPartial", "topicID": "fanout", "groupID": u64::MAX, "publishToNodeIDs": to });
    script.push(only(0, publish));
    script.push(json!({ "type": "waitUntil", "elapsedSeconds": 18 }));
    json!({ "script": script }).to_string()
}

#[test]
fn all_parts_reach_every_node() {
    let (outputs, lines) = obey("gossipsub-partial", &partial_messages());
    for (node, said) in lines.iter().enumerate() {
        let mut whole: Vec<u64> = said[1..]
            .iter()
            .map(|line| {
                assert_eq!(line["msg"], "All parts received");
                line["group id"].as_u64().unwrap()
            })
            .collect();
        whole.sort_unstable();
        assert_eq!(whole, [0, 1, 2, u64::MAX], "node {node}: {}", text(&outputs[node]));
    }
}

#[test]
fn what_a_node_cannot_do_is_named_before_it_does_anything() {
    let dir = Dir::new("gossipsub-refused");
    let hosts = dir.write("hosts.txt", "0 /ip4/127.0.0.1/tcp/0");
    let init = json!({ "type": "initGossipSub", "gossipSubParams": {} });
    for (instruction, named) in [
        (
            json!({ "type": "publish", "messageID": 1, "messageSizeBytes": 7, "topicID": TOPIC }),
            "publish: a message has",
        ),
        (
            json!({ "type": "setTopicValidationDelay", "topicID": TOPIC, "delaySeconds": -1 }),
            "setTopicValidationDelay: a delay has",
        ),
        (json!({ "type": "dance" }), "the script is none"),
    ] {
        let script = json!({ "script": [init, only(7, instruction)] }).to_string();
        let params = dir.write("params.json", &script);
        let output = start(0, &params, &hosts).wait_with_output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(named), "{said}");
    }
    let early =
        json!({ "script": [{ "type": "publish", "messageID": 1, "messageSizeBytes": 8, "topicID": TOPIC }] });
    let params = dir.write("params.json", &early.to_string());
    let output = start(0, &params, &hosts).wait_with_output().unwrap();
    assert!(!output.status.success() && text(&output).contains("publish: initGossipSub has to come before"));
}
