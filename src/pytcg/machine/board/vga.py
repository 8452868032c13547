"""The display: a VGA in its slot, its ports, the window at A0000h, and what it shows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from pytcg.hw.display.vga import Vga
from pytcg.hw.display.vga_pci import VgaPci
from pytcg.hw.display.vram import PAGE, Vram
from pytcg.hw.pci.bar import Backing
from pytcg.machine import pc_map as at
from pytcg.machine.board.flat_window import FlatWindow
from pytcg.machine.bus import PortHandlers
from pytcg.machine.layout import MIB, VGA_HOLE, VGA_HOLE_SIZE
from pytcg.softmmu.address_map import AddressMap, ram

if TYPE_CHECKING:  # a screen that nobody looks at needs none of this
    import numpy as np
    import numpy.typing as npt

    from pytcg.hw.display.screen import VgaScreen
    from pytcg.machine.board.backplane import Backplane

MEMORY_SIZE: Final = 16 * MIB
_FIRST_PORTS: Final = range(0x0C)  # 3B0h-3BBh: above is a parallel port
_SECOND_PORTS: Final = range(0x10, 0x30)


class ComparedPages:
    """Dirty pages found by comparing with what was there: guests write display memory as RAM.

    A screen's 3 MiB compare in a millisecond, and only while somebody looks.
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._before: npt.NDArray[np.uint64] | None = None
        self._pages = bytearray(b"\1") * (len(view) // PAGE)

    def mark(self, first: int, last: int) -> None:
        """Pages first to last were written by the chip."""
        self._pages[first : last + 1] = b"\1" * (last + 1 - first)

    def take(self, pages: slice) -> npt.NDArray[np.bool_]:
        """Those of these pages that differ from what they were when last taken."""
        import numpy as np

        marked = np.frombuffer(self._pages, np.bool_)
        found = np.zeros_like(marked)
        found[pages] = marked[pages]
        marked[pages] = False
        memory = np.frombuffer(self._view, np.uint64).reshape(-1, PAGE // 8)
        if self._before is None:
            self._before = np.zeros_like(memory)
        now, before = memory[pages], self._before[pages]
        differs = (now != before).any(axis=1)
        before[differs] = now[differs]
        found[pages] |= differs
        return found


def _place_rom(memory: AddressMap, image: bytes) -> Backing:
    """The image in memory, as large as a window of whole pages must be."""
    size = max(PAGE, 1 << (len(image) - 1).bit_length())
    offset = memory.allocate(size)
    view = memory.view(offset, size)
    view[:] = image.ljust(size, b"\xff")
    return Backing(view, offset, writable=False)


class Display:
    """The card, to be plugged. `screen` draws it; whoever uses that holds the device lock."""

    def __init__(self, board: Backplane, rom: bytes | None) -> None:
        self._memory = board.memory
        self._offset = board.memory.allocate(MEMORY_SIZE)
        view = board.memory.view(self._offset, MEMORY_SIZE)
        self.vga = board.add(Vga(board.clock, Vram(view, ComparedPages(view))))
        self._alias: tuple[int, int, int] | None = None
        self.vga.on_mapping = self._map_window
        self._flat = FlatWindow(board.memory, self.vga.vram, self._offset)
        self.card = VgaPci(self.vga, Backing(view, self._offset),
                           _place_rom(board.memory, rom) if rom else None)
        self.card.on_look = self._end_flat
        aperture = self.vga.aperture
        aperture.on_busy = self._begin_flat
        board.mmio.map_window(self, VGA_HOLE, VGA_HOLE_SIZE, aperture.read, aperture.write)
        for ports in (_FIRST_PORTS, _SECOND_PORTS):
            board.ports.attach(self.vga, at.VGA + ports.start, count=len(ports),
                               first=ports.start)  # fmt: skip
        self._attach_dispi(board)

    @cached_property
    def screen(self) -> VgaScreen:
        """What draws the picture."""
        from pytcg.hw.display.screen import VgaScreen

        return VgaScreen(self.vga)

    def _attach_dispi(self, board: Backplane) -> None:
        vbe = self.vga.vbe

        def select(value: int) -> None:
            vbe.index = value

        def write(value: int) -> None:
            self.vga.write_dispi(vbe.index, value)

        index = PortHandlers(lambda: vbe.index, select)
        data = PortHandlers(lambda: self.vga.read_dispi(vbe.index), write)
        for handlers, port in zip((index, data, data), at.DISPI, strict=True):
            board.ports.attach_port(handlers, port, size=2)

    def _map_window(self) -> None:
        """While stores to the window need no help, let it be the memory itself."""
        self._end_flat()
        alias = self.vga.aperture.chained()
        if alias == self._alias:
            return
        self._alias = alias
        regions = []
        if alias is not None:
            start, length, bank = alias
            regions = [ram(VGA_HOLE + start, length, self._offset + bank)]
        self._memory.fill(self, regions)



    def _begin_flat(self) -> None:
        """The guest is at the window: if it is a text mode's, let it be memory."""
        if self._alias is None:
            self._flat.show(self.vga.aperture.flat())

    def _end_flat(self) -> None:
        self._flat.show(None)
        self.vga.aperture.rest()
