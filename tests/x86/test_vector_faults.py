"""Memory operands of every MMX and SSE row: alignment, missing pages, accesses across two.

The manual says which 128-bit operands need no alignment (SDM vol. 2A, 2.4): the moves made for it,
LDDQU, and the string comparisons.
"""

from __future__ import annotations

import functools
import random

import pytest

from pytcg.cpu import Cpu, Stop
from pytcg_x86.decode.table import Row
from x86.sse_cases import family_rows, variants

CODE, DATA, END = 0x10000, 0x20000, 0x22000
GP, PF = 13, 14
SIZES = {"b": 1, "w": 2, "d": 4, "q": 8, "x": 16}
UNALIGNED = {"MOVUPS", "MOVUPD", "MOVDQU", "LDDQU", "PCMPESTRI", "PCMPESTRM", "PCMPISTRI",
             "PCMPISTRM"}  # fmt: skip
WRITE = 2
ROWS = [row for row in family_rows()
        if any(code[0] in "WMQE" for code in row.operands) and row.mod != "r"]  # fmt: skip


@functools.cache
def processor(engine: str) -> Cpu:
    cpu = Cpu(mode="long", engine=engine)
    cpu.map(CODE, 0x1000)
    cpu.map(DATA, END - DATA)
    return cpu


def run(engine: str, code: bytes, address: int) -> Stop:
    """The instruction with its operand at ``address``; what a fault must leave alone is checked."""
    cpu = processor(engine)
    cpu.write(CODE, code)
    cpu.regs["mxcsr"] = 0x1F80
    before = {"rbx": address, "eflags": 0x8D7}
    before |= {f"xmm{i}": 0x1111 * i for i in range(16)} | {"rax": 3, "rdx": 4, "rcx": 5}
    for name, value in before.items():
        cpu.regs[name] = value
    stop = cpu.run(CODE, max_insns=1)
    if stop.kind == "exception":
        assert stop.rip == CODE
        assert {name: cpu.regs[name] for name in before} == before
    return stop


def memory(row: Row) -> tuple[int, bool]:
    """The operand's size and whether it is written."""
    number, code = next((n, c) for n, c in enumerate(row.operands) if c[0] in "WMQE")
    return SIZES.get(code[1:], 4), number == 0


@pytest.mark.parametrize("engine", ["threaded"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join((str(row), *row.operands)))
def test_memory_operand_faults(row: Row, engine: str) -> None:
    size, written = memory(row)
    error = WRITE if written else 0
    for variant in (v for v in variants(row, random.Random(str(row))) if v.memory):
        aligned = size == 16 and row.mnemonic not in UNALIGNED
        stop = run(engine, variant.code, DATA + 8)
        assert (stop.vector, stop.error_code) == ((GP, 0) if aligned else (None, None)), variant
        stop = run(engine, variant.code, END)
        assert (stop.vector, stop.address, stop.error_code) == (PF, END, error), variant
        if size > 1 and not aligned:
            stop = run(engine, variant.code, END - 1)
            assert (stop.vector, stop.address, stop.error_code) == (PF, END, error), variant
