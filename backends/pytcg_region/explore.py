"""One region as people see it: the guest's instructions, and what each stage makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pytcg.exec import regions
from pytcg.softmmu.ram import HostBuffer
from pytcg_llvm.listing import Row
from pytcg_region.request import Request
from pytcg_region.stages import Stage, form_stages, region_stages
from pytcg_x86.core.cpu import X86Cpu
from pytcg_x86.core.debuglog import instructions
from pytcg_x86.core.state import Mode
from pytcg_x86.region.builder import NotInRegion


class Explored(NamedTuple):
    """A region, or (not ``compiled``) code whose instructions have a handler each.

    Rows know the instruction that they are of, counted from 1.
    """

    start: int
    compiled: bool
    insns: int
    guest: list[Row]
    stages: list[Stage]


def explore_region(cpu: X86Cpu, find_block: Callable[[int], int],
                   read: Callable[[int, int], bytes], start: int) -> Explored:  # fmt: skip
    """Of the code at ``start`` and all that it leads to.

    ``find_block`` translates what is at an address, or raises; ``read`` gives its bytes.
    """
    request = _grow(cpu, find_block, start)
    try:
        stages, compiled = region_stages(request, "explored"), True
    except NotInRegion:
        stages, compiled = form_stages(request), False
    return Explored(start, compiled, request.insns, _guest(read, request), stages)


def _grow(cpu: X86Cpu, find_block: Callable[[int], int], start: int) -> Request:
    """The request of a region for which all that it may have is translated."""
    room = HostBuffer(regions.REQUEST_BYTES)
    seed, tried = find_block(start), {start}
    while True:
        size = cpu.engine.call("region_grow", cpu.address, seed, room.address)
        request = Request(room.view[:size])
        leads = {request.pc + way for block in request.blocks for way in (block.taken, block.fall)
                 if way != regions.NOWHERE}  # fmt: skip
        if leads <= tried:
            return request
        for pc in leads - tried:
            _translate(find_block, pc)
        tried |= leads


def _translate(find_block: Callable[[int], int], pc: int) -> None:
    from pytcg.errors import CpuError

    try:
        find_block(pc)
    except CpuError:  # no code there: the region is left
        return


def _guest(read: Callable[[int, int], bytes], request: Request) -> list[Row]:
    """The blocks by address."""
    mode = request.mode
    bits = 64 if mode & Mode.CODE64 else 32 if mode & Mode.CODE32 else 16
    shown: list[tuple[int, list[Row]]] = []
    line = 1
    for block in request.blocks:
        first = request.pc + block.pc & (1 << bits) - 1
        rows: list[Row] = [(0, f"{first:#x}:")]
        for insn in block.insns:
            address = request.pc + insn.fields["pc"] & (1 << bits) - 1
            code = read(address, insn.fields["length"])
            _, _, text = next(instructions(code, address, mode))
            rows.append((line, f"  {text.rstrip()}"))
            line += 1
        shown.append((first, rows))
    return [row for _, rows in sorted(shown) for row in rows]
