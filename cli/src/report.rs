//! A dial's report, for programs.

use std::time::Duration;

use peerage::{
    Report,
    dial::{AttemptReport, AttemptResult},
};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Json {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    took_ms: f64,
    attempts: Vec<Attempt>,
    omitted: usize,
}

#[derive(Serialize)]
struct Attempt {
    address: String,
    source: String,
    /// How far it came.
    stage: String,
    result: &'static str,
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
            attempts: report.attempts.iter().map(attempt).collect(),
            omitted: report.omitted,
        }
    }
}

fn attempt(attempt: &AttemptReport) -> Attempt {
    let (result, why, fault) = match &attempt.result {
        AttemptResult::UnderWay => ("under_way", None, None),
        AttemptResult::Connected => ("connected", None, None),
        AttemptResult::Failed { error, fault } => {
            ("failed", Some(error.clone()), Some(format!("{fault:?}").to_lowercase()))
        }
        AttemptResult::WrongPeer { found } => ("wrong_peer", Some(format!("{found} answered")), None),
        AttemptResult::Abandoned => ("abandoned", None, None),
        AttemptResult::Skipped { why } => ("skipped", Some(why.clone()), None),
        _ => ("other", None, None),
    };
    Attempt {
        address: attempt.address.to_string(),
        source: attempt.source.clone(),
        stage: attempt.stage.to_string(),
        result,
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
