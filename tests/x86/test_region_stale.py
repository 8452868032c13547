"""The compile service looks at blocks that may have been dropped: whatever lies there now."""

from __future__ import annotations

import random
import struct

from pytcg import Cpu
from pytcg.exec import layout, regions
from pytcg.softmmu.ram import HostBuffer
from pytcg_region.kept import SHAPE_ROW
from pytcg_region.request import Request

_PART = 1 << 20
"""Bytes of the arena that are filled with noise."""


def noise_with_pointers(noise: random.Random, arena: int) -> bytes:
    """Numbers that look like anything, and pointers to anywhere near."""
    words = [noise.choice((arena + noise.randrange(_PART) & ~7, noise.getrandbits(64), 0, 1, 40,
                           noise.randrange(1 << 12)))
             for _ in range(_PART // 8)]  # fmt: skip
    return struct.pack(f"<{len(words)}Q", *words)


def test_what_is_no_block_any_more_has_no_seed_and_leads_nowhere() -> None:
    cpu = Cpu()._cpu
    arena = cpu.buffers["arena"]
    request = HostBuffer(regions.REQUEST_BYTES)
    noise = random.Random(8)
    for _ in range(4):
        arena.view[:_PART] = noise_with_pointers(noise, arena.address)
        for name in ("hash", "jumps", "pages"):
            view = cpu.buffers[name].view
            size = min(len(view), 1 << 16)
            pointers = [arena.address + noise.randrange(_PART) & ~7 for _ in range(size // 8)]
            view[:size] = struct.pack(f"<{len(pointers)}Q", *pointers)
        for _ in range(40):
            tb = arena.address + noise.randrange(0, _PART - regions.BLOCK_BYTES, 64)
            at = tb - arena.address
            head = layout.TB.offset("insns")
            if noise.random() < 0.7:  # as many instructions as a block may have
                arena.view[at + head : at + head + 4] = noise.randrange(41).to_bytes(4, "little")
            cpu.engine.call("seed_hash", cpu.address, tb)
            size = cpu.engine.call("region_grow", cpu.address, tb, request.address)
            assert size <= regions.REQUEST_BYTES
    assert cpu.engine.call("seed_hash", cpu.address, request.address) == 0


def test_a_report_from_before_a_flush_makes_no_region() -> None:
    """The block's memory is as it was, but nothing leads to it: its room belongs to others."""
    cpu = Cpu()
    cpu.map(0x1000, 0x1000)
    cpu.write(0x1000, bytes.fromhex("4801c8 48ffc9 75f8 f4"))  # 1: add rax, rcx; dec rcx; jnz 1b
    cpu.regs["rcx"] = 5
    assert cpu.run(0x1000).kind == "hlt"
    engine, env, arena = cpu._cpu.engine, cpu._cpu.address, cpu._cpu.buffers["arena"].address
    request = HostBuffer(regions.REQUEST_BYTES)
    assert engine.call("region_grow", env, arena, request.address) != 0
    shape = Request(request.view).shape()
    rows = HostBuffer(len(shape))
    rows.view[:] = shape
    known = request.address, rows.address, len(shape) // SHAPE_ROW.size
    assert engine.call("region_follow", env, arena, *known) != 0
    engine.call("tb_flush", env)
    assert engine.call("region_grow", env, arena, request.address) == 0
    assert engine.call("region_follow", env, arena, *known) == 0
