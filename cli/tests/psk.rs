//! `--psk`, and `peerage psk`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails there, and says where")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use common::{Peerage, command, directory, run};

fn make(file: &Path) -> String {
    let ended = run(&format!("psk --json {}", file.display())).exits_with(0);
    ended.events()[0]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_made_once_for_its_owner_only() {
    let file = directory("psk-made").join("swarm.key");
    let ended = run(&format!("psk {}", file.display())).exits_with(0);
    assert!(ended.stderr.contains("--psk"), "{}", ended.stderr);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read_to_string(&file).unwrap();
    assert!(content.starts_with("/key/swarm/psk/1.0.0/\n/base16/\n"));
    let fingerprint = make(&file);
    assert!(ended.stdout.contains(&fingerprint), "{}", ended.stdout);
    assert_eq!(fs::read_to_string(&file).unwrap(), content, "it is left alone");
    let digits = content.lines().nth(2).unwrap();
    assert!(!ended.stdout.contains(digits) && !ended.stderr.contains(digits), "the key is not printed");
}

#[test]
fn the_key_of_another_implementation_is_read() {
    let file = directory("psk-known").join("swarm.key");
    let key =
        "/key/swarm/psk/1.0.0/\n/base16/\n6189c5cf0b87fb800c1a9feeda73c6ab5e998db48fb9e6a978575c770ceef683";
    fs::write(&file, key).unwrap();
    assert_eq!(make(&file), "45fc986bbc9388a11d939df26f730f0c");
}

#[test]
fn members_are_reached_and_strangers_are_told_why_not() {
    let directory = directory("psk-members");
    let (ours, other) = (directory.join("swarm.key"), directory.join("other.key"));
    make(&ours);
    make(&other);
    let mut server = Peerage::start(&format!("serve --json --psk {}", ours.display()));
    let address = server.address();
    run(&format!("ping {address} -c 1 --psk {}", ours.display())).exits_with(0);
    let ended = run(&format!("ping {address} -c 1 --psk {}", other.display())).exits_with(1);
    assert!(ended.stderr.contains("is the pre-shared key the same on both sides?"), "{}", ended.stderr);
    run(&format!("ping {address} -c 1")).exits_with(1);
}

#[test]
fn a_missing_or_wrong_key_is_an_error_with_advice() {
    let directory = directory("psk-wrong");
    let missing = directory.join("missing.key");
    let ended = run(&format!("listen --json --psk {}", missing.display())).exits_with(1);
    let hint = ended.events()[0]["hint"].to_string();
    assert!(hint.contains("peerage psk"), "{hint}");
    assert!(!missing.exists());

    let wrong = directory.join("wrong.key");
    fs::write(&wrong, "/key/swarm/psk/1.0.0/\n/base58/\n").unwrap();
    for args in [format!("listen --psk {}", wrong.display()), format!("psk {}", wrong.display())] {
        let ended = run(&args).exits_with(1);
        assert!(ended.stderr.contains("line 2"), "{}", ended.stderr);
    }
    run(&format!("psk {} --psk {0}", wrong.display())).exits_with(2);
}

#[test]
fn the_environment_can_forbid_the_public_network() {
    let file = directory("psk-forced").join("swarm.key");
    make(&file);
    let forced = |args: &str| {
        let mut command = command(args);
        command.env("LIBP2P_FORCE_PNET", "1");
        Peerage::spawn(&mut command)
    };
    let ended = forced("listen").ended().exits_with(1);
    assert!(ended.stderr.contains("LIBP2P_FORCE_PNET") && ended.stderr.contains("--psk"), "{}", ended.stderr);
    forced(&format!("listen --json --psk {}", file.display())).address();
}
