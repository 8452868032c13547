"""A row of the instruction table against the host CPU or Unicorn, by the cases of tests/x86."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from pytcg.fuzz import hostcpu
from pytcg_x86.decode.table import LOWERINGS, Row
from x86 import (
    integer_cases,
    outcome,
    sse_cases,
    test_avx_host,
    test_bmi_host,
    test_sse_host,
    vex_cases,
)
from x86.test_x87_host import C1, C1_VARIES, PLAIN, on_engine
from x86.test_x87_host import host as x87_host
from x86.x87_cases import TRANSCENDENTAL, encoding, state, x87_rows


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a row was compared with, how often, and what differed first."""

    text: str
    states: int = 0
    difference: str = ""


Check = Callable[[Row, int], Verdict]
ENGINE = "threaded"


def _result(name: str, states: int, difference: str) -> Verdict:
    return Verdict(f"agrees with {name}", states, difference)


# General registers -----------------------------------------------------------------------------


def check_integer(row: Row, states: int) -> Verdict:
    """64-bit code on the host, what is not valid there in Unicorn."""
    if row.mnemonic in integer_cases.EXCLUDED:
        return Verdict(f"by the manual ({integer_cases.EXCLUDED[row.mnemonic]})")
    on_host = "i64" not in row.attrs
    layout = outcome.LONG if on_host else outcome.PROTECTED
    reference = outcome.on_host if on_host else outcome.on_unicorn
    name = "hardware" if on_host else "Unicorn"
    done = 0
    for case in _integer_cases(row, layout, states):
        differ = outcome.differences(case, reference(case), outcome.on_engine(case, ENGINE))
        if differ:
            return _result(name, done, differ[0])
        done += 1
    return _result(name, done, "")


def _integer_cases(row: Row, layout: outcome.Layout, states: int) -> Iterator[integer_cases.Case]:
    shapes = list(integer_cases.variants(row, layout.mode))
    for size, memory, rep in shapes:
        rng = random.Random(f"isa {row} {size} {memory} {rep}")
        for _ in range(-(-states // len(shapes))):
            yield integer_cases.Maker(rng, row, layout, size, memory=memory, rep=rep).make()


# Vectors ---------------------------------------------------------------------------------------


def check_vector(row: Row, states: int) -> Verdict:
    """MMX and SSE, with the whole vector state before and after."""
    if row.mnemonic in sse_cases.APPROXIMATE:
        return Verdict("within the manual's bound (test_sse_host.py)")
    rng, done = random.Random(f"isa {row}"), 0
    while done < states:
        for variant in sse_cases.variants(row, rng):
            code = sse_cases.LOAD + variant.code + sse_cases.SAVE
            test_sse_host.processor(ENGINE).write(hostcpu.CODE, code)
            for _ in range(16):
                regs, data = sse_cases.general(rng), sse_cases.data(rng)
                wanted = test_sse_host.on_host(code, regs, data)
                found = test_sse_host.on_engine(ENGINE, code, regs, data)
                if found[:2] != wanted[:2]:
                    return _result("hardware", done, f"{variant}: registers or flags")
                differ = test_sse_host.differing(found[2], wanted[2])
                if differ:
                    return _result("hardware", done, f"{variant}: {differ}")
                done += 1
    return _result("hardware", done, "")


def check_bmi(row: Row, states: int) -> Verdict:
    test = test_bmi_host.test_against_the_host
    before = test_bmi_host.TRIALS[ENGINE]
    shapes = len(list(vex_cases.variants(row, random.Random(1))))
    test_bmi_host.TRIALS[ENGINE] = -(-states // shapes)
    try:
        test(ENGINE, row)
    except AssertionError as error:
        return _result("hardware", 0, str(error).splitlines()[0])
    finally:
        test_bmi_host.TRIALS[ENGINE] = before
    return _result("hardware", -(-states // shapes) * shapes, "")


def check_avx(row: Row, states: int) -> Verdict:
    """VEX's vectors, with all of the YMM registers."""
    if row.mnemonic in test_avx_host.APPROXIMATE:
        return Verdict("within the manual's bound (test_avx_values.py)")
    if row not in test_avx_host.ROWS:
        return Verdict("by the manual (test_avx_values.py, test_avx_faults.py)")
    rng, done = random.Random(f"isa {row}"), 0
    while done < states:
        for variant in vex_cases.variants(row, rng):
            code = vex_cases.LOAD + variant.code + vex_cases.SAVE
            for _ in range(16):
                regs, data = test_avx_host.state(rng, [variant])
                wanted = test_avx_host.on_host(code, regs, data)
                found = test_avx_host.on_engine(ENGINE, code, regs, data)
                try:
                    test_avx_host.check(found, wanted, str(variant), data)
                except AssertionError as error:
                    return _result("hardware", done, str(error).splitlines()[0])
                done += 1
    return _result("hardware", done, "")


# x87 -------------------------------------------------------------------------------------------


def check_x87(row: Row, states: int) -> Verdict:
    if row.mnemonic in TRANSCENDENTAL:
        return Verdict("within the manual's bound (test_x87_host.py)")
    if row.mnemonic not in PLAIN:
        return Verdict("agrees with hardware (cases of test_x87_host.py)")
    rng = random.Random(f"isa {row}")
    for done in range(states):
        code, before = encoding(row, rng.randrange(8)), state(rng, row.mnemonic)
        wanted, found = x87_host().run(code, before), on_engine(ENGINE, code, before)
        if row.mnemonic in C1_VARIES:
            wanted.status |= C1
            found.status |= C1
        if wanted.shown() != found.shown():
            return _result("hardware", done, f"{code.hex()} from {before.shown()}")
    return _result("hardware", states, "")


# Which oracle for which row --------------------------------------------------------------------

_BY_THE_MANUAL = {
    "pytcg_x86.vector.sse4a": "test_later_sets.py",
    "pytcg_x86.integer.random": "test_later_sets.py",
    "pytcg_x86.vector.threednow": "test_threednow.py",
    "pytcg_x86.system.lines": "test_later_sets.py", "pytcg_x86.integer.control": "test_exec.py",
    "pytcg_x86.system.fxsave": "test_sse_faults.py",
    "pytcg_x86.system.xsave": "test_avx_faults.py",
}  # fmt: skip


@cache
def _module(name: str) -> str:
    return importlib.import_module(name).__name__


def check_for(row: Row) -> Check:
    """How a row is checked."""
    home = LOWERINGS[row.mnemonic].function.__module__
    if row in x87_rows():
        return check_x87
    if row.vex:
        return check_bmi if row in test_bmi_host.ROWS else check_avx
    if row in sse_cases.family_rows():
        return check_vector
    if row in integer_cases.family_rows():
        return check_integer
    if not hostcpu.available():
        return _by("no oracle on this host")
    return _by(_BY_THE_MANUAL.get(home, "test_system_*.py"))


def _by(where: str) -> Check:
    return lambda row, states: Verdict(f"by the manual ({where})")
