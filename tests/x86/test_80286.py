"""Single-instruction recordings of a real 80286 in real mode (tests/data, MIT, Daniel Balsom).

Each test's final registers and memory are compared after the HLT that ends it. Where the 286
differs from later processors, or the manual leaves flags undefined, the case says so below.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pytcg import Cpu

DATA = Path(__file__).parents[1] / "data" / "80286-real-mode-sample.jsonl.gz"
REGISTERS = ("ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip")
SEGMENTS = ("cs", "ss", "ds", "es")

CF, PF, AF, ZF, SF, OF = 1, 4, 0x10, 0x40, 0x80, 0x800
DEFINED = 0x0FD5  # bits 12-15 do not exist in real mode, 1, 3 and 5 are fixed

# Flags the manual leaves undefined, by what the name starts with.
UNDEFINED = {
    "mul": SF | ZF | AF | PF, "imul": SF | ZF | AF | PF, "div": 0x8D5, "idiv": 0x8D5,
    "aaa": OF | SF | ZF | PF, "aas": OF | SF | ZF | PF, "aam": OF | AF | CF, "aad": OF | AF | CF,
    "daa": OF, "das": OF,
    "and": AF, "or": AF, "xor": AF, "test": AF,
    "rol": OF, "ror": OF, "rcl": OF, "rcr": OF,
    "shl": OF | AF, "sal": OF | AF, "shr": OF | AF, "sar": OF | AF, "setmo": OF | AF | CF,
}  # fmt: skip
STRING_FORMS = ("6C", "6D", "6E", "6F", "A4", "A5", "A6", "A7", "AA", "AB", "AC", "AD", "AE", "AF")
COUNTED = ("rol", "ror", "rcl", "rcr", "shl", "sal", "shr", "sar", "setmo")


def cases() -> Iterator[dict[str, Any]]:
    with gzip.open(DATA, "rt") as lines:
        yield from map(json.loads, lines)


@cache
def by_form() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for case in cases():
        found[case["form"]].append(case)
    return dict(found)


def exclusion(case: dict[str, Any]) -> str | None:
    """Why a case can't hold on a later processor, or None."""
    number = case.get("exception", {}).get("number")
    if "lock" in case["name"].split() and number != 6:
        return "the 286 takes LOCK with every instruction; from the 386 on most raise #UD"
    if number is not None:
        if len(case["bytes"]) // 2 - 1 > 10:
            return "the 286 takes no more than 10 bytes, later processors 15"
        if case["form"] in STRING_FORMS:
            return "the 286 leaves SI, DI and CX as after the access when a string access faults"
        if case["form"] == "8F":
            return "the 286 leaves SP popped when POP to memory faults"
    return None


class Machine:
    """One real-mode processor with 16 MiB, reused from case to case."""

    def __init__(self, engine: str):
        self.cpu = Cpu("real", engine=engine, stop_exceptions=False)
        self.cpu.map(0, 16 << 20)
        self.cpu.map(16 << 20, 1 << 20)  # FFFF:FFFF lies above 1 MiB; nothing wraps
        self.touched: list[int] = []

    def start(self, case: dict[str, Any]) -> None:
        cpu = self.cpu
        for address in self.touched:
            cpu.write(address, b"\0")
        self.touched = []
        initial = case["initial"]
        for address, byte in initial["ram"]:
            cpu.write(address, bytes([byte]))
            self.touched.append(address)
        if "exception" in case:  # the 286 raises 13 for SS too, later processors 12
            cpu.write(12 * 4, cpu.read(13 * 4, 4))
            self.touched += range(48, 52)
        for name in REGISTERS:
            cpu.regs[name] = initial["regs"][name]
        for name in SEGMENTS:
            cpu.regs[f"{name}.base"] = initial["regs"][name] << 4
        cpu.regs["eflags"] = initial["regs"]["flags"] & DEFINED
        for name in SEGMENTS:
            cpu.regs[f"{name}.limit"] = 0xFFFF

    def run(self, case: dict[str, Any]) -> list[str]:
        """What differs, as text."""
        self.start(case)
        stop = self.cpu.run(max_insns=20_000)
        self.touched += [address for address, _ in case["final"]["ram"]]
        if stop.kind != "hlt":
            return [f"stopped by {stop}"]
        return self.compare(case)

    def compare(self, case: dict[str, Any]) -> list[str]:
        regs, final = self.cpu.regs, case["final"]
        wrong = []
        for name in REGISTERS:
            want = final["regs"].get(name, case["initial"]["regs"][name])
            if regs[name] != want:
                wrong.append(f"{name} {regs[name]:04x}, not {want:04x}")
        mask = DEFINED & ~undefined_flags(case)
        want = final["regs"].get("flags", case["initial"]["regs"]["flags"])
        if (regs["flags"] ^ want) & mask:
            wrong.append(f"flags {regs['flags'] & mask:04x}, not {want & mask:04x}")
        masked = pushed_flags(case)
        for address, byte in final["ram"]:
            got = self.cpu.read(address, 1)[0]
            if (got ^ byte) & masked.get(address, 0xFF):
                wrong.append(f"[{address:06x}] {got:02x}, not {byte:02x}")
        return wrong


def undefined_flags(case: dict[str, Any]) -> int:
    name = case["name"].split()
    word = next((w for w in name if w in UNDEFINED), "")
    if word in COUNTED and shift_count(case) in (0, 1):
        return AF if shift_count(case) == 1 and word[0] == "s" else 0
    return UNDEFINED.get(word, 0)


def shift_count(case: dict[str, Any]) -> int:
    form = case["form"].split(".")[0].lower()
    if form in ("d0", "d1"):
        return 1
    if form in ("d2", "d3"):
        return int(case["initial"]["regs"]["cx"]) & 0x1F
    return bytes.fromhex(case["bytes"])[-2] & 0x1F


def pushed_flags(case: dict[str, Any]) -> dict[int, int]:
    """Masks of the bytes where an exception pushed FLAGS."""
    if "exception" not in case:
        return {}
    # The recorded address has its lowest bit cleared; FLAGS is the word above IP and CS.
    at = (case["initial"]["regs"]["ss"] << 4) + case["final"]["regs"]["sp"] + 4
    keep = DEFINED & ~undefined_flags(case)
    return {at: keep & 0xFF, at + 1: keep >> 8}


@pytest.mark.parametrize(("engine", "step"), [
    ("threaded", 1),
    ("python", 20),
    pytest.param("python", 1, marks=pytest.mark.slow),
])  # fmt: skip
def test_recordings_of_the_80286(engine: str, step: int) -> None:
    machine = Machine(engine)
    failures: dict[str, list[str]] = {}
    for form, found in by_form().items():
        for case in found[::step]:
            if exclusion(case) is None and (wrong := machine.run(case)):
                text = f"{case['name']} ({case['bytes']}): {'; '.join(wrong)}"
                failures.setdefault(form, []).append(text)
    report = [f"{form}: {len(texts)} of {len(by_form()[form])}, e.g. {texts[0]}"
              for form, texts in failures.items()]  # fmt: skip
    assert not report, "\n" + "\n".join(report)
