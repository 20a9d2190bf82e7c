//! What tests of several modules share.

use std::{fs, path::PathBuf};

/// An empty directory of this test's own.
pub(crate) fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("peerage-host-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("there is room for it");
    path
}
