#!/usr/bin/env python3
"""Fails if a public signature of a library names a type, trait or re-export of a crate `actix*`.

    public_api.py              all libraries of the workspace
    public_api.py --self-test  a fixture in which such names are planted

It walks rustdoc's JSON from the root of each crate along everything that is public: items, fields, variants, methods,
bounds, trait impls, re-exports. A public type in a private module counts as soon as a public signature names it. Blanket
impls do not: they belong to whoever wrote them.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FORBIDDEN = "actix"


class Walk:
    """One crate's public items, and what is forbidden among them."""

    def __init__(self, doc):
        self.index = doc["index"]
        self.paths = doc["paths"]
        self.crates = doc["external_crates"]
        self.seen = set()
        self.count = 0  # of what has a signature of its own
        self.todo = [(str(doc["root"]), ())]
        self.findings = []

    def run(self):
        while self.todo:
            key, trail = self.todo.pop()
            item = self.index.get(key)
            if item is None or item["crate_id"] != 0 or key in self.seen:
                continue
            self.seen.add(key)
            (kind, inner), = item["inner"].items()
            name = f"use {inner['source']}" if kind == "use" else item["name"] or kind
            self.visit(kind, inner, trail + (name,))
        return self

    def visit(self, kind, inner, trail):
        if kind == "impl":
            if self.is_foreign_business(inner):
                return
            trait = inner["trait"]
            trail = trail[:-1] + (f"impl {trait['path']}" if trait else "impl",)
            self.follow(inner["items"], trail, everything=trait is not None)
        elif kind == "use":
            self.check_path(inner["id"], inner["source"], trail)
            self.reach(inner["id"], trail)
        elif kind == "extern_crate":
            self.check_name(inner["name"], inner["name"], trail)
        elif kind == "macro":
            if FORBIDDEN in inner:
                self.findings.append((trail, f"expands to {FORBIDDEN}"))
        elif kind == "module":
            self.follow(inner["items"], trail)
        elif kind in ("struct", "union"):
            shape = inner.get("kind", inner)
            self.follow(fields(shape), trail)
            self.follow(inner["impls"], trail, everything=True)
        elif kind == "enum":
            self.follow(inner["variants"] + inner["impls"], trail, everything=True)
        elif kind == "variant":
            self.follow(fields(inner["kind"]), trail, everything=True)
        elif kind == "trait":
            self.follow(inner["items"] + inner["implementations"], trail, everything=True)
        self.count += kind not in ("impl", "module")
        self.check_refs(inner, trail)

    def is_foreign_business(self, impl):
        """Blanket and auto impls, and impls of traits that only this crate can see."""
        if impl["blanket_impl"] is not None or impl["is_synthetic"]:
            return True
        trait = impl["trait"] and self.index.get(str(impl["trait"]["id"]))
        return trait is not None and trait["crate_id"] == 0 and trait["visibility"] != "public"

    def follow(self, ids, trail, everything=False):
        for child in ids:
            item = self.index.get(str(child))
            if item is not None and (everything or item["visibility"] == "public"):
                self.todo.append((str(child), trail))

    def reach(self, target, trail):
        """What a public signature or re-export names is public, wherever it stands."""
        item = self.index.get(str(target))
        if item is not None and (item["visibility"] == "public" or "module" in item["inner"]):
            self.todo.append((str(target), trail))

    def check_refs(self, node, trail):
        if isinstance(node, list):
            for child in node:
                self.check_refs(child, trail)
        elif isinstance(node, dict):
            if "id" in node and "args" in node:
                self.check_path(node["id"], node.get("path") or node.get("name"), trail)
                self.reach(node["id"], trail)
            for child in node.values():
                self.check_refs(child, trail)

    def check_path(self, target, text, trail):
        known = self.paths.get(str(target))
        if known is None:
            self.check_name(text.lstrip(":").split("::")[0], text, trail)
        elif known["crate_id"] != 0:
            crate = self.crates[str(known["crate_id"])]["name"]
            self.check_name(crate, "::".join(known["path"]), trail)

    def check_name(self, crate, text, trail):
        if crate.startswith(FORBIDDEN):
            self.findings.append((trail, f"names {text}"))


def fields(shape):
    """The fields of a struct's or variant's kind, in each of its forms."""
    if not isinstance(shape, dict):
        return []
    if "tuple" in shape:
        return [field for field in shape["tuple"] if field is not None]
    for form in ("plain", "struct"):
        if form in shape:
            return shape[form]["fields"]
    return shape.get("fields", [])


def cargo(*args, cwd):
    return subprocess.run(["cargo", *args], cwd=cwd, check=True, stdout=subprocess.PIPE, text=True).stdout


def libraries(cwd, *options):
    """The library of every member that has one; and the target directory."""
    metadata = json.loads(cargo("metadata", "--format-version=1", "--no-deps", *options, cwd=cwd))
    found = []
    for package in metadata["packages"]:
        for target in package["targets"]:
            if "lib" in target["kind"] or "rlib" in target["kind"]:
                found.append(target["name"].replace("-", "_"))
    return sorted(found), Path(metadata["target_directory"])


def document(cwd, *options):
    """All libraries at once: one by one, cargo would choose other features for each, and check the dependencies anew."""
    flags = "-Z unstable-options --output-format json --document-private-items --document-hidden-items --cap-lints allow"
    os.environ.update(RUSTDOC=str(HERE / "rustdoc-json"), RUSTDOCFLAGS=flags)
    cargo("doc", "--quiet", "--workspace", "--lib", "--no-deps", *options, cwd=cwd)


def walked(name, target):
    with open(target / "doc" / f"{name}.json", encoding="utf-8") as file:
        return Walk(json.load(file)).run()


def check():
    root = HERE.parent
    found = 0
    members, target = libraries(root)
    document(root)
    for name in members:
        walk = walked(name, target)
        for trail, what in walk.findings:
            print(f"{'::'.join(trail)} {what}", file=sys.stderr)
        found += len(walk.findings)
        print(f"{name}: {walk.count} public items, {len(walk.findings)} with {FORBIDDEN}")
    if found:
        sys.exit(f"{found} public signatures name {FORBIDDEN}; it belongs behind host/src/actor")


def self_test():
    """Everything in `planted` has to be found, and nothing else."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for crate, deps in (("actix", ""), ("fixture", 'actix = { path = "../actix" }')):
            (scratch / crate / "src").mkdir(parents=True)
            manifest = f'[package]\nname = "{crate}"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n{deps}\n'
            (scratch / crate / "Cargo.toml").write_text(manifest)
        (scratch / "Cargo.toml").write_text('[workspace]\nresolver = "3"\nmembers = ["actix", "fixture"]\n')
        (scratch / "actix/src/lib.rs").write_text("pub trait Actor {}\npub struct Addr;\n")
        fixture = (HERE / "public_api_fixture.rs").read_text()
        (scratch / "fixture/src/lib.rs").write_text(fixture)
        options = ("--offline", "--target-dir", str(scratch / "target"))
        document(scratch, *options)
        walk = walked("fixture", scratch / "target")
    flagged = {part for trail, _ in walk.findings for part in trail}
    planted = {line.split("// planted: ")[1].strip() for line in fixture.splitlines() if "// planted: " in line}
    named = {name for name in planted if any(name in part for part in flagged)}
    wrong = sorted({"::".join(trail) for trail, _ in walk.findings if any("clean" in part.lower() for part in trail)})
    if named != planted or wrong or len(planted) < 20:
        sys.exit(f"self-test failed: missed {sorted(planted - named)}, wrongly found {wrong}")
    print(f"self-test: all {len(planted)} planted names found")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        self_test()
    elif not sys.argv[1:]:
        check()
    else:
        sys.exit(__doc__)
