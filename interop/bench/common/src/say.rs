//! What is said on stdout: one JSON object a line.

use serde_json::{Value, json};

fn line(value: &Value) {
    // Lines are flushed as they end, because stdout is line-buffered.
    println!("{value}");
}

pub(crate) fn listening(address: &str, about: &str) {
    line(&json!({ "event": "listening", "address": address, "about": about }));
}

/// What comes from now on is measured: the harness notes the CPU time and the memory of both processes.
pub(crate) fn begin() {
    line(&json!({ "event": "begin" }));
}

/// What was measured. The harness notes CPU time and memory once more.
pub(crate) fn result(value: &Value) {
    line(&json!({ "event": "result", "result": value }));
}

pub(crate) fn unsupported(what: &str) {
    line(&json!({ "event": "unsupported", "what": what }));
}
