//! How nodes find one another.
//!
//! | module | who is found |
//! | --- | --- |
//! | [`mdns`] | those on this machine, and, if the user says so, in the networks that it is in |
#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::panic,
        clippy::cast_possible_truncation
    )
)]

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod mdns;
