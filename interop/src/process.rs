//! A foreign peer while it runs, and its events.

use std::{collections::BTreeMap, ffi::OsString};

use serde::Deserialize;

use crate::{
    child::Child,
    peers::Peer,
    plan::{Setup, Transport},
    site::Site,
};

/// What a peer says on stdout; see `interop/peers/README.md`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// It accepts connections.
    Listening { peer: String, addrs: Vec<String> },
    /// It was told by identify who we are.
    Identified(Told),
    /// It took a step.
    Step(Step),
    /// It took them all.
    Done { ok: bool },
    /// It did what it was told to, or could not.
    Answer(Answer),
    /// It was sent a message.
    Message(Received),
    /// Something that is no event.
    #[serde(skip)]
    Nonsense(String),
}

/// What identify told a peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Told {
    pub(crate) peer: String,
    pub(crate) agent: String,
    pub(crate) protocols: Vec<String>,
    pub(crate) addrs: Vec<String>,
}

/// How a step went. Its details are those of identify, or a peer id, or times, or nothing that is asked for here.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) ok: bool,
    pub(crate) ms: f64,
    pub(crate) error: Option<String>,
    /// Of perf: how long the upload took, and the download.
    pub(crate) up_ms: Option<f64>,
    pub(crate) down_ms: Option<f64>,
    #[serde(flatten)]
    pub(crate) told: Told,
}

/// How a peer did what it was told to.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Answer {
    /// What that was.
    #[serde(rename = "do")]
    pub(crate) to: String,
    pub(crate) ok: bool,
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) state: State,
}

/// What a node that gossips says of a topic, and of its neighbours; peer ids as texts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct State {
    /// Who wants the topic.
    pub(crate) subscribers: Vec<String>,
    /// Who is in its mesh.
    pub(crate) mesh: Vec<String>,
    /// What was agreed with each neighbour, on the stream to it.
    pub(crate) protocols: BTreeMap<String, String>,
}

/// A message that a node was sent.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    /// Its first line.
    pub(crate) name: String,
    pub(crate) bytes: usize,
    /// Whether it is as it was written.
    pub(crate) intact: bool,
    /// Empty if it has none.
    pub(crate) author: String,
}

/// A running peer. Dropping it kills it.
pub(crate) struct Process(Child);

impl Process {
    /// Runs a peer that listens.
    pub(crate) fn listen(peer: &Peer, site: &Site, setup: Setup) -> Result<Self, String> {
        let mut args = words(&["listen", "--addr", setup.transport.listen()]);
        if setup.transport == Transport::Wss {
            args.extend([
                "--tls-cert".into(),
                site.certificate().into(),
                "--tls-key".into(),
                site.key().into(),
            ]);
        }
        Self::spawn(peer, site, setup, args)
    }

    /// Runs a peer that dials, and takes these steps.
    pub(crate) fn dial(
        peer: &Peer,
        site: &Site,
        setup: Setup,
        address: &str,
        steps: &str,
    ) -> Result<Self, String> {
        let mut args = words(&["dial", "--addr", address, "--steps", steps]);
        if setup.transport == Transport::Wss {
            args.extend(["--tls-ca".into(), site.authority().into()]);
        }
        Self::spawn(peer, site, setup, args)
    }

    /// Runs a peer that publishes and subscribes as it is told to.
    pub(crate) fn gossip(
        peer: &Peer,
        site: &Site,
        setup: Setup,
        signing: &str,
        parts: bool,
    ) -> Result<Self, String> {
        let mut args = words(&["gossip", "--signing", signing]);
        if parts {
            args.push("--parts".into());
        }
        Self::spawn(peer, site, setup, args)
    }

    fn spawn(peer: &Peer, site: &Site, setup: Setup, args: Vec<OsString>) -> Result<Self, String> {
        let script = peer.dir(site.peers()).join("run");
        let args = args.into_iter().chain(peer.arguments(setup).into_iter().map(OsString::from));
        Child::spawn(&script, args).map(Self)
    }

    /// Tells it to do something.
    pub(crate) async fn tell(&mut self, command: &serde_json::Value) -> Result<(), String> {
        self.0.say(&command.to_string()).await
    }

    /// What it says next.
    pub(crate) async fn event(&mut self) -> Result<Event, String> {
        match self.0.line().await.map(|line| parse(&line)) {
            Some(Event::Nonsense(line)) => Err(format!("the peer said what is no event: {line}")),
            Some(event) => Ok(event),
            None => Err("the peer has ended".to_owned()),
        }
    }

    /// The end of what it wrote on stderr.
    pub(crate) fn stderr(&self) -> Vec<String> {
        self.0.stderr()
    }

    /// Closes its stdin, on which listeners end, and waits for that; kills it if it lingers.
    pub(crate) async fn end(&mut self) -> Result<(), String> {
        self.0.end().await
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn parse(line: &str) -> Event {
    serde_json::from_str(line).unwrap_or_else(|_| Event::Nonsense(line.chars().take(200).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events() {
        assert_eq!(
            parse(r#"{"event":"listening","peer":"12D3","addrs":["/ip4/127.0.0.1/tcp/1"]}"#),
            Event::Listening { peer: "12D3".to_owned(), addrs: vec!["/ip4/127.0.0.1/tcp/1".to_owned()] }
        );
        let told = Told {
            peer: "12D3".to_owned(),
            agent: "go-libp2p/0.51.0".to_owned(),
            protocols: vec!["/x/1".to_owned()],
            addrs: vec![],
        };
        let line = r#"{"event":"identified","peer":"12D3","agent":"go-libp2p/0.51.0","protocol_version":"",
            "protocols":["/x/1"],"addrs":[],"observed":"/ip4/127.0.0.1/tcp/1"}"#;
        assert_eq!(parse(line), Event::Identified(told));
        assert_eq!(parse(r#"{"event":"done","ok":false}"#), Event::Done { ok: false });
        let line = r#"{"event":"message","topic":"t","name":"n","bytes":2,"intact":true,"author":""}"#;
        let message = Received {
            topic: "t".to_owned(),
            name: "n".to_owned(),
            bytes: 2,
            intact: true,
            author: String::new(),
        };
        assert_eq!(parse(line), Event::Message(message));
        let line = r#"{"event":"answer","do":"state","ok":true,"mesh":["12D3"],"subscribers":[],"protocols":{"12D3":"/m"}}"#;
        let Event::Answer(answer) = parse(line) else { panic!("{line}") };
        assert_eq!((answer.ok, answer.state.mesh), (true, vec!["12D3".to_owned()]));
        let Event::Answer(answer) = parse(r#"{"event":"answer","do":"dial","ok":false,"error":"no"}"#) else {
            panic!("no answer")
        };
        assert_eq!((answer.ok, answer.error.as_deref()), (false, Some("no")));
        assert_eq!(parse("hello"), Event::Nonsense("hello".to_owned()));
        assert_eq!(parse(r#"{"event":"?"}"#), Event::Nonsense(r#"{"event":"?"}"#.to_owned()));
    }

    #[test]
    fn steps_with_and_without_details() {
        let ping = r#"{"event":"step","step":"ping","ok":true,"ms":1.25,"rtts_ms":[0.4,0.3,0.3]}"#;
        let Event::Step(step) = parse(ping) else { panic!("{ping}") };
        assert_eq!((step.step.as_str(), step.ok, step.ms, step.told), ("ping", true, 1.25, Told::default()));
        let identify = r#"{"event":"step","step":"identify","ok":true,"ms":2,"peer":"12D3","agent":"a/1"}"#;
        let Event::Step(step) = parse(identify) else { panic!("{identify}") };
        assert_eq!((step.told.peer.as_str(), step.told.agent.as_str()), ("12D3", "a/1"));
        let failed = r#"{"event":"step","step":"callback","ok":false,"ms":20000.1,"error":"why"}"#;
        let Event::Step(step) = parse(failed) else { panic!("{failed}") };
        assert_eq!((step.ok, step.error.as_deref()), (false, Some("why")));
    }
}
