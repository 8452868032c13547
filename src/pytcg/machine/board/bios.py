"""The firmware's ROM below 4 GiB, and its last 128 KiB again below 1 MiB."""

from __future__ import annotations

from typing import Final

from pytcg.machine.layout import FOUR_GIB, HIGH_MEMORY, KIB
from pytcg.softmmu.address_map import AddressMap

ISA_SIZE: Final = 128 * KIB


def attach_bios(memory: AddressMap, image: bytes) -> None:
    """Put the ROM where the processor starts; its size is a multiple of 64 KiB."""
    offset = memory.allocate(len(image))
    memory.window.view[offset : offset + len(image)] = image
    memory.add_rom(FOUR_GIB - len(image), len(image), offset)
    low = min(len(image), ISA_SIZE)
    memory.add_rom(HIGH_MEMORY - low, low, offset + len(image) - low)
