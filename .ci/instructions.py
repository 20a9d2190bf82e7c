#!/usr/bin/env python3
"""How many instructions the frame path takes, beside what is committed: a clock tells nothing on a shared machine.

    instructions.py              measures, and fails if a scenario moved by more than 5 %
    instructions.py --update     measures, and writes what it found to instructions.toml
    instructions.py --self-test  checks that it sees what it is for

Each scenario of transport/benches/instructions.rs runs under callgrind with few and with many rounds; the difference is
what rounds cost, without the start of the program. Fewer instructions than committed are a failure as well, so that the
next regression is measured from there: update the numbers with the change that moved them, and say why in its message.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / ".ci" / "instructions.toml"
TOLERANCE = 0.05
# Few and many rounds of each scenario; many where a round is cheap, because the start never costs quite the same.
ROUNDS = {"bulk": (2, 18), "requests": (4, 64), "multistream": (4, 24), "handshake": (2, 42)}
HEAD = """\
# Instructions of a round of each scenario in transport/benches/instructions.rs, as callgrind counts them.
# Written by .ci/instructions.py --update, which says how they are compared.
"""


def build():
    command = ["cargo", "bench", "--locked", "-p", "peerage-transport", "--bench", "instructions", "--no-run"]
    lines = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    for line in lines.splitlines():
        artifact = json.loads(line)
        if artifact.get("executable") and artifact["target"]["name"] == "instructions":
            return artifact["executable"]
    sys.exit("cargo built no such benchmark")


def collected(text):
    """The total in what callgrind says at its end."""
    found = re.search(r"Collected : (\d+)", text)
    if not found:
        sys.exit(f"callgrind counted nothing:\n{text[-2000:]}")
    return int(found[1])


def count(program, scenario, rounds):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, scenario, str(rounds)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{scenario} failed under callgrind:\n{done.stderr[-2000:]}")
    return collected(done.stderr)


def measure():
    program = build()
    found = {}
    for scenario, (few, many) in ROUNDS.items():
        found[scenario] = round((count(program, scenario, many) - count(program, scenario, few)) / (many - few))
    return found


def compare(found, committed):
    """What to show of each scenario, and whether it is as committed."""
    for scenario, now in found.items():
        before = committed.get(scenario)
        if not before:
            yield f"{scenario:12} {now:>12,}  not committed", False
            continue
        change = now / before - 1
        yield f"{scenario:12} {now:>12,}  {change:+.1%}", abs(change) <= TOLERANCE
    for scenario in committed.keys() - found.keys():
        yield f"{scenario:12} is committed, but there is no such scenario", False


def check():
    with COMMITTED.open("rb") as file:
        rows = list(compare(measure(), tomllib.load(file)))
    for text, good in rows:
        print(text if good else f"{text}  <== more than {TOLERANCE:.0%}")
    if not all(good for _, good in rows):
        sys.exit("If that is meant: .ci/instructions.py --update, and commit .ci/instructions.toml with the reason.")


def update():
    found = measure()
    COMMITTED.write_text(HEAD + "".join(f"{scenario} = {count}\n" for scenario, count in found.items()))
    for scenario, number in found.items():
        print(f"{scenario:12} {number:>12,}")


def self_test():
    committed = {"a": 1000, "b": 1000, "c": 1000, "gone": 1}
    rows = dict(zip("abcde", [good for _, good in compare({"a": 1049, "b": 1051, "c": 949, "new": 1}, committed)]))
    assert rows == {"a": True, "b": False, "c": False, "d": False, "e": False}, rows
    assert collected("==7== Collected : 123456\n==7==\n") == 123456
    print("self-test: growth, loss, a new and a missing scenario found")


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            check()
        case ["--update"]:
            update()
        case ["--self-test"]:
            self_test()
        case _:
            sys.exit(__doc__)
