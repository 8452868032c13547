"""The window at A0000h in text modes: memory that the guest reads and writes without calls.

Display memory keeps the four planes' bytes of an address side by side, so what the window shows in
order there lies apart. While a text mode is only read and written, the window is a copy in order,
which `collect` puts back. Whoever looks at display memory collects first; the guest's own look, by
the card's frame buffer, ends the copy: those addresses are a device's meanwhile.
"""

from __future__ import annotations

from typing import Final

from pytcg.hw.display.aperture import WINDOW_SIZE, Flat
from pytcg.hw.display.vram import Vram
from pytcg.machine.layout import VGA_HOLE
from pytcg.softmmu.address_map import AddressMap, ram

WORD: Final = 4  # bytes of display memory for an address


class FlatWindow:
    """The copy; display memory ``vram`` is at ``offset`` of the RAM window."""

    def __init__(self, memory: AddressMap, vram: Vram, offset: int) -> None:
        self._memory = memory
        self._vram = vram
        self._offset = offset
        self._place = memory.allocate(WINDOW_SIZE)
        self._copy = memory.view(self._place, WINDOW_SIZE)
        self._flat: Flat | None = None
        vram.collect = self.collect

    def show(self, flat: Flat | None) -> None:
        """Let the guest have this; None ends it."""
        if flat == self._flat:
            return
        self.collect()
        self._flat = flat
        if flat is None:
            self._memory.fill(self, [])
            self._memory.unhide(self)
            return
        ours, theirs = self._views(flat)
        ours[:] = theirs
        self._memory.hide(self, self._offset, flat.words * WORD)
        self._memory.fill(self, [ram(VGA_HOLE + flat.start, flat.length, self._place)])

    def collect(self) -> None:
        """What the guest has stored is in display memory, too."""
        if self._flat is not None:
            ours, theirs = self._views(self._flat)
            theirs[:] = ours

    def _views(self, flat: Flat) -> tuple[memoryview, memoryview]:
        """The copy and the planes that it is of, element by element."""
        if flat.plane is None:  # planes 0 and 1: a character and its attribute
            halves = self._vram.view.cast("H")
            return self._copy.cast("H")[: flat.words], halves[: 2 * flat.words : 2]
        planes = self._vram.view[flat.plane : WORD * flat.words : WORD]
        return self._copy[: flat.words], planes
