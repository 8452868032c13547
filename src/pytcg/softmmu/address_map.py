"""Physical memory: which addresses are RAM or ROM, and which bytes of the RAM window they show.

Three layers. *Fixed* regions are a machine's RAM; *shadows* lie over them and *fills* show through
where nothing else is (a frame buffer in a PCI window). Shadows and fills change while the guest
runs, each under the key of who put it there. Everything else is MMIO.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytcg.exec.layout import PAGE_SIZE, STORES_DROPPED, STORES_TO_DEVICE
from pytcg.softmmu.perm import RWX
from pytcg.softmmu.ram import RamError

if TYPE_CHECKING:
    from pytcg.softmmu.ram import RamWindow


@dataclass(frozen=True, slots=True)
class Region:
    """``length`` bytes at ``physical``: loads see those at ``offset`` of the RAM window.

    Stores go to ``stores`` in the window (the same as ``offset`` in RAM), or are STORES_DROPPED, or
    are STORES_TO_DEVICE, where the board's MMIO gets them.
    """

    physical: int
    length: int
    offset: int
    stores: int

    @property
    def end(self) -> int:
        """First address behind it."""
        return self.physical + self.length

    @property
    def writable(self) -> bool:
        """Whether a store is seen by the next load."""
        return self.stores == self.offset

    def cut(self, start: int, end: int) -> Region:
        """The part of it between two addresses inside."""
        skip = start - self.physical
        plain = self.stores in (STORES_DROPPED, STORES_TO_DEVICE)
        stores = self.stores if plain else self.stores + skip
        return Region(start, end - start, self.offset + skip, stores)


    def without(self, start: int, end: int) -> list[Region]:
        """Its parts that show nothing of the RAM window from ``start`` to ``end``."""
        first = min(max(start - self.offset, 0), self.length)
        last = min(max(end - self.offset, 0), self.length)
        if first == last:
            return [self]
        parts = [(self.physical, self.physical + first), (self.physical + last, self.end)]
        return [self.cut(low, high) for low, high in parts if low < high]


def ram(physical: int, length: int, offset: int) -> Region:
    """A region of RAM."""
    return Region(physical, length, offset, offset)


def rom(physical: int, length: int, offset: int) -> Region:
    """A region of ROM: stores are dropped."""
    return Region(physical, length, offset, STORES_DROPPED)


class Mapped:
    """Parts of the RAM window as somebody's buffers, who calls `stored` once he filled them.

    ``places`` are offsets and lengths.
    """

    def __init__(self, memory: AddressMap, places: Sequence[tuple[int, int]]) -> None:
        self._memory = memory
        self._places = places
        view = memory.window.view
        self.views = [view[at : at + length] for at, length in places]

    def stored(self) -> None:
        """Others have to know that there are other bytes now."""
        for listener in self._memory.on_write:
            for at, length in self._places:
                listener(at, length)


class AddressMap:
    """Physical memory of one window. `regions` is what counts: ascending, without overlaps."""

    def __init__(self, window: RamWindow):
        self.window = window
        self.regions: list[Region] = []
        self.version = 0  # of the regions
        self.on_write: list[Callable[[int, int], None]] = []
        """Called with (window offset, length) after `write`, in its thread: code may be stale."""
        self.on_change: list[Callable[[], None]] = []
        """Called after the regions changed, in the thread that changed them."""
        self._fixed: list[Region] = []
        self._reserved: list[tuple[int, int]] = []
        self._shadows: dict[object, list[Region]] = {}
        self._fills: dict[object, list[Region]] = {}
        self._hidden: dict[object, tuple[int, int]] = {}
        self._starts: list[int] = []
        self._used = 0

    # Laying out --------------------------------------------------------------------------------

    def add_ram(self, physical: int, length: int, offset: int) -> None:
        """Fixed RAM; RamError if something is there."""
        self._add(ram(physical, length, offset))

    def add_rom(self, physical: int, length: int, offset: int) -> None:
        """Fixed ROM; RamError if something is there."""
        self._add(rom(physical, length, offset))

    def allocate(self, length: int) -> int:
        """The offset of so many unused bytes of the window, in whole pages; RamError if full."""
        offset, self._used = self._used, self._used + -(-length // PAGE_SIZE) * PAGE_SIZE
        if self._used > self.window.size:
            raise RamError(f"the RAM window has no room for {length:#x} bytes more")
        return offset

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes of the window, such as those that were allocated."""
        return self.window.view[offset : offset + length]

    def _add(self, new: Region) -> None:
        self._check(new)
        for old in self._fixed:
            if new.physical < old.end and old.physical < new.end:
                raise RamError(f"region {new.physical:#x} overlaps the one at {old.physical:#x}")
        self._fixed.append(new)
        self._used = max(self._used, new.offset + new.length)
        self._lay_out()

    def reserve(self, physical: int, length: int) -> None:
        """Addresses of a device, which no fill may hide."""
        self._reserved.append((physical, physical + length))
        self._lay_out()

    def shadow(self, key: object, regions: Sequence[Region]) -> None:
        """Let these lie over everything; they replace the key's former ones."""
        self._put(self._shadows, key, regions)

    def fill(self, key: object, regions: Sequence[Region]) -> None:
        """Let these show where neither memory nor a reserved device is; replaces the key's."""
        self._put(self._fills, key, regions)

    def hide(self, key: object, offset: int, length: int) -> None:
        """Let no fill show these bytes of the window: devices answer there, until `unhide`."""
        self._hidden[key] = offset, offset + length
        self._lay_out()

    def unhide(self, key: object) -> None:
        """End what was hidden under this key."""
        del self._hidden[key]
        self._lay_out()

    def _put(self, layer: dict[object, list[Region]], key: object,
             regions: Sequence[Region]) -> None:  # fmt: skip
        for region in regions:
            self._check(region)
        before = layer.pop(key, [])
        if regions:
            layer[key] = list(regions)
        if before != list(regions):
            self._lay_out()

    def _check(self, new: Region) -> None:
        if (new.physical | new.length | new.offset) % PAGE_SIZE or new.length <= 0:
            raise RamError(f"region {new.physical:#x}+{new.length:#x} is not in whole pages")
        if new.offset + new.length > self.window.size:
            raise RamError(f"region {new.physical:#x}+{new.length:#x} is beyond the RAM window")

    def _lay_out(self) -> None:
        shadows = [region for regions in self._shadows.values() for region in reversed(regions)]
        fills = [region for regions in self._fills.values() for region in reversed(regions)]
        for start, end in self._hidden.values():
            fills = [part for region in fills for part in region.without(start, end)]
        laid = Layers()
        laid.add(reversed(shadows))
        laid.add(self._fixed)
        laid.keep_out(self._reserved)
        laid.add(reversed(fills))
        self.regions = laid.regions()
        self._starts = [region.physical for region in self.regions]
        self.version += 1
        for listener in self.on_change:
            listener()

    def ranges(self) -> list[tuple[int, int, int, int, int]]:
        """The regions as rows of `pytcg.exec.layout.RANGE`."""
        return [(r.physical, r.end, r.offset, r.stores, RWX) for r in self.regions]

    # Access ------------------------------------------------------------------------------------

    def find(self, physical: int) -> Region | None:
        """The region that holds a physical address."""
        index = bisect_right(self._starts, physical) - 1
        if index >= 0 and physical < self.regions[index].end:
            return self.regions[index]
        return None

    def find_fixed(self, physical: int) -> Region | None:
        """The fixed region there, whatever shadows it."""
        for region in self._fixed:
            if region.physical <= physical < region.end:
                return region
        return None

    def _pieces(self, physical: int, length: int) -> list[Region]:
        """The parts of a physical range; RamError outside RAM."""
        pieces = []
        end = physical + length
        while physical < end:
            region = self.find(physical)
            if region is None:
                raise RamError(f"no memory at {physical:#x}")
            pieces.append(region.cut(physical, min(end, region.end)))
            physical = region.end
        return pieces

    def read(self, physical: int, length: int) -> bytes:
        """Bytes of RAM or ROM."""
        view = self.window.view
        region = self.find(physical)
        if region is not None and physical + length <= region.end:
            at = region.offset + physical - region.physical
            return bytes(view[at : at + length])
        return b"".join(view[piece.offset : piece.offset + piece.length]
                        for piece in self._pieces(physical, length))  # fmt: skip

    def write(self, physical: int, data: bytes) -> None:
        """Put bytes into RAM or ROM (the host's own doing: a ROM is written too)."""
        done = 0
        for piece in self._pieces(physical, len(data)):
            self._put_bytes(piece.offset, data[done : done + piece.length])
            done += piece.length

    def store(self, physical: int, data: bytes) -> None:
        """Write as a bus master does: a ROM drops it; RamError where a device would get it."""
        region = self.find(physical)
        if region is not None and region.writable and physical + len(data) <= region.end:
            self._put_bytes(region.offset + physical - region.physical, data)
            return
        done = 0
        for piece in self._pieces(physical, len(data)):
            if piece.stores == STORES_TO_DEVICE:
                raise RamError(f"no memory at {piece.physical:#x}")
            if piece.stores != STORES_DROPPED:
                self._put_bytes(piece.stores, data[done : done + piece.length])
            done += piece.length

    def map(self, pieces: Iterable[tuple[int, int]]) -> Mapped | None:
        """Physical ranges, neighbours joined; None if one is not plain RAM in one region."""
        places: list[tuple[int, int]] = []
        start = end = shift = behind = -1
        for address, length in pieces:
            if address < start or address + length > end:  # than the last one's region
                region = self.find(address)
                if region is None or not region.writable or address + length > region.end:
                    return None
                start, end, shift = address, region.end, region.offset - region.physical
            at = address + shift
            if at == behind:
                first, before = places[-1]
                places[-1] = first, before + length
            else:
                places.append((at, length))
            behind = at + length
        return Mapped(self, places)

    def _put_bytes(self, offset: int, data: bytes) -> None:
        self.window.view[offset : offset + len(data)] = data
        for listener in self.on_write:
            listener(offset, len(data))


class Layers:
    """Regions laid one under the other: what is added later shows in the gaps only."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int]] = []
        self._regions: list[Region] = []

    def add(self, regions: Iterable[Region]) -> None:
        """A layer; of regions that overlap in it the first counts."""
        for region in regions:
            for start, end in self._gaps(region.physical, region.end):
                self._regions.append(region.cut(start, end))
            self.keep_out([(region.physical, region.end)])

    def keep_out(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let nothing more be added between these addresses."""
        self._taken = sorted([*self._taken, *ranges])

    def _gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        gaps = []
        for taken, until in self._taken:
            if start < taken < end:
                gaps.append((start, taken))
            if taken < end:
                start = max(start, until)
        if start < end:
            gaps.append((start, end))
        return gaps

    def regions(self) -> list[Region]:
        """All that shows, by address, neighbours not joined."""
        return sorted(self._regions, key=lambda region: region.physical)
