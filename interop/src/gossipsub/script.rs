//! What a node is told to do, as `script_instruction.py` of the suite writes it.

use serde::Deserialize;

use super::params::{BadParams, GossipSubParams};

/// The largest message that a script may publish, as in go's program of the suite.
pub(super) const MAX_MESSAGE: usize = 10 << 20;
/// A message begins with its id, so it has no less.
pub(super) const MIN_MESSAGE: usize = 8;
/// The longest delay of a validation, in seconds.
const MAX_DELAY: f64 = 3600.0;
/// How deep conditions may be in each other.
const MAX_DEPTH: usize = 16;

/// A script that this node can obey.
#[derive(Debug, PartialEq)]
pub(super) struct Script(pub(super) Vec<Instruction>);

/// Why a script is not obeyed.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// It is not what the suite writes.
    #[error("the script is none: {0}")]
    Malformed(String),
    /// A value is out of bounds.
    #[error("{instruction}: {why}")]
    OutOfBounds { instruction: &'static str, why: String },
    /// The parameters do not fit together.
    #[error("initGossipSub: {0}")]
    Params(#[from] BadParams),
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(super) enum Instruction {
    Connect {
        connect_to: Vec<u32>,
    },
    #[serde(rename = "ifNodeIDEquals")]
    IfNodeIdEquals {
        #[serde(rename = "nodeID")]
        node: u32,
        instruction: Box<Instruction>,
    },
    /// Since this program's start.
    WaitUntil {
        elapsed_seconds: u64,
    },
    Publish {
        #[serde(rename = "messageID")]
        message: u64,
        message_size_bytes: usize,
        #[serde(rename = "topicID")]
        topic: String,
    },
    SubscribeToTopic {
        #[serde(rename = "topicID")]
        topic: String,
        #[serde(default)]
        partial: bool,
    },
    SetTopicValidationDelay {
        #[serde(rename = "topicID")]
        topic: String,
        delay_seconds: f64,
    },
    InitGossipSub {
        gossip_sub_params: Box<GossipSubParams>,
    },
    /// These parts of a message are there; a bitmap.
    AddPartialMessage {
        parts: u8,
        #[serde(rename = "topicID")]
        topic: String,
        #[serde(rename = "groupID")]
        group: u64,
    },
    PublishPartial {
        #[serde(rename = "topicID")]
        topic: String,
        #[serde(rename = "groupID")]
        group: u64,
        /// To these nodes only.
        #[serde(rename = "publishToNodeIDs", default)]
        to: Option<Vec<u32>>,
    },
}

impl Script {
    /// Reads all of it, and refuses all of it if any node could not do its part.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Params {
            script: Vec<Instruction>,
        }
        let params: Params =
            serde_json::from_str(text).map_err(|error| Error::Malformed(error.to_string()))?;
        params.script.iter().try_for_each(|instruction| instruction.check(0))?;
        Ok(Self(params.script))
    }
}

impl Instruction {
    /// Its name in the suite.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::IfNodeIdEquals { .. } => "ifNodeIDEquals",
            Self::WaitUntil { .. } => "waitUntil",
            Self::Publish { .. } => "publish",
            Self::SubscribeToTopic { .. } => "subscribeToTopic",
            Self::SetTopicValidationDelay { .. } => "setTopicValidationDelay",
            Self::InitGossipSub { .. } => "initGossipSub",
            Self::AddPartialMessage { .. } => "addPartialMessage",
            Self::PublishPartial { .. } => "publishPartial",
        }
    }

    fn check(&self, depth: usize) -> Result<(), Error> {
        let instruction = self.name();
        let beyond = |why: String| Err(Error::OutOfBounds { instruction, why });
        match self {
            Self::IfNodeIdEquals { .. } if depth >= MAX_DEPTH => {
                beyond(format!("more than {MAX_DEPTH} within each other"))
            }
            Self::IfNodeIdEquals { instruction, .. } => instruction.check(depth.saturating_add(1)),
            Self::Publish { message_size_bytes: size, .. } if !(MIN_MESSAGE..=MAX_MESSAGE).contains(size) => {
                beyond(format!("a message has {MIN_MESSAGE} to {MAX_MESSAGE} bytes, this one {size}"))
            }
            Self::SetTopicValidationDelay { delay_seconds: delay, .. }
                if !(0.0..=MAX_DELAY).contains(delay) =>
            {
                beyond(format!("a delay has 0 to {MAX_DELAY} seconds, this one {delay}"))
            }
            Self::InitGossipSub { gossip_sub_params } => Ok(gossip_sub_params.config().map(drop)?),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(instructions: &str) -> Result<Vec<Instruction>, Error> {
        Script::parse(&format!(r#"{{"script": [{instructions}]}}"#)).map(|script| script.0)
    }

    #[test]
    fn every_instruction_as_the_suite_writes_it() {
        let script = parse(
            r#"{"type":"ifNodeIDEquals","nodeID":0,"instruction":
                   {"type":"initGossipSub","gossipSubParams":{"HeartbeatInitialDelay":100100000.0}}},
               {"type":"setTopicValidationDelay","topicID":"a-subnet","delaySeconds":0.005},
               {"type":"ifNodeIDEquals","nodeID":1,"instruction":{"type":"connect","connectTo":[0,2]}},
               {"type":"subscribeToTopic","topicID":"a-subnet","partial":false},
               {"type":"waitUntil","elapsedSeconds":120},
               {"type":"publish","messageID":31,"messageSizeBytes":98304,"topicID":"a-subnet"}"#,
        );
        let script = script.unwrap();
        let names: Vec<&str> = script.iter().map(Instruction::name).collect();
        let init = "ifNodeIDEquals";
        assert_eq!(
            names,
            [init, "setTopicValidationDelay", init, "subscribeToTopic", "waitUntil", "publish"]
        );
        let topic = || "a-subnet".to_owned();
        assert_eq!(script[1], Instruction::SetTopicValidationDelay { topic: topic(), delay_seconds: 0.005 });
        let connect = Box::new(Instruction::Connect { connect_to: vec![0, 2] });
        assert_eq!(script[2], Instruction::IfNodeIdEquals { node: 1, instruction: connect });
        assert_eq!(script[4], Instruction::WaitUntil { elapsed_seconds: 120 });
        let publish = Instruction::Publish { message: 31, message_size_bytes: 98304, topic: topic() };
        assert_eq!(script[5], publish);
    }

    #[test]
    fn instructions_of_partial_messages() {
        let script = parse(
            r#"{"type":"subscribeToTopic","topicID":"t","partial":true},
               {"type":"addPartialMessage","parts":255,"topicID":"t","groupID":9},
               {"type":"publishPartial","topicID":"t","groupID":9},
               {"type":"publishPartial","topicID":"t","groupID":9,"publishToNodeIDs":null},
               {"type":"publishPartial","topicID":"t","groupID":9,"publishToNodeIDs":[1,2]}"#,
        );
        let topic = || "t".to_owned();
        let publish = |to| Instruction::PublishPartial { topic: topic(), group: 9, to };
        let expected = [
            Instruction::SubscribeToTopic { topic: topic(), partial: true },
            Instruction::AddPartialMessage { parts: 255, topic: topic(), group: 9 },
            publish(None),
            publish(None),
            publish(Some(vec![1, 2])),
        ];
        assert_eq!(script.unwrap(), expected);
        let nine_parts = r#"{"type":"addPartialMessage","parts":256,"topicID":"t","groupID":9}"#;
        assert!(matches!(parse(nine_parts), Err(Error::Malformed(_))));
    }

    #[test]
    fn bounds() {
        let publish = |size: usize| {
            parse(&format!(r#"{{"type":"publish","messageID":1,"messageSizeBytes":{size},"topicID":"t"}}"#))
        };
        assert!(publish(MIN_MESSAGE).is_ok() && publish(MAX_MESSAGE).is_ok());
        assert!(publish(MIN_MESSAGE - 1).is_err() && publish(MAX_MESSAGE + 1).is_err());
        let delay = |seconds: &str| {
            parse(&format!(r#"{{"type":"setTopicValidationDelay","topicID":"t","delaySeconds":{seconds}}}"#))
        };
        assert!(delay("0").is_ok() && delay("3600").is_ok());
        assert!(delay("-0.1").is_err() && delay("3600.1").is_err());
        let nested = |depth: usize| {
            let open = r#"{"type":"ifNodeIDEquals","nodeID":1,"instruction":"#.repeat(depth);
            parse(&format!(r#"{open}{{"type":"waitUntil","elapsedSeconds":1}}{}"#, "}".repeat(depth)))
        };
        assert!(nested(MAX_DEPTH).is_ok());
        assert!(matches!(nested(MAX_DEPTH + 1), Err(Error::OutOfBounds { .. })));
    }

    #[test]
    fn what_is_no_script() {
        for text in ["", "{}", r#"{"script":[{"type":"dance"}]}"#, r#"{"script":[{"connectTo":[1]}]}"#] {
            assert!(matches!(Script::parse(text), Err(Error::Malformed(_))), "{text}");
        }
    }
}
