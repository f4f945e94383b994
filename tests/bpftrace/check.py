#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compare what the programs of tools/bpftrace, trace-cmd or perf printed with what is known; print TAP.

usage: check.py OUTPUT PROGRAM...    (run by tests/host/bpftrace)
OUTPUT: a line "program NAME" before each one's; what the guests know as "known NAME
VALUE"; what bpftrace says as JSON; events as trace-cmd and perf print them; "stat
COUNT ..." what perf counted.
"""
import json
import re
import sys

WAIT_US = 20_000  # helper_traced: from ageing to the flush, at least
LATE_US = 1 << 20
EVENTS = ("aged", "plan", "flush", "report", "canary")
EVENT = re.compile(rf"\s(?:gvahint:)?({'|'.join(EVENTS)}):\s+(vm=.*)")


def read(path):
    """By program: what is known, its maps, all lines."""
    runs = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["program"]:
                known, maps, lines = runs[words[1]] = ({}, {}, [])
                continue
            lines.append(line.rstrip())
            if words[:1] == ["known"]:
                known[words[1]] = int(words[2])
            elif seen := EVENT.search(line):
                fields = dict(word.split("=", 1) for word in seen[2].split())
                maps.setdefault(seen[1], []).append(fields)
            elif words[:1] == ["stat"]:
                maps.update({("stat", event): int(words[1]) for event in EVENTS if f"gvahint:{event}" in words})
            elif line.startswith('{"type": "map"') or line.startswith('{"type": "hist"'):
                maps.update(json.loads(line)["data"])
    return runs


def invept(known, maps):
    vm, silent = known["vm"], known["silent_vm"]
    task = "selftest"
    yield "@executed", {f"{vm}": known["executed"]}
    yield "@asked", {
        f"{vm},{task},clear_young,hint": known["asked_hint"],
        f"{vm},{task},clear_young,invept": known["asked_invept"],
    }
    yield "@left_to_kvm", {f"{silent},{task}": known["left_to_kvm"]}
    each = known["uncovered"] // 2
    yield "@uncovered", {
        f"{vm},no_hint": each,
        f"{vm},kernel_only": each,
        f"{silent},no_session": known["no_session"],
    }


def delay(known, maps):
    vm = f"{known['vm']}"
    buckets = maps.get("@us", {}).get(vm, [])
    counts = {"all": sum(b["count"] for b in buckets), "odd": 0}
    for b in buckets:
        if b["count"] and (b["max"] < WAIT_US or b["min"] > LATE_US):
            counts["odd"] += b["count"]
    maps["delays"] = counts
    yield "delays", {"all": known["delays"], "odd": 0}
    by = maps.get("@by", {})
    maps["kinds"] = {"gva": by.get(f"{vm},gva", 0), "full": by.get(f"{vm},full", 0)}
    yield "kinds", {"gva": known["gva"], "full": known["executed"]}


def coverage(known, maps):
    vm, silent = f"{known['vm']}", f"{known['silent_vm']}"
    covered, uncovered, mute = known["covered"], known["uncovered"], known["no_session"]
    yield "@asked", {vm: covered + uncovered, silent: mute}
    yield "@covered", {vm: covered, silent: 0}
    yield "@covered_percent", {vm: covered * 100 // (covered + uncovered), silent: 0}
    each = uncovered // 2
    yield "@reason", {f"{vm},0": each, f"{vm},2": each, f"{silent},5": mute}
    yield "@sets", {vm: known["sets"]}
    yield "@refused", {f"{vm},116": 1}
    yield "@hints", {vm: known["hints"]}


def trace_cmd(known, maps):
    vm, silent = f"{known['vm']}", f"{known['silent_vm']}"

    def count(event, **fields):
        maps[event, *fields.values()] = sum(
            all(seen.get(field) == value for field, value in fields.items()) for seen in maps.get(event, [])
        )
        return (event, *fields.values())

    yield count("aged", vm=vm, coverage="covered"), known["covered"]
    yield count("aged", vm=vm, coverage="uncovered"), known["uncovered"]
    yield count("aged", vm=vm, coverage="unasked"), known["asked_invept"]
    yield count("aged", vm=silent, reason="no_session"), known["no_session"]
    yield count("plan", vm=silent, verdict="default"), known["left_to_kvm"]
    yield count("flush", vm=vm, kind="full"), known["executed"]
    yield count("report", vm=vm, op="report", answer="-116"), 1


def perf(known, maps):
    yield ("stat", "aged"), sum(known[what] for what in ("covered", "uncovered", "asked_invept", "no_session"))
    for event in EVENTS:
        yield ("stat", event), len(maps.get(event, []))
    yield from trace_cmd(known, maps)


def check(name, run):
    """What is wrong with a run, a line each."""
    known, maps, lines = run
    try:
        due = list(CHECKS[name](known, maps))
    except KeyError as missing:
        return [f"{missing} is not among the output"] + lines[-20:]
    wrong = [f"{key}: {maps.get(key)}, not {value}" for key, value in due if maps.get(key) != value]
    return wrong + lines[-40:] if wrong else []


CHECKS = {"invept.bt": invept, "delay.bt": delay, "coverage.bt": coverage, "trace-cmd": trace_cmd, "perf": perf}


def main():
    runs = read(sys.argv[1])
    failed = 0
    for number, name in enumerate(sys.argv[2:], 1):
        wrong = check(name, runs.get(name, ({}, {}, [])))
        for line in wrong:
            print(f"# {line}")
        print(f"{'not ok' if wrong else 'ok'} {number} {name}")
        failed += bool(wrong)
    gone = "gone" in runs.get("rmmod", ({}, {}, []))[2]
    print(f"{'ok' if gone else 'not ok'} {len(sys.argv) - 1} the module goes when nobody watches")
    return 1 if failed or not gone else 0


if __name__ == "__main__":
    sys.exit(main())
