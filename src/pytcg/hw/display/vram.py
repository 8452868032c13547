"""Display memory: a buffer of bytes and the log of its dirty pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

PAGE_BITS: Final = 12
PAGE: Final = 1 << PAGE_BITS
ALL_PAGES: Final = slice(None)

Bytes = npt.NDArray[np.uint8]


class DirtyPages(Protocol):
    """Which pages of a range of memory were written."""

    def mark(self, first: int, last: int) -> None:
        """Pages first to last (both included) were written by a device."""

    def take(self, pages: slice) -> npt.NDArray[np.bool_]:
        """Which of these pages were written since they were last taken; one element a page."""


class OwnDirtyPages:
    """The log of memory that only devices write."""

    def __init__(self, size: int) -> None:
        self._pages = np.ones(size >> PAGE_BITS, np.bool_)

    def mark(self, first: int, last: int) -> None:
        """Pages first to last were written."""
        self._pages[first : last + 1] = True

    def take(self, pages: slice) -> npt.NDArray[np.bool_]:
        """Those of these pages that were written since."""
        found = np.zeros_like(self._pages)
        found[pages] = self._pages[pages]
        self._pages[pages] = False
        return found


class Vram:
    """``size`` bytes; planar modes keep the four planes' bytes of one address side by side.

    So display memory is an array of 32-bit words, plane 0 in the lowest byte; chain-4 modes and
    VBE's packed pixels use the same bytes in order (as QEMU and Bochs lay it out).
    """

    def __init__(self, buffer: bytearray | memoryview, dirty: DirtyPages | None = None) -> None:
        self.size = len(buffer)
        self.view = memoryview(buffer)
        self.words = self.view.cast("I")
        self.bytes: Bytes = np.frombuffer(buffer, np.uint8)
        self.planes = self.bytes.reshape(-1, 4)
        self.dirty: DirtyPages = dirty or OwnDirtyPages(self.size)
        self.on_clear: Callable[[int, int], None] = lambda start, length: None

    def store_word(self, index: int, value: int) -> None:
        """All planes of one address."""
        self.words[index] = value
        page = index >> PAGE_BITS - 2
        self.dirty.mark(page, page)

    def clear(self, length: int) -> None:
        """Zero the first bytes, as setting a mode does."""
        length = min(length, self.size)
        self.bytes[:length] = 0
        self.dirty.mark(0, (length - 1) >> PAGE_BITS)
        self.on_clear(0, length)
