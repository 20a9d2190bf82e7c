#!/usr/bin/env python3
"""Holds Cargo.lock against advisories.toml.

    advisories.py              checks the Cargo.lock of this repository
    advisories.py --self-test  checks the comparison of versions, and that a bad one is found
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


def parse(text):
    """A version as a key that sorts by semver's precedence (section 11 of semver 2.0.0)."""
    match = VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a version: {text}")
    pre = match[4]
    if pre is None:
        return (*map(int, match.groups()[:3]), (1,))
    # Numbers come before words, and any pre-release before the release.
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split("."))
    return (*map(int, match.groups()[:3]), (0, *parts))


def line(version, same_line):
    """What cargo takes for compatible: the same major, or 0.minor; for some crates each minor has its own fixes."""
    major, minor = version[:2]
    return (major, minor) if same_line == "minor" or major == 0 else (major,)


def is_safe(version, entry):
    safe = [parse(text) for text in entry["safe"]]
    if not safe:
        return False
    same_line = entry.get("same_line", "cargo")
    own = [first for first in safe if line(first, same_line) == line(version, same_line)]
    return version >= max(safe) or any(version >= first for first in own)


def refused(lock, entries):
    found = []
    for entry in entries:
        for package in lock["package"]:
            if package["name"] == entry["name"] and not is_safe(parse(package["version"]), entry):
                wanted = " or ".join(entry["safe"]) or "none"
                found.append(
                    f"{package['name']} {package['version']}: {entry['why']}"
                    f" ({', '.join(entry['ids'])}); safe from: {wanted}"
                )
    return found


def entries():
    listed = tomllib.loads((HERE / "advisories.toml").read_text(encoding="utf-8"))["crate"]
    names = [entry["name"] for entry in listed]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"advisories.toml names {', '.join(sorted(twice))} twice")
    for entry in listed:
        versions = [parse(text) for text in entry["safe"]]
        if versions != sorted(versions) or not entry["ids"] or not entry["why"]:
            sys.exit(f"advisories.toml: {entry['name']} lacks ids or why, or its versions are not in order")
    return listed


def check():
    listed = entries()
    lock = tomllib.loads((HERE.parent / "Cargo.lock").read_text(encoding="utf-8"))
    found = refused(lock, listed)
    if found:
        sys.exit("\n".join(found) + "\nupdate them: cargo update -p <crate>")
    present = {package["name"] for package in lock["package"]} & {entry["name"] for entry in listed}
    print(f"{len(lock['package'])} packages, {len(present)} of {len(listed)} crates on the list among them, all safe")


def self_test():
    ordered = "0.9.10 0.10.0-alpha 0.10.0-alpha.1 0.10.0-alpha.beta 0.10.0-beta.2 0.10.0-beta.11 0.10.0-rc.1 0.10.0 1.0.0"
    keys = [parse(text) for text in ordered.split()]
    assert keys == sorted(keys) and len(set(keys)) == len(keys), "order of versions"
    assert parse("1.2.3+a") == parse("1.2.3+b"), "build metadata does not count"

    one = {"safe": ["0.11.18"]}
    lines = {"safe": ["0.3.26", "0.4.4"]}
    minors = {"safe": ["1.38.2", "1.44.2"], "same_line": "minor"}
    for version, entry, expected in [
        ("0.11.17", one, False), ("0.11.18", one, True), ("0.11.9", one, False), ("0.12.0", one, True),
        ("0.11.18-rc.1", one, False), ("1.0.0", one, True), ("0.3.25", lines, False), ("0.3.27", lines, True),
        ("0.4.3", lines, False), ("0.5.0", lines, True), ("0.2.99", lines, False), ("1.38.2", minors, True),
        ("1.39.0", minors, False), ("1.44.1", minors, False), ("1.54.1", minors, True), ("9.9.9", {"safe": []}, False),
    ]:
        assert is_safe(parse(version), entry) == expected, f"{version} in {entry}"

    package = '[[package]]\nname = "{}"\nversion = "{}"\n'
    bad = tomllib.loads(package.format("quinn-proto", "0.11.17") + package.format("bytes", "1.12.1"))
    found = refused(bad, entries())
    assert len(found) == 1 and found[0].startswith("quinn-proto 0.11.17"), found
    print("self-test: versions compare as they should, and a planted one is found")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    elif not sys.argv[1:]:
        check()
    else:
        sys.exit(__doc__)
