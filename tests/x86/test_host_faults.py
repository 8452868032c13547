"""Faults of every row with a memory operand, as the host CPU has them.

Vector, error code and address of the fault, and what registers, flags and memory are then: nothing
is changed, but by string instructions and gathers that were under way.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest

from pytcg.cpu import Cpu
from pytcg.fuzz import hostcpu
from x86 import fault_cases
from x86.fault_cases import PAGE, PAGES, FaultCase
from x86.fault_host import NAMES, STATUS, Faulted, Server, ended, start, writable

pytestmark = pytest.mark.skipif(not hostcpu.has("avx2"), reason="the oracle has no AVX2")

ROWS = fault_cases.rows()
ENGINES = {"threaded": 31, "jit": 197, "python": 197}
"""One of how many cases an engine runs here; with PYTCG_ALL_FAULTS=1 in the environment all."""
PLACE = "which byte of a long image, or which of several elements, is reached for first"
STATUS_BEFORE = "flags are those of before (SDM vol. 2B, REP); AMD's are of the last element"
DIFFERENT = {
    **dict.fromkeys(("FXSAVE", "FXRSTOR", "XSAVE", "XSAVEOPT", "XSAVEC", "XRSTOR", "FNSTENV",
                     "FLDENV", "FNSAVE", "FRSTOR", "RETF", "IRET"), PLACE),
    **dict.fromkeys(("CMPS", "SCAS"), STATUS_BEFORE),
}  # fmt: skip
"""Where processors differ."""
GP = 13
PRESENT = 1  # in #PF's error code
_TABLES = 0x1000_0000
_RIGHTS = {"w": 7, "r": 5, "-": 0}


@functools.cache
def processor(engine: str) -> Cpu:
    """Long mode at level 3, with page tables like the host's."""
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(hostcpu.BASE, 2 * PAGE + PAGE * len(PAGES))
    cpu.map(_TABLES, 4 * PAGE)
    levels = [_TABLES + n * PAGE for n in range(4)]
    for shift, table, below in ((39, levels[0], levels[1]), (30, levels[1], levels[2]),
                                (21, levels[2], levels[3])):  # fmt: skip
        cpu.write(table + (hostcpu.BASE >> shift & 511) * 8, (below | 7).to_bytes(8, "little"))
    for number, kind in enumerate("ww" + PAGES):
        where = hostcpu.BASE + number * PAGE
        entry = where | _RIGHTS[kind]
        cpu.write(levels[3] + (where >> 12 & 511) * 8, entry.to_bytes(8, "little"))
    cpu.write(hostcpu.DATA, fault_cases.contents())
    regs = cpu.regs
    regs["cr3"], regs["cr4"] = _TABLES, regs["cr4"] | 1 << 5
    regs["cr0"] = regs["cr0"] | 1 << 31 | 1 << 16
    regs["cs"], regs["cpl"] = 0x33, 3
    regs["ldtr.limit"] = regs["tr.limit"] = 0  # no descriptors, no ports
    for name in ("cs", "ss", "ds", "es"):
        regs[f"{name}.attr"] |= 0x60
    for name in ("ss", "ds", "es"):
        regs[name] = 0x2B
    return cpu


def on_engine(engine: str, case: FaultCase) -> Faulted:
    cpu = processor(engine)
    cpu.write(hostcpu.CODE, case.code + b"\xf4")
    values = start(case)
    cpu.regs.write({**values, **dict(zip(NAMES, case.regs, strict=True)), "eflags": case.flags})
    stop = cpu.run(hostcpu.CODE, max_insns=1)
    data = cpu.read(hostcpu.DATA, PAGE * len(PAGES))
    if data != fault_cases.contents():
        cpu.write(hostcpu.DATA, fault_cases.contents())
    if stop.kind != "exception":
        return Faulted(None)
    names = [*NAMES, *values, "eflags"]
    found = dict(zip(names, cpu.regs.read(names), strict=True))
    found["eflags"] &= STATUS
    found["ftw"] = sum(3 << 2 * n for n in range(8) if found["ftw"] >> 2 * n & 3 == 3)
    assert stop.vector is not None and stop.rip == hostcpu.CODE, (str(case), stop)
    return ended(stop.vector, stop.error_code or 0, stop.address or 0, found, writable(data))


def _comparable(case: FaultCase, outcome: Faulted) -> Faulted:
    """Without what processors do differently."""
    reason = DIFFERENT.get(case.row.mnemonic)
    if reason == PLACE:
        return replace(outcome, address=0, error=outcome.error & ~PRESENT)
    if reason == STATUS_BEFORE:
        return replace(outcome, registers=tuple(each for each in outcome.registers
                                                if each[0] != "eflags"))  # fmt: skip
    return outcome


def differences(case: FaultCase, wanted: Faulted, found: Faulted) -> str:
    """In words; empty if there are none."""
    wanted, found = (_comparable(case, each) for each in (wanted, found))
    if found == wanted or (case.row.mnemonic.startswith("SHA") and found.vector == GP):
        return ""  # the host's SHA instructions need no alignment
    said = []
    for name in ("vector", "error", "address"):
        right, wrong = getattr(wanted, name), getattr(found, name)
        if right != wrong:
            said.append(f"{name} {wrong if wrong is None else hex(wrong)}, not "
                        f"{right if right is None else hex(right)}")  # fmt: skip
    for (name, right), (_, wrong) in zip(wanted.registers, found.registers, strict=False):
        if right != wrong:
            said.append(f"{name} {wrong:#x}, not {right:#x}")
    if wanted.memory != found.memory:
        said.append("memory")
    return f"{case}: {'; '.join(said)}"


@pytest.fixture(scope="module")
def host() -> Iterator[Server]:
    server = Server()
    yield server
    server.child.kill()
    server.child.wait()


@pytest.mark.parametrize("engine", ENGINES)
def test_faults_are_the_hosts(engine: str, host: Server) -> None:
    wrong, step = [], 1 if "PYTCG_ALL_FAULTS" in os.environ else ENGINES[engine]
    for number, row in enumerate(ROWS):
        first = number % step if step > 1 else 0
        outcomes = host.outcomes(number, first, step)
        chosen = islice(fault_cases.cases(row), first, None, step)
        for case, wanted in zip(chosen, outcomes, strict=True):
            wrong.append(differences(case, wanted, on_engine(engine, case)))
    found = [each for each in wrong if each]
    assert not found, f"{len(found)} of {len(wrong)}\n" + "\n".join(found[:40])
