//! What every yamux promises, and what only this one does. The engine has tests of its own.

mod differential;
mod hostile;
mod liveness;
mod many;
mod pushes;
mod rough;
mod soon;
#[path = "../../suite/mod.rs"]
mod suite;

use std::sync::Arc;

use peerage_core::budget::Budget;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Config, Mode, handle::Shared as Link, start_shared};
use crate::{Buffered, Muxed, Outflow};

fn start_linked(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mode: Mode,
    config: Config,
) -> (Muxed, Arc<Link>) {
    let outflow = Outflow::default();
    start_shared(Buffered::new(outflow.watch(io)), outflow, mode, config, Budget::unlimited())
}
