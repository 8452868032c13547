"""Programs that run to a HLT in threaded code and in regions, and must end the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytcg import Cpu
from x86.assemble import assemble

CODE, DATA, STACK = 0x1_0000, 0x2_0000, 0x4_0000
End = tuple[list[int], bytes, int]
"""Registers, data and instructions."""


def run_to_end(cpu: Cpu, engine: str, names: Sequence[str], size: int, limit: int) -> End:
    """From CODE; ``size`` bytes of DATA count."""
    assert cpu.run(CODE, max_insns=limit).kind == "hlt"
    if engine == "jit":
        assert cpu._cpu.regions_run()[1] > 0
    return [cpu.regs[name] for name in names], cpu.read(DATA, size), cpu.instructions


def check(run: Callable[[str, bytes, int], End], text: str, seed: int, names: Sequence[str]
          ) -> None:  # fmt: skip
    """``run(engine, code, seed)`` of both."""
    code = assemble(text, 64)
    expected, found = run("threaded", code, seed), run("jit", code, seed)
    wrong = [name for name, a, b in zip(names, expected[0], found[0], strict=True) if a != b]
    assert (wrong, expected[2]) == ([], found[2]), text
    assert expected[1] == found[1], text
