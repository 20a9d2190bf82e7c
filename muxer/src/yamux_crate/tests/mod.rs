//! What every yamux promises, and what only this one does.

mod leaving;
#[path = "../../suite/mod.rs"]
mod suite;
mod tap;

use super::{start_linked, table::Link};
