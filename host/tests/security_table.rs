//! `docs/security.md` names tests, and they are there.

use std::{fs, path::Path};

#[test]
fn every_hole_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("docs/security.md")).expect("the table");
    let mut missing = Vec::new();
    let mut rows = 0;
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| id")) {
        if line.starts_with("| ---") {
            continue;
        }
        rows += 1;
        // What stands between backquotes is every second piece.
        let named = line.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(".rs::"));
        for (file, test) in named {
            let text = fs::read_to_string(root.join(format!("{file}.rs"))).unwrap_or_default();
            // Those that several muxers share are generic.
            if ![format!("fn {test}("), format!("fn {test}<")].iter().any(|begin| text.contains(begin)) {
                missing.push(format!("{file}.rs::{test}"));
            }
        }
        let is_said = line.contains(".rs::") || line.contains("of ours");
        assert!(is_said, "{line}");
    }
    assert!(rows > 50, "{rows} rows are read");
    assert!(missing.is_empty(), "{missing:#?}");
}
