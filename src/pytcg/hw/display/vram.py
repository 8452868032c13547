"""Display memory: a buffer of bytes and the log of its dirty pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:  # loaded when somebody looks
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

PAGE_BITS: Final = 12
PAGE: Final = 1 << PAGE_BITS
ALL_PAGES: Final = slice(None)


class DirtyPages(Protocol):
    """Which pages of a range of memory were written."""

    def mark(self, first: int, last: int) -> None:
        """Pages first to last (both included) were written by a device."""

    def take(self, pages: slice) -> npt.NDArray[np.bool_]:
        """Which of these pages were written since they were last taken; one element a page."""


class OwnDirtyPages:
    """The log of memory that only devices write."""

    def __init__(self, size: int) -> None:
        self._pages = bytearray(b"\1") * (size >> PAGE_BITS)

    def mark(self, first: int, last: int) -> None:
        """Pages first to last were written."""
        self._pages[first : last + 1] = b"\1" * (last + 1 - first)

    def take(self, pages: slice) -> npt.NDArray[np.bool_]:
        """Those of these pages that were written since."""
        import numpy as np

        marked = np.frombuffer(self._pages, np.bool_)
        found = np.zeros_like(marked)
        found[pages] = marked[pages]
        marked[pages] = False
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
        self.dirty: DirtyPages = dirty or OwnDirtyPages(self.size)
        self.collect: Callable[[], None] = lambda: None
        """Called by who looks: what the guest stores elsewhere for a while is put here."""
        self.on_clear: Callable[[int, int], None] = lambda start, length: None

    @cached_property
    def bytes(self) -> Bytes:
        """The memory as an array."""
        import numpy as np

        return np.frombuffer(self.view, np.uint8)

    @cached_property
    def planes(self) -> Bytes:
        """Its words' bytes, four a row: plane 0 to 3 of each address."""
        return self.bytes.reshape(-1, 4)

    def store_word(self, index: int, value: int) -> None:
        """All planes of one address."""
        self.words[index] = value
        page = index >> PAGE_BITS - 2
        self.dirty.mark(page, page)

    def clear(self, length: int) -> None:
        """Zero the first bytes, as setting a mode does."""
        length = min(length, self.size)
        self.view[:length] = bytes(length)
        self.dirty.mark(0, (length - 1) >> PAGE_BITS)
        self.on_clear(0, length)
