//! A dial's report, for programs.

use std::{collections::BTreeMap, time::Duration};

use peerage::{
    Report,
    dial::{AttemptReport, AttemptResult, EarlySent, SourceReport},
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    took_ms: f64,
    sources: Vec<Source>,
    attempts: Vec<Attempt>,
    omitted: usize,
}

#[derive(Serialize)]
struct Source {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Attempt {
    address: String,
    source: String,
    /// The name that it came from: its place among the attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<usize>,
    /// What of its path seems to lead nowhere, for which it was left for the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<&'static str>,
    /// What became of data that it carried ahead of the handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    early: Option<&'static str>,
    /// How far it came.
    stage: String,
    /// When each stage began.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stages_ms: BTreeMap<String, f64>,
    result: &'static str,
    /// Why it was not tried, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<f64>,
}

impl Json {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            peer: report.peer.map(|peer| peer.to_string()),
            took_ms: millis(report.took),
            sources: report.sources.iter().map(source).collect(),
            attempts: report.attempts.iter().map(attempt).collect(),
            omitted: report.omitted,
        }
    }
}

fn source(source: &SourceReport) -> Source {
    let (addresses, why) = match &source.said {
        Ok(count) => (Some(*count), None),
        Err(error) => (None, Some(error.clone())),
    };
    Source { name: source.name.clone(), addresses, why }
}

fn attempt(attempt: &AttemptReport) -> Attempt {
    let (result, why, fault) = match &attempt.result {
        AttemptResult::UnderWay => ("under_way", None, None),
        AttemptResult::Resolved { .. } => ("resolved", None, None),
        AttemptResult::Connected => ("connected", None, None),
        AttemptResult::Failed { error, fault } => {
            ("failed", Some(error.clone()), Some(format!("{fault:?}").to_lowercase()))
        }
        AttemptResult::WrongPeer { found } => ("wrong_peer", Some(format!("{found} answered")), None),
        AttemptResult::Abandoned => ("abandoned", None, None),
        AttemptResult::Skipped(why) => ("skipped", Some(why.to_string()), None),
        _ => ("other", None, None),
    };
    Attempt {
        address: attempt.address.to_string(),
        source: attempt.source.clone(),
        via: attempt.via,
        doubt: attempt.doubt,
        early: attempt.early.as_ref().map(EarlySent::code),
        stage: attempt.stage.to_string(),
        stages_ms: attempt.stages.iter().map(|(stage, at)| (stage.to_string(), millis(*at))).collect(),
        result,
        skipped: match &attempt.result {
            AttemptResult::Skipped(why) => Some(why.code()),
            _ => None,
        },
        why,
        fault,
        started_ms: attempt.started.map(millis),
        ended_ms: attempt.ended.map(millis),
    }
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn millis_are_read_easily() {
        assert_eq!(millis(Duration::from_nanos(1_234_567)), 1.235);
        assert_eq!(millis(Duration::from_secs(2)), 2000.0);
    }
}
