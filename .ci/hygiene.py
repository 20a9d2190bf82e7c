#!/usr/bin/env python3
"""What may be named where: in the dependency tree, and in the files of this repository.

    hygiene.py              checks the repository
    hygiene.py --self-test  checks that each rule finds what it is for

- No crate `libp2p*` is in the tree of the workspace: they are peers in interop/peers, with lock files of their own.
- Only host depends on `actix*`, and its code names actix only below host/src/actor.
- No file names a directory of somebody's machine, or a registry or mirror of its own.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ACTIX_CRATE, ACTIX_HOME = "peerage-host", "host/src/actor"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"

SHOWN = 40

COMMENT = re.compile(r"(?<!:)//.*")
ACTIX = re.compile(r"\bactix")
# A path from the root into a home or scratch directory, as an editor, a build or a backtrace leaves it behind.
PLACE = re.compile(r"(?<![\w.~*})/-])/(?:home|root|Users|work|workspace|builds|mnt)/[\w.-]+")
# Settings by which a package manager asks somebody else than its public registry.
REGISTRY = re.compile(
    r"""(?xi) (?<!emit-)(?<!extra-) (?: extra-)? index-url \s*[=:\s]\s*[^\s-]
    | \b(?: GOPROXY | GOSUMDB | replace-with | npm_config_registry ) \s*=\s*\S
    | ^\s*registry\s*=\s*["']?https?:
    | "resolved"\s*:\s*"https?:
    | ^\s*source\s*=\s*"(?!""" + re.escape(CRATES_IO) + '")'
)


def tree_faults(metadata):
    members = set(metadata["workspace_members"])
    names = {package["id"]: package["name"] for package in metadata["packages"]}
    for node in metadata["resolve"]["nodes"]:
        for dependency in node["dependencies"]:
            user, used = names[node["id"]], names[dependency]
            if used.startswith("libp2p"):
                yield f"{user} depends on {used}"
            if used.startswith("actix") and node["id"] in members and user != ACTIX_CRATE:
                yield f"{user} depends on {used}; only {ACTIX_CRATE} may"


def file_faults(name, text):
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{name}:{number}"
        if name.endswith(".rs") and not name.startswith((ACTIX_HOME, ".ci/")) and ACTIX.search(COMMENT.sub("", line)):
            yield f"{where} names actix; that is for {ACTIX_HOME}"
        if found := PLACE.search(line):
            yield f"{where} names a place on a machine: {found[0]}"
        if found := REGISTRY.search(line):
            yield f"{where} names a registry: {found[0].strip()}"


def check():
    command = ["cargo", "metadata", "--format-version=1", "--locked"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    faults = list(tree_faults(metadata))
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    files = 0
    for name in sorted(set(filter(None, names))):
        path = ROOT / name
        if path.is_file() and path != Path(__file__).resolve():
            files += 1
            faults += file_faults(name, path.read_text(encoding="utf-8", errors="replace"))
    if faults:
        more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        sys.exit("\n".join(faults[:SHOWN] + more))
    print(f"{len(metadata['packages'])} packages and {files} files, nothing out of place")


def self_test():
    bad = [
        ("cli/src/main.rs", "use actix::Actor;"),
        ("docs/a.md", "see /home/me/a"),
        ("a.rs", 'let p = "/work/there";'),
        ("package-lock.json", '      "resolved": "https://mirror.example/a.tgz",'),
        (".cargo/config.toml", 'replace-with = "mirror"'),
        (".cargo/config.toml", 'registry = "https://mirror.example"'),
        ("Cargo.lock", 'source = "registry+https://mirror.example/index"'),
        ("pip.conf", "index-url = https://mirror.example"),
        ("build", "pip install --extra-index-url https://mirror.example"),
        (".npmrc", "registry=https://mirror.example"),
        ("build", "GOPROXY=https://mirror.example go build"),
    ]
    good = [
        ("host/src/actor/shell.rs", "use actix::Actor;"),
        ("host/src/lib.rs", "//! the one place that names actix"),
        (".gitignore", "/.ci/out/"),
        ("Cargo.lock", f'source = "{CRATES_IO}"'),
        ("a.rs", "// https://example.com/root/x and ./home/x and {base}/work/x"),
        ("Cargo.lock", 'name = "signal-hook-registry"'),
        ("requirements.in", "# pip-compile --no-emit-index-url --strip-extras"),
    ]
    for name, line in bad:
        assert len(list(file_faults(name, line))) == 1, f"not found once: {name}: {line}"
    for name, line in good:
        assert not list(file_faults(name, line)), f"wrongly found: {name}: {line}"
    metadata = {
        "workspace_members": ["1", "2"],
        "packages": [{"id": i, "name": n} for i, n in zip("1234", [ACTIX_CRATE, "peerage", "actix", "libp2p-core"])],
        "resolve": {"nodes": [{"id": "1", "dependencies": ["3"]}, {"id": "2", "dependencies": ["3", "4"]}]},
    }
    assert len(list(tree_faults(metadata))) == 2, "the tree"
    print(f"self-test: {len(bad)} planted lines and 2 planted dependencies found")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    elif not sys.argv[1:]:
        check()
    else:
        sys.exit(__doc__)
