//! `--identity`, and `peerage id`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use common::{Peerage, directory, run};

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

fn id(file: &Path) -> String {
    let ended = run(&format!("id --json --identity {}", file.display())).exits_with(0);
    ended.events()[0]["peer"].as_str().unwrap().to_owned()
}

#[test]
fn an_identity_is_made_once_and_kept_for_its_owner_only() {
    let directory = directory("identity-kept");
    let file = directory.join("node.key");
    let first = id(&file);
    assert!(first.starts_with("12D3KooW"));
    assert_eq!(mode(&file), 0o600);
    assert_eq!(id(&file), first);
    let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["node.key"], "nothing else is left behind");

    let mut node = Peerage::start(&format!("listen --json --identity {}", file.display()));
    assert_eq!(node.event("listening")["peer"], first.as_str());
}

#[test]
fn the_key_is_a_libp2p_private_key() {
    let file = directory("identity-format").join("node.key");
    let keypair = peerage::Keypair::generate();
    fs::write(&file, &keypair.to_protobuf()[..]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(id(&file), keypair.peer_id().to_string());
}

#[test]
fn identities_of_every_type() {
    let directory = directory("identity-types");
    for (name, shown, prefix) in [
        ("ed25519", "Ed25519", "12D3KooW"),
        ("secp256k1", "secp256k1", "16Uiu2HA"),
        ("ecdsa", "ECDSA", "Qm"),
        ("rsa", "RSA", "Qm"),
    ] {
        let file = directory.join(name);
        let made = run(&format!("id --json --type {name} --identity {}", file.display())).exits_with(0);
        assert_eq!(made.events()[0]["key_type"], shown);
        let peer = made.events()[0]["peer"].as_str().unwrap().to_owned();
        assert!(peer.starts_with(prefix), "{peer}");
        // Kept, whether its type is said or not; and never replaced by one of another type.
        assert_eq!(id(&file), peer);
        let again = run(&format!("id --json --type {name} --identity {}", file.display())).exits_with(0);
        assert_eq!(again.events()[0]["peer"], peer.as_str());
        let other = if name == "rsa" { "ecdsa" } else { "rsa" };
        let refused = run(&format!("id --type {other} --identity {}", file.display())).exits_with(1);
        assert!(refused.stderr.contains(&format!("is {shown}, not")), "{}", refused.stderr);
        assert_eq!(id(&file), peer);
        let mut node = Peerage::start(&format!("listen --json --identity {}", file.display()));
        assert_eq!(node.event("listening")["peer"], peer.as_str());
    }
    let unknown = run("id --type dsa").exits_with(2);
    assert!(unknown.stderr.contains("ed25519, secp256k1, ecdsa or rsa"), "{}", unknown.stderr);
}

#[test]
fn without_a_file_every_run_is_somebody_else() {
    let text = |ended: common::Ended| ended.stdout.lines().next().unwrap().to_owned();
    assert_ne!(text(run("id").exits_with(0)), text(run("id").exits_with(0)));
}

#[test]
fn who_comes_first_is_who_all_become() {
    let file = directory("identity-race").join("node.key");
    let args = format!("id --json --identity {}", file.display());
    let racing: Vec<Peerage> = (0..8).map(|_| Peerage::start(&args)).collect();
    let ids: Vec<_> =
        racing.into_iter().map(|one| one.ended().exits_with(0).events()[0]["peer"].clone()).collect();
    assert!(ids.iter().all(|one| *one == ids[0]), "{ids:?}");
    assert_eq!(ids[0], id(&file).as_str());
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let file = directory("identity-open").join("node.key");
    id(&file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(&format!("listen --identity {}", file.display())).exits_with(1);
    assert!(ended.stderr.contains("mode 644") && ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

#[test]
fn what_is_no_key_is_refused_and_left_alone() {
    let directory = directory("identity-wrong");
    let file = directory.join("notes.txt");
    for content in [&b"remember the milk"[..], &[], &[0; 1 << 20]] {
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let ended = run(&format!("id --identity {}", file.display())).exits_with(1);
        assert!(ended.stderr.contains("has no identity in it"), "{}", ended.stderr);
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    let ended = run(&format!("id --identity {}", directory.display())).exits_with(1);
    assert!(ended.stderr.contains("is not a file"), "{}", ended.stderr);
    let nowhere = directory.join("missing").join("node.key");
    let ended = run(&format!("id --json --identity {}", nowhere.display())).exits_with(1);
    assert_eq!(ended.events()[0]["hint"], "make its directory first");
    let dangling = directory.join("link");
    std::os::unix::fs::symlink(directory.join("gone"), &dangling).unwrap();
    let ended = run(&format!("id --identity {}", dangling.display())).exits_with(1);
    assert!(ended.stderr.contains("leads nowhere"), "{}", ended.stderr);
}
