"""A processor in flat 32-bit protected mode: how multiboot and PVH kernels are entered."""

from __future__ import annotations

import struct
from typing import Final

from pytcg.machine.linux import CODE_32, DATA, FLAT_LIMIT, Memory
from pytcg.machine.runner import Vcpu

GDT: Final = 0x5000  # below 640 KiB, where the kernels don't lie
CS: Final = 0x08
DS: Final = 0x10
TSS_32: Final = 0x008B
TSS_LIMIT: Final = 0x67
ROWS: Final = (0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF)


def enter(memory: Memory, vcpu: Vcpu, entry: int, registers: dict[str, int]) -> None:
    """Point the processor, fresh from reset, at a physical address: paging and interrupts off."""
    memory.write(GDT, struct.pack(f"<{len(ROWS)}Q", *ROWS))
    state = {"cr0": 0x11, "rip": entry, "gdtr.base": GDT, "gdtr.limit": 8 * len(ROWS) - 1}
    for name, value in (state | registers).items():
        vcpu.regs[name] = value
    vcpu.set_segment("cs", CS, 0, FLAT_LIMIT, CODE_32)
    for name in ("ds", "es", "ss", "fs", "gs"):
        vcpu.set_segment(name, DS, 0, FLAT_LIMIT, DATA)
    vcpu.set_segment("tr", 0, 0, TSS_LIMIT, TSS_32)
