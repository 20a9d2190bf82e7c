//! The spans of `tracing`, from a dial to a stream's handler: what a log line belongs to.

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use peerage_transport::memory::Network;
use tracing::{Subscriber, field::Visit, span};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry::LookupSpan};

/// The paths of all spans, as `connection>stream`, each with its fields' names.
#[derive(Clone, Default)]
struct Paths(Arc<Mutex<Vec<String>>>);

struct Names(Vec<&'static str>);

impl Visit for Names {
    fn record_debug(&mut self, field: &tracing::field::Field, _: &dyn std::fmt::Debug) {
        self.0.push(field.name());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Paths {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut names = Names(Vec::new());
        attributes.record(&mut names);
        let scope = context.span_scope(id).expect("it is there").from_root();
        let path: Vec<&str> = scope.map(|span| span.name()).collect();
        self.0.lock().expect("no panic").push(format!("{} {}", path.join(">"), names.0.join(",")));
    }
}

#[test]
fn a_line_is_found_by_its_dial_connection_and_stream() {
    let paths = Paths::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(paths.clone()));
    run(async {
        let network = Network::new();
        let (alice, bob) = (node(&network, 1).await, node(&network, 2).await);
        bob.connect(address(&alice)).await.expect("connected");
        check_echo(bob.open(alice.peer_id(), ECHO).await.expect("open"), 10).await;
    });
    let seen = paths.0.lock().expect("no panic");
    for expected in [
        "dial peer",
        "attempt address,peer",
        "attempt>handshake remote,direction",
        "handshake remote,direction",
        "connection id,peer,direction",
        "open connection,peer,protocol",
        "connection>stream protocol",
    ] {
        assert!(seen.iter().any(|path| path == expected), "{expected} is not among {seen:#?}");
    }
}
