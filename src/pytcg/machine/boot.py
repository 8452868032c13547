"""A loaded kernel and a processor fresh from reset: how the first becomes the second's program."""

from __future__ import annotations

from pytcg.machine import layout
from pytcg.machine import pc_map as at
from pytcg.machine.linux import (
    BOOT_CS,
    BOOT_DS,
    BOOT_TR,
    DATA,
    FLAT_LIMIT,
    TSS,
    LinuxBoot,
    Memory,
)
from pytcg.machine.runner import Vcpu


def boot_linux(guest: LinuxBoot, memory: Memory, ram_size: int, vcpu: Vcpu) -> None:
    """Load the kernel and point the processor, fresh from reset, at its entry."""
    entry = guest.load(memory, layout.e820_map(ram_size), at.ACPI_TABLES)
    for name, value in entry.registers.items():
        vcpu.regs[name] = value
    vcpu.set_segment("cs", BOOT_CS, 0, FLAT_LIMIT, entry.code)
    for name in ("ds", "es", "ss", "fs", "gs"):
        vcpu.set_segment(name, BOOT_DS, 0, FLAT_LIMIT, DATA)
    vcpu.set_segment("tr", BOOT_TR, 0, 0xFFFF, TSS)
