"""Integer instructions that fault: the right exception, and nothing else changed."""

from __future__ import annotations

import functools
import random

import pytest

from pytcg.cpu import Cpu
from x86.integer_cases import Case, Maker, family_rows, variants
from x86.outcome import HLT, LONG, NAMES

PAGE = 0x1000
CODE, DATA, HOLE = 0x1000, 0x2000, 0x5000  # nothing is mapped at HOLE
UD, BR, GP, DE, PF = 6, 5, 13, 0, 14


def run(mode: str, code: str, **regs: int) -> tuple[int | None, Cpu]:
    """Run one instruction, given in hex; the exception's vector."""
    cpu = Cpu(mode=mode)
    cpu.map(0, HOLE)
    cpu.write(CODE, bytes.fromhex(code) + HLT)
    for name, value in regs.items():
        cpu.regs[name] = value
    before = {name: cpu.regs[name] for name in (*NAMES, "eflags")}
    stop = cpu.run(CODE, max_insns=1)
    if stop.vector is not None:
        assert stop.rip == CODE
        assert {name: cpu.regs[name] for name in before} == before
    return stop.vector, cpu


@pytest.mark.parametrize("code", [
    "0f0b", "0fb9c0", "0fffc0",         # UD2 UD1 UD0
    "f001c3", "f04801c3",               # LOCK with a register
    "f08b00", "f03900", "f090",         # LOCK with a load, CMP, NOP
    "06", "27", "2f", "37", "3f", "60", "61", "62c0", "82c001", "d40a", "d50a", "d6", "9a", "ce",
    "8dc0",                             # LEA with a register
])  # fmt: skip
def test_undefined_in_64_bit_code(code: str) -> None:
    assert run("long", code + "00" * 8, rax=DATA)[0] == UD


@pytest.mark.parametrize(("code", "vector"), [
    ("f6f1", DE), ("f7f9", DE), ("d400", DE),       # division by zero: DIV CL, IDIV ECX, AAM 0
    ("62050020_0000", BR),                          # BOUND EAX, [2000h]
])  # fmt: skip
def test_faults_in_32_bit_code(code: str, vector: int) -> None:
    assert run("protected", code.replace("_", ""), eax=5, ecx=0, eflags=0x8D7)[0] == vector


def test_idiv_of_the_most_negative_number_by_minus_one() -> None:
    for size, code in ((32, "f7f9"), (64, "48f7f9")):
        ones = (1 << size) - 1
        regs = {"rax": 1 << (size - 1), "rdx": ones, "rcx": ones}
        assert run("long", code, **regs)[0] == DE


def test_bound_accepts_both_ends() -> None:
    for value in (0xFFFF_FFFE, 3):
        cpu = Cpu(mode="protected")
        cpu.map(0, HOLE)
        cpu.write(CODE, bytes.fromhex("620500200000"))
        cpu.write(DATA, b"\xfe\xff\xff\xff\x03\0\0\0")
        cpu.regs["eax"] = value
        assert cpu.run(CODE, max_insns=1).kind == "limit"


def test_cmpxchg16b_must_be_aligned() -> None:
    assert run("long", "480fc70b", rbx=DATA + 8)[0] == GP
    assert run("long", "480fc70b", rbx=DATA + 16)[0] is None


@pytest.mark.parametrize("code", [
    "50", "9c", "c8100002", "6a01", "ff30",  # PUSH, PUSHF, ENTER, PUSH imm, PUSH [rax]
])
def test_a_push_that_faults_leaves_rsp(code: str) -> None:
    assert run("long", code, rsp=HOLE + 8, rax=DATA, rbp=DATA, eflags=0x202)[0] == PF


def test_a_pop_to_memory_that_faults_leaves_rsp() -> None:
    assert run("long", "8f00", rsp=DATA, rax=HOLE)[0] == PF
    assert run("long", "8f442400", rsp=HOLE - 8)[0] == PF  # [rsp] after the increment


def test_pusha_that_faults_midway_leaves_every_register() -> None:
    assert run("protected", "60", esp=HOLE + 0x10)[0] == PF


# A store that faults leaves the flags and registers: read-only pages ---------------------------

_TABLES = 0x1000_0000
_WRITERS = {"ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAR", "SHLD", "SHRD", "MOV"}


@functools.cache
def read_only_cpu() -> Cpu:
    """Long mode with page tables in which the data pages can't be written."""
    cpu = Cpu(mode="long")
    first = LONG.code & -PAGE
    cpu.map(first, LONG.data + LONG.size - first)
    cpu.map(_TABLES, 4 * PAGE)
    levels = [_TABLES + n * PAGE for n in range(4)]
    for shift, table, below in ((39, levels[0], levels[1]), (30, levels[1], levels[2]),
                                (21, levels[2], levels[3])):  # fmt: skip
        cpu.write(table + (LONG.code >> shift & 511) * 8, (below | 3).to_bytes(8, "little"))
    for page in range(first, LONG.data + LONG.size, PAGE):
        entry = page | (1 if page >= LONG.data else 3)
        cpu.write(levels[3] + (page >> 12 & 511) * 8, entry.to_bytes(8, "little"))
    cpu.regs["cr3"] = _TABLES
    cpu.regs["cr4"] |= 1 << 5
    cpu.regs["cr0"] |= 1 << 31 | 1 << 16
    return cpu


def _writing_cases() -> list[Case]:
    found = []
    for row in family_rows():
        writes = "lock" in row.attrs or row.mnemonic in _WRITERS or row.mnemonic.startswith("SET")
        if not writes or row.operands[0][0] not in "EM":
            continue
        for size, memory, rep in variants(row, 64):
            if memory:
                rng = random.Random(f"{row} {size}")
                found.append(Maker(rng, row, LONG, size, memory=True, rep=rep).make())
    return found


def test_a_store_to_a_read_only_page_changes_nothing() -> None:
    cpu = read_only_cpu()
    for case in _writing_cases():
        cpu.write(LONG.code, case.code + HLT)
        cpu.write(LONG.data, case.data)
        for name, value in zip(NAMES, case.regs, strict=True):
            cpu.regs[name] = value
        cpu.regs["eflags"] = case.flags
        stop = cpu.run(LONG.code, max_insns=1)
        assert (stop.kind, stop.vector, stop.error_code) == ("exception", PF, 3), str(case)
        assert [cpu.regs[name] for name in NAMES] == case.regs, str(case)
        assert cpu.regs["eflags"] == case.flags & ~0x2A | 2, str(case)
        assert cpu.read(LONG.data, LONG.size) == case.data, str(case)
