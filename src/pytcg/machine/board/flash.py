"""Flash memory below 4 GiB: firmware's code, and its variables below that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytcg.exec.layout import STORES_TO_DEVICE
from pytcg.hw.storage.pflash_cfi01 import BLOCK, PflashCfi01
from pytcg.machine.board.bios import ISA_SIZE
from pytcg.machine.layout import FOUR_GIB, HIGH_MEMORY, MIB
from pytcg.machine.roms import RomError
from pytcg.softmmu.address_map import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytcg.block.device import BlockDevice
    from pytcg.machine.board.backplane import Backplane

LARGEST: Final = 8 * MIB  # of all together


@dataclass(frozen=True)
class FlashImage:
    """What a flash holds, and where changes go."""

    device: BlockDevice
    name: str
    read_only: bool


def attach_flashes(board: Backplane, images: Sequence[FlashImage]) -> list[PflashCfi01]:
    """The first ends at 4 GiB, each further one lies below; RomError for impossible sizes."""
    flashes = []
    end = FOUR_GIB
    for number, image in enumerate(images):
        size = image.device.size
        if not size or size % BLOCK:
            raise RomError(f"flash '{image.name}' has {size} bytes, not a multiple of 4 KiB")
        if FOUR_GIB - end + size > LARGEST:
            raise RomError(f"flash '{image.name}': there is room for 8 MiB of flash together")
        end -= size
        flashes.append(_attach(board, image, end, is_firmware=number == 0))
    return flashes


def _attach(board: Backplane, image: FlashImage, base: int, *, is_firmware: bool) -> PflashCfi01:
    memory, device = board.memory, image.device
    size = device.size
    offset = memory.allocate(size)
    view = memory.view(offset, size)
    device.read_into(0, view)
    region = Region(base, size, offset, STORES_TO_DEVICE)

    def show(array: bool) -> None:
        memory.shadow((image, base), [region] if array else [])

    def store(start: int, length: int) -> None:
        device.pwrite(start, view[start : start + length])

    flash = board.add(PflashCfi01(view, show, store, read_only=image.read_only))
    board.mmio.map_window(flash, base, size, flash.read, flash.write)
    if is_firmware:
        low = min(size, ISA_SIZE)
        memory.add_rom(HIGH_MEMORY - low, low, offset + size - low)
    return flash
