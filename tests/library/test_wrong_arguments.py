"""Arguments that are of no kind that an API takes: each is a typed error, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pytcg import Cpu
from pytcg.errors import PytcgError

CODE = 0x10000
THINGS = (None, "x", 1.5, -1, 1 << 70, b"x", [], object())
ACTS: dict[str, Callable[[Any, Any], Any]] = {
    "map address": lambda c, t: c.map(t, 4096), "map size": lambda c, t: c.map(0, t),
    "map perm": lambda c, t: c.map(0x40000, 4096, t),
    "map data": lambda c, t: c.map(0x80000, 4096, data=t),
    "unmap": lambda c, t: c.unmap(t, 4096), "protect": lambda c, t: c.protect(CODE, t, "r"),
    "map_mmio": lambda c, t: c.map_mmio(t, 4096), "buffer": lambda c, t: c.map_buffer(0x50000, t),
    "read": lambda c, t: c.read(t, 4), "read size": lambda c, t: c.read(CODE, t),
    "write": lambda c, t: c.write(CODE, t), "write address": lambda c, t: c.write(t, b"1"),
    "read_int": lambda c, t: c.read_int(CODE, t), "write_int": lambda c, t: c.write_int(CODE, t),
    "write_int size": lambda c, t: c.write_int(CODE, 1, t),
    "read_string": lambda c, t: c.read_string(t), "limit": lambda c, t: c.read_string(CODE, t),
    "view": lambda c, t: c.view(t, 4), "view size": lambda c, t: c.view(CODE, t),
    "run": lambda c, t: c.run(t, max_insns=10), "until": lambda c, t: c.run(CODE, t, max_insns=10),
    "max_insns": lambda c, t: c.run(CODE, max_insns=t or 1, timeout=1),
    "timeout": lambda c, t: c.run(CODE, max_insns=5, timeout=t),
    "step": lambda c, t: c.step(min(t, 100) if isinstance(t, int) else t or 1),
    "rax": lambda c, t: setattr(c.regs, "rax", t), "zf": lambda c, t: setattr(c.regs, "zf", t),
    "fsw": lambda c, t: setattr(c.regs, "fsw", t), "ymm": lambda c, t: setattr(c.regs, "ymm0", t),
    "cr0": lambda c, t: setattr(c.regs, "cr0", t), "item": lambda c, t: c.regs[t],
    "msr": lambda c, t: c.regs.msr[t], "wrmsr": lambda c, t: c.regs.msr.__setitem__(0x10, t),
    "regs.read": lambda c, t: c.regs.read(t), "regs.write": lambda c, t: c.regs.write(t),
    "restore": lambda c, t: c.restore(t), "context": lambda c, t: c.restore_context(t),
    "code": lambda c, t: c.hooks.code(t), "address": lambda c, t: c.hooks.address(t, print),
    "start": lambda c, t: c.hooks.code(print, t), "end": lambda c, t: c.hooks.memory(print, 0, t),
    "access": lambda c, t: c.hooks.memory(print, access=t),
    "instruction": lambda c, t: c.hooks.instruction(t, print),
    "fault": lambda c, t: c.hooks.fault(t), "interrupt": lambda c, t: c.hooks.interrupt(t),
    "asm": lambda c, t: c.asm(t), "call": lambda c, t: c.call(t, max_insns=3),
    "argument": lambda c, t: c.call(CODE, t, max_insns=3),
    "abi": lambda c, t: c.call(CODE, abi=t, max_insns=3), "load": lambda c, t: c.load(t),
    "block_at": lambda c, t: c.block_at(t), "translate": lambda c, t: c.translate(t),
    "has": lambda c, t: c.has(t), "engine": lambda c, t: Cpu(engine=t),
    "mode": lambda c, t: Cpu(t), "model": lambda c, t: Cpu(model=t),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
def test_wrong_arguments_are_typed_errors(name: str) -> None:
    cpu = Cpu()
    cpu.map(CODE, 4096, data=bytes.fromhex("ebfe"))
    for thing in THINGS:
        try:
            ACTS[name](cpu, thing)
        except PytcgError as error:
            assert str(error)
    cpu.regs.eax = 5
    assert cpu.run(CODE, max_insns=1 + len(cpu.regions)).kind in ("limit", "exception")
