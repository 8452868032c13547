"""`MemoryMap`: a library processor's physical memory: regions with permissions, and MMIO.

The bytes live in one window of host memory that is reserved, not committed; a region has its place
in it, so nothing is copied when regions are split, joined or protected.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pytcg.errors import MapError, UnmappedError
from pytcg.exec.layout import PAGE_SIZE, STORES_TO_DEVICE
from pytcg.library.checks import whole
from pytcg.softmmu.perm import RWX, Perm
from pytcg.softmmu.ram import RamError, RamWindow

_ALL = (1 << 64) - 1


class MmioHandler(Protocol):
    """What reads and writes a region that is no RAM; offsets count from where it was mapped."""

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Region:
    """``size`` bytes at ``address``; ``handler`` is None for RAM."""

    address: int
    size: int
    perms: Perm = RWX
    handler: MmioHandler | None = None
    offset: int = 0  # in the window; for MMIO in the handler's region
    source: object = None
    """What keeps the caller's buffer that is this memory; None for the window's own."""

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.address + self.size

    def __repr__(self) -> str:
        kind = "" if self.handler is None else " mmio"
        return f"<{self.address:#x}-{self.end - 1:#x} {self.perms.letters()}{kind}>"

    def part(self, start: int, end: int) -> Region:
        """The piece between two addresses."""
        return replace(self, address=start, size=end - start,
                       offset=self.offset + start - self.address)  # fmt: skip

    def continues(self, other: Region) -> bool:
        """Whether ``other`` is the memory that follows, with the same permissions."""
        return (self.handler is None and other.handler is None and self.perms == other.perms
                and self.source is other.source and self.end == other.address
                and self.offset + self.size == other.offset)  # fmt: skip


class MemoryMap:
    """Regions, ascending, and the window; what `pytcg_x86.core.cpu.X86Cpu` calls its memory."""

    def __init__(self, window: RamWindow):
        self.window = window
        self.regions: list[Region] = []
        self.version = 0
        self.before_write: list[Callable[[int, int], None]] = []
        """Called with (window offset, length) before `write` changes anything."""
        self.on_write: list[Callable[[int, int], None]] = []
        """Called with (window offset, length) after `write`: translated code may be stale."""
        self.on_change: list[Callable[[], None]] = []
        """Called after the regions changed."""
        self.grow: Callable[[int], None] | None = None
        """Asked for a window of at least so many bytes."""
        self.keep_freed = False
        """Don't give unmapped memory out again: a snapshot may want it back."""
        self._used = 0
        self._free: list[tuple[int, int]] = []  # (offset, size) in the window

    # Regions -----------------------------------------------------------------------------------

    def map(self, address: int, size: int, perms: Perm) -> Region:
        """Zeroed RAM; MapError."""
        self._check(address, size, new=True)
        region = Region(address, size, perms, None, self._allocate(address, size))
        self._insert(region)
        return region

    def map_buffer(self, address: int, buffer: Any, perms: Perm) -> None:
        """The pages of a caller's buffer themselves; MapError."""
        try:
            view = memoryview(buffer).cast("B")
            size = len(view)
            anchor = (ctypes.c_char * size).from_buffer(view)
        except (TypeError, ValueError) as error:
            raise MapError(f"no buffer that can be mapped: {error}", address, 0) from None
        self._check(address, size, new=True)
        host = ctypes.addressof(anchor)
        if host % PAGE_SIZE:
            raise MapError(f"the buffer for {address:#x} does not begin at a page of the host: "
                           "take np.frombuffer(mmap.mmap(-1, size), np.uint8)", address, size)
        offset = self._allocate(address, size)
        try:
            self.window.share(offset, size, host)
        except RamError as error:
            self._free.append((offset, size))
            raise MapError(f"{address:#x}+{size:#x}: {error}", address, size) from None
        self._insert(Region(address, size, perms, None, offset, anchor))

    def map_handler(self, address: int, size: int, perms: Perm, handler: MmioHandler) -> None:
        """A device; MapError."""
        self._check(address, size, new=True)
        self._insert(Region(address, size, perms & ~Perm.EXECUTE, handler))

    def unmap(self, address: int, size: int) -> None:
        """Take away a range that is mapped whole; MapError."""
        self._check(address, size, new=False)
        gone = self._exchange(address, size, lambda part: None)
        for part in gone:
            if part.handler is None and not self.keep_freed:
                if part.source is not None:
                    self.window.unshare(part.offset, part.size)
                else:
                    self.window.discard(part.offset, part.size)
                self._free.append((part.offset, part.size))
        self._changed()

    def protect(self, address: int, size: int, perms: Perm) -> None:
        """Change what a range that is mapped whole allows; MapError."""
        self._check(address, size, new=False)
        self._exchange(address, size, lambda part: replace(part, perms=perms))
        self._changed()

    def replace_all(self, regions: list[Region]) -> None:
        """Go back to regions as they were: a snapshot's."""
        if regions != self.regions:
            self.regions = list(regions)
            self._changed()

    def room(self) -> tuple[int, list[tuple[int, int]]]:
        """What of the window is given out, for `set_room`."""
        return self._used, list(self._free)

    def set_room(self, room: tuple[int, list[tuple[int, int]]]) -> None:
        self._used, self._free = room[0], list(room[1])

    def joined(self) -> list[Region]:
        """The regions, those put together that continue one another."""
        found: list[Region] = []
        for region in self.regions:
            if found and found[-1].continues(region):
                found[-1] = replace(found[-1], size=found[-1].size + region.size)
            else:
                found.append(region)
        return found

    def ranges(self) -> Iterator[tuple[int, int, int, int, int]]:
        """The regions as rows of `pytcg.exec.layout.RANGE`."""
        for r in self.joined():
            if r.handler is None:
                yield r.address, r.end & _ALL, r.offset, r.offset, r.perms
            else:
                yield r.address, r.end & _ALL, 0, STORES_TO_DEVICE, r.perms | Perm.DEVICE

    def find(self, address: int) -> Region | None:
        """The region that holds an address."""
        at = bisect_right(self.regions, address, key=_address)
        if at and address < self.regions[at - 1].end:
            return self.regions[at - 1]
        return None

    def overlapping(self, address: int, size: int) -> list[Region]:
        """The regions that touch a range, ascending."""
        first = bisect_right(self.regions, address, key=_address)
        if first and self.regions[first - 1].end > address:
            first -= 1
        return self.regions[first : bisect_left(self.regions, address + size, key=_address)]

    def _insert(self, region: Region) -> None:
        insort(self.regions, region, key=_address)
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        for listener in self.on_change:
            listener()

    def _exchange(self, address: int, size: int,
                  change: Callable[[Region], Region | None]) -> list[Region]:  # fmt: skip
        """Put what ``change`` makes of each piece in its place; returns the old pieces."""
        end, old_parts = address + size, []
        for old in self.overlapping(address, size):
            start, stop = max(old.address, address), min(old.end, end)
            old_parts.append(old.part(start, stop))
            parts = [old.part(old.address, start), change(old_parts[-1]), old.part(stop, old.end)]
            at = bisect_left(self.regions, old.address, key=_address)
            self.regions[at : at + 1] = [p for p in parts if p is not None and p.size]
        return old_parts

    def _check(self, address: int, size: int, *, new: bool) -> None:
        what = f"{whole(address, 'an address'):#x}+{whole(size, 'a size'):#x}"
        if size <= 0:
            raise MapError(f"{what}: the size is not positive", address, size)
        if (address | size) % PAGE_SIZE:
            raise MapError(f"{what} is not in whole pages", address, size)
        if address < 0 or address + size > 1 << 64:
            raise MapError(f"{what} is not in the 64-bit address space", address, size)
        found = self.overlapping(address, size)
        if new and found:
            raise MapError(f"{what} overlaps the region at {found[0].address:#x}", address, size)
        if not new:
            at = address
            for region in found:
                if region.address > at:
                    break
                at = region.end
            if at < address + size:
                raise MapError(f"{what} is not all mapped: nothing at {at:#x}", address, size)

    # The window --------------------------------------------------------------------------------

    def _allocate(self, address: int, size: int) -> int:
        """Room in the window: what was freed, if it fits, else what is new."""
        for number, (offset, room) in enumerate(self._free):
            if room >= size:
                self._free[number : number + 1] = (
                    [(offset + size, room - size)] if room > size else [])
                return offset
        if self._used + size > self.window.size:
            try:
                if self.grow is not None:
                    self.grow(self._used + size)
            except (RamError, OverflowError) as error:
                raise MapError(f"{address:#x}+{size:#x}: {error}", address, size) from None
        if self._used + size > self.window.size:
            raise MapError(f"{address:#x}+{size:#x} is more memory than there is", address, size)
        offset, self._used = self._used, self._used + size
        return offset

    # Access ------------------------------------------------------------------------------------

    def pieces(self, address: int, size: int) -> list[tuple[int, int]]:
        """(window offset, length) of each part of a range; UnmappedError where no RAM is."""
        address, size = whole(address, "an address"), whole(size, "a size")
        found, start = [], address
        end = address + size
        while address < end:
            region = self.find(address)
            if region is None or region.handler is not None:
                raise UnmappedError(f"no memory at {address:#x}", start, size)
            length = min(end, region.end) - address
            found.append((region.offset + address - region.address, length))
            address += length
        return found

    def read(self, address: int, size: int) -> bytes:
        """Bytes of RAM, whatever its permissions."""
        view = self.window.view
        pieces = self.pieces(address, size)
        if len(pieces) == 1:
            at, n = pieces[0]
            return bytes(view[at : at + n])
        return b"".join(view[at : at + n] for at, n in pieces)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into RAM, whatever its permissions; all or nothing."""
        done, view = 0, self.window.view
        pieces = self.pieces(address, len(data))
        for at, n in pieces:
            for listener in self.before_write:
                listener(at, n)
            view[at : at + n] = data[done : done + n]
            done += n
            for listener in self.on_write:
                listener(at, n)


def _address(region: Region) -> int:
    return region.address
