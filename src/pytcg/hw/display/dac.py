"""The digital-to-analogue converter: 256 colours of 18 bits (24 with VBE's 8-bit mode)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.hw.state import State, load, save

if TYPE_CHECKING:  # loaded when somebody looks
    import numpy as np
    import numpy.typing as npt

READING, WRITING = 3, 0


class Dac:
    """Palette RAM behind an auto-incrementing index. `version` counts changes of the colours."""

    _FIELDS = ("colors", "mask", "read_index", "write_index", "component", "direction", "latch",
               "wide")  # fmt: skip

    def __init__(self) -> None:
        self.version = 0
        self.reset()

    def reset(self) -> None:
        """Power-on: the palette of a real one is undefined, here black."""
        self.colors = bytearray(768)  # red, green, blue, as they were written
        self.mask = 0xFF
        self.read_index = self.write_index = self.component = 0
        self.direction = WRITING
        self.latch = bytearray(3)
        self.wide = False  # components of 8 bits instead of 6
        self.version += 1

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self.version += 1

    def set_mask(self, value: int) -> None:
        """The pixel mask register."""
        self.version += value != self.mask
        self.mask = value

    def start_read(self, index: int) -> None:
        """Read from this colour on."""
        self.read_index, self.component, self.direction = index, 0, READING

    def start_write(self, index: int) -> None:
        """Write from this colour on."""
        self.write_index, self.component, self.direction = index, 0, WRITING

    def read(self) -> int:
        """The next component."""
        value = self.colors[self.read_index * 3 + self.component]
        self.component += 1
        if self.component == 3:
            self.component, self.read_index = 0, (self.read_index + 1) & 0xFF
        return value

    def write(self, value: int) -> None:
        """The next component; the colour changes with its third."""
        self.latch[self.component] = value if self.wide else value & 0x3F
        self.component += 1
        if self.component == 3:
            at = self.write_index * 3
            self.version += self.colors[at : at + 3] != self.latch
            self.colors[at : at + 3] = self.latch
            self.component, self.write_index = 0, (self.write_index + 1) & 0xFF

    def set_wide(self, *, wide: bool) -> None:
        """8-bit components instead of 6-bit ones; what the palette holds is scaled."""
        if wide != self.wide:
            shift = (lambda c: c << 2) if wide else (lambda c: c >> 2)
            self.colors = bytearray(map(shift, self.colors))
            self.wide = wide
            self.version += 1

    def rgb(self) -> npt.NDArray[np.uint32]:
        """The 256 colours as 00RRGGBBh, the pixel mask applied to their numbers."""
        import numpy as np

        parts = np.frombuffer(self.colors, np.uint8).reshape(256, 3).astype(np.uint32)
        full = parts if self.wide else parts << 2 | parts >> 4
        colors = (full[:, 0] << 16 | full[:, 1] << 8 | full[:, 2]).astype(np.uint32)
        chosen: npt.NDArray[np.uint32] = colors[np.arange(256) & self.mask]
        return chosen
