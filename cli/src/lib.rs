//! What of the `peerage` command does without a terminal: sending files to participants of a chat.
//!
//! It is a library so that tests and the fuzzer get at it, and promises nothing to other programs.

pub mod files;
pub mod text;
