"""Random blocks of integer instructions against the host CPU.

What one instruction leaves to the next is tested here: lazy flags, chained records, fused
comparisons and branches, blocks that end in the middle.
"""

from __future__ import annotations

import random

import pytest

from pytcg.fuzz import hostcpu
from pytcg_x86.decode.table import Row
from x86.integer_cases import Case, Maker, family_rows, variants
from x86.outcome import LONG, differences, on_engine, on_host

pytestmark = pytest.mark.skipif(not hostcpu.available(), reason="the host is no x86-64 Linux")

# Instructions whose results are defined whatever they are given; AF after logic is not read here.
_PLAIN = {"ADD", "ADC", "SUB", "SBB", "CMP", "AND", "OR", "XOR", "TEST", "INC", "DEC", "NEG", "NOT",
          "MOV", "MOVZX", "MOVSX", "MOVSXD", "XCHG", "XADD", "CMPXCHG", "CMC", "CLC", "STC", "CBW",
          "CWD", "SAHF", "POPCNT"}  # fmt: skip
_AF = 0x10


def _rows() -> list[Row]:
    return [row for row in family_rows()
            if (row.mnemonic in _PLAIN or row.mnemonic.startswith(("SET", "CMOV")))
            and not any(code[0] in "MO" for code in row.operands) and "i64" not in row.attrs
            and not (row.operands[:1] == ("Zv",) and row.mnemonic == "XCHG")]  # fmt: skip


def _instruction(rng: random.Random, rows: list[Row]) -> bytes:
    """One instruction on registers."""
    row = rng.choice(rows)
    size, _, rep = rng.choice([v for v in variants(row, 64) if not v[1]])
    return Maker(rng, row, LONG, size, memory=False, rep=rep).make().code


def _block(rng: random.Random, rows: list[Row], length: int) -> bytes:
    """Instructions, some of them skipped by a conditional branch."""
    code = b""
    for _ in range(length):
        instruction = _instruction(rng, rows)
        if rng.random() < 0.35:
            code += bytes([0x70 + rng.randrange(16), len(instruction)])
        code += instruction
    return code


@pytest.mark.parametrize("engine", ["threaded", "jit"])
@pytest.mark.parametrize("seed", range(12))
def test_random_blocks_do_what_the_host_does(seed: int, engine: str) -> None:
    rng = random.Random(seed)
    rows = _rows()
    wrong = []
    for _ in range(12):
        case = Maker(rng, rows[0], LONG, 32, memory=False, rep="").make()
        code = _block(rng, rows, rng.randrange(2, 14))
        whole = Case(case.row, LONG, code, case.regs, case.flags, case.data, _AF, False)
        wrong += differences(whole, on_host(whole), on_engine(whole, engine, whole=True))
    assert not wrong, "\n".join(wrong[:3])
