"""qcow2's persistent dirty bitmaps: kept, kept up to date while writing, and managed.

A bitmap that tracks writes is marked IN_USE on disk before the first write and stored on close;
one that is IN_USE when found was not stored and can't be trusted.
"""

from __future__ import annotations

import errno
import struct
from array import array

from pytcg.block.device import BlockError, ImageFormatError
from pytcg.block.dirty import runs_over, set_bits
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import from_disk, to_disk
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device

MAX_BITMAP_BYTES = 512 << 20
_EXTENSION = struct.Struct(">IIQQ")


class Bitmap:
    """One bitmap: its directory entry and, once loaded, its bits (least significant first)."""

    def __init__(self, entry: fmt.BitmapEntry) -> None:
        self.entry = entry
        self.bits: bytearray | None = None
        self.changed = False

    @property
    def in_use(self) -> bool:
        """Not stored by its last user: inconsistent."""
        return bool(self.entry.flags & fmt.BITMAP_IN_USE)

    @property
    def enabled(self) -> bool:
        """Tracks writes."""
        return bool(self.entry.flags & fmt.BITMAP_AUTO)

    def set_flag(self, flag: int, *, on: bool) -> None:
        """Change one directory flag in memory."""
        flags = self.entry.flags | flag if on else self.entry.flags & ~flag
        self.entry = self.entry._replace(flags=flags)


class Bitmaps:
    """The bitmap directory of an image."""

    def __init__(self, device: Qcow2Device) -> None:
        self._device = device
        self._ours: list[Bitmap] = []  # marked in use by us
        self._started = False
        self._directory = (0, 0)  # host offset, bytes
        self.bitmaps: list[Bitmap] = []
        if device.has_bitmaps:
            self._load_directory()

    def _load_directory(self) -> None:
        extension = self._device.header.extension(fmt.EXT_BITMAPS)
        if extension is None or len(extension) != _EXTENSION.size:
            raise ImageFormatError("bitmaps_ext: Invalid extension length")
        count, _, size, offset = _EXTENSION.unpack(extension)
        if not 0 < count <= fmt.MAX_BITMAPS:
            raise ImageFormatError("bitmaps_ext: found bitmaps extension with zero bitmaps"
                                   if not count else "bitmaps_ext: too many bitmaps")
        if size > fmt.MAX_BITMAP_DIRECTORY_BYTES or offset + size > self._device.file.size + 512:
            raise ImageFormatError("bitmaps_ext: invalid bitmap directory size")
        self._directory = (offset, size)
        directory = self._device.file.pread(offset, size)
        self.bitmaps = [Bitmap(entry) for entry in fmt.parse_bitmap_directory(directory, count)]

    @property
    def directory(self) -> tuple[int, int]:
        """(host offset, bytes) of the directory; zeroes if there is none."""
        return self._directory

    def names(self) -> list[str]:
        """Names of all bitmaps."""
        return [bitmap.entry.name for bitmap in self.bitmaps]

    def find(self, name: str) -> Bitmap:
        """The bitmap of a name; BlockError if there is none."""
        for bitmap in self.bitmaps:
            if bitmap.entry.name == name:
                return bitmap
        raise BlockError(f"Dirty bitmap '{name}' not found", errno.ENOENT)

    # ---- bits ----

    def _bytes_needed(self, bitmap: Bitmap) -> int:
        return _bytes_for(self._device.header.size, bitmap.entry.granularity_bits)

    def load(self, bitmap: Bitmap) -> bytearray:
        """The bits, read from the image on first use."""
        if bitmap.bits is None:
            needed = self._bytes_needed(bitmap)
            cluster = self._device.cluster_size
            if needed > MAX_BITMAP_BYTES or bitmap.entry.table_size != -(-needed // cluster):
                raise ImageFormatError(f"Bitmap '{bitmap.entry.name}' doesn't satisfy the "
                                       "constraints")
            bits = bytearray(needed)
            for index, word in enumerate(self.table(bitmap)):
                part = memoryview(bits)[index * cluster : (index + 1) * cluster]
                if word & fmt.OFFSET_MASK:
                    self._device.file.read_into(word & fmt.OFFSET_MASK, part)
                elif word & 1:
                    part[:] = b"\xff" * len(part)
            bitmap.bits = bits
        return bitmap.bits

    def table(self, bitmap: Bitmap) -> array[int]:
        """The bitmap's table as it is on disk."""
        entry = bitmap.entry
        if entry.table_size == 0:
            return array("Q")
        if entry.table_size * 8 > fmt.MAX_BITMAP_DIRECTORY_BYTES:
            raise ImageFormatError(f"Bitmap '{entry.name}': table too large")
        return from_disk(self._device.file.pread(entry.table_offset, entry.table_size * 8))

    def status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        """(length, dirty) runs over a guest range."""
        bitmap = self.find(name)
        if self.is_inconsistent(bitmap):
            raise BlockError(f"Bitmap '{name}' is inconsistent and cannot be used", errno.EINVAL)
        with self._device.lock:
            bits = self.load(bitmap)
        return runs_over(bits, 1 << bitmap.entry.granularity_bits, offset, length)

    # ---- tracking ----

    def mark_dirty(self, offset: int, length: int) -> None:
        """A write happens: note it in every bitmap that tracks."""
        if length == 0:
            return
        with self._device.lock:
            if not self._started:
                self._start_tracking()
            for bitmap in self._ours:
                if bitmap.enabled:
                    shift = bitmap.entry.granularity_bits
                    assert bitmap.bits is not None
                    set_bits(bitmap.bits, offset >> shift, ((offset + length - 1) >> shift) + 1)
                    bitmap.changed = True

    def _start_tracking(self) -> None:
        self._use([bitmap for bitmap in self.bitmaps if bitmap.enabled and not bitmap.in_use])
        self._started = True

    def _use(self, wanted: list[Bitmap]) -> None:
        for bitmap in wanted:
            self.load(bitmap)
            bitmap.set_flag(fmt.BITMAP_IN_USE, on=True)
        if wanted:
            self._write_directory_in_place()
            self._device.file.flush()
        self._ours += wanted

    @property
    def read_only(self) -> bool:
        """Whether the image is."""
        return self._device.read_only

    def is_inconsistent(self, bitmap: Bitmap) -> bool:
        """Not stored by its last user, which wasn't this."""
        return bitmap.in_use and bitmap not in self._ours

    def use(self, bitmap: Bitmap) -> None:
        """It is about to be changed otherwise than by `mark_dirty`, and stored in the end."""
        with self._device.lock:
            if bitmap not in self._ours:
                self._device.writer  # noqa: B018 - closing the image stores, if there is a writer
                self._use([bitmap])
            bitmap.changed = True

    def set_tracking(self, bitmap: Bitmap, *, on: bool) -> None:
        """Let one that is used note writes, or not."""
        with self._device.lock:
            bitmap.set_flag(fmt.BITMAP_AUTO, on=on)

    def _write_directory_in_place(self) -> None:
        directory = fmt.pack_bitmap_directory([bitmap.entry for bitmap in self.bitmaps])
        self._device.file.pwrite(self._directory[0], directory)

    def store(self) -> None:
        """Write changed bitmaps and the directory; IN_USE goes away."""
        device = self._device
        with device.lock:
            for bitmap in self._ours:
                bitmap.set_flag(fmt.BITMAP_IN_USE, on=False)
            stored = [bitmap for bitmap in self.bitmaps if bitmap.changed]
            old = [(bitmap.entry, self.table(bitmap)) for bitmap in stored]
            for bitmap in stored:
                self._store_bits(bitmap)
            if self._ours or stored:
                device.write_metadata()
                device.refcounts.write_back()
                device.file.flush()
                self._write_directory_in_place()
                device.file.flush()
            for entry, table in old:
                self._free_table(entry, table)
            self._ours, self._started = [], False

    def _store_bits(self, bitmap: Bitmap) -> None:
        device, cluster = self._device, self._device.cluster_size
        assert bitmap.bits is not None
        table = array("Q")
        for start in range(0, len(bitmap.bits), cluster):
            part = bytes(bitmap.bits[start : start + cluster])
            if not any(part):
                table.append(0)
                continue
            host = device.writer.allocate_metadata(1)
            device.file.pwrite(host, part + bytes(cluster - len(part)))
            table.append(host)
        offset = 0
        if table:
            clusters = -(-len(table) * 8 // cluster)
            offset = device.writer.allocate_metadata(clusters)
            device.file.pwrite(offset, to_disk(table) + bytes(clusters * cluster
                                                              - len(table) * 8))
        bitmap.entry = bitmap.entry._replace(table_offset=offset, table_size=len(table))
        bitmap.changed = False

    def _free_table(self, entry: fmt.BitmapEntry, table: array[int]) -> None:
        writer, cluster = self._device.writer, self._device.cluster_size
        for word in table:
            if word & fmt.OFFSET_MASK:
                writer.free_metadata(word & fmt.OFFSET_MASK, 1)
        if entry.table_size:
            writer.free_metadata(entry.table_offset, -(-entry.table_size * 8 // cluster))

    # ---- managing ----

    def add(self, name: str, granularity: int) -> Bitmap:
        """Make an empty bitmap that tracks."""
        if self._device.header.version < 3:
            raise BlockError("Cannot store dirty bitmaps in qcow2 v2 files", errno.EINVAL)
        if any(bitmap.entry.name == name for bitmap in self.bitmaps):
            raise BlockError(f"Bitmap already exists: {name}", errno.EEXIST)
        if granularity & (granularity - 1) or not 512 <= granularity <= 1 << 31:
            raise BlockError("Granularity must be power of 2 and at least 512", errno.EINVAL)
        if not name or len(name.encode()) > 1023:
            raise BlockError("Bitmap name too long" if name else "Bitmap name cannot be empty",
                             errno.EINVAL)
        entry = fmt.BitmapEntry(0, 0, fmt.BITMAP_AUTO, granularity.bit_length() - 1, name)
        made = Bitmap(entry)
        made.bits = bytearray(self._bytes_needed(made))
        self._store_bits(made)
        self.bitmaps.append(made)
        self._replace_directory()
        return made

    def remove(self, name: str) -> None:
        """Delete a bitmap."""
        bitmap = self.find(name)
        table = self.table(bitmap)
        self.bitmaps.remove(bitmap)
        self._ours = [each for each in self._ours if each is not bitmap]
        self._replace_directory()
        self._free_table(bitmap.entry, table)

    def enable(self, name: str, *, on: bool) -> None:
        """Let a bitmap track writes, or stop it."""
        bitmap = self._usable(name)
        bitmap.set_flag(fmt.BITMAP_AUTO, on=on)
        self._write_directory_in_place()

    def clear(self, name: str) -> None:
        """Make a bitmap all clean."""
        bitmap = self._usable(name)
        bits = self.load(bitmap)
        bits[:] = bytes(len(bits))
        bitmap.changed = True
        self.store()

    def merge(self, name: str, bits: bytearray, granularity_bits: int) -> None:
        """OR another bitmap's bits in."""
        target = self._usable(name)
        mine, shift = self.load(target), target.entry.granularity_bits
        for chunk in range(len(bits) * 8):
            if bits[chunk >> 3] >> (chunk & 7) & 1:
                start = chunk << granularity_bits
                stop = min((chunk + 1) << granularity_bits, self._device.header.size)
                if start < stop:
                    set_bits(mine, start >> shift, ((stop - 1) >> shift) + 1)
        target.changed = True
        self.store()

    def _usable(self, name: str) -> Bitmap:
        bitmap = self.find(name)
        if self.is_inconsistent(bitmap):
            raise BlockError(f"Bitmap '{name}' is inconsistent and cannot be used", errno.EINVAL)
        return bitmap

    def resize(self, size: int) -> None:
        """The disk will have ``size`` bytes: lengthen or cut all bitmaps (before the header)."""
        for bitmap in self.bitmaps:
            bits = self.load(bitmap)
            needed = _bytes_for(size, bitmap.entry.granularity_bits)
            if needed < len(bits):
                del bits[needed:]
            else:
                bits.extend(bytes(needed - len(bits)))
            bitmap.changed = True

    def _replace_directory(self) -> None:
        """Write the directory anew and point the header at it."""
        device, cluster = self._device, self._device.cluster_size
        old_offset, old_size = self._directory
        directory = fmt.pack_bitmap_directory([bitmap.entry for bitmap in self.bitmaps])
        autoclear = device.header.autoclear
        if directory:
            clusters = -(-len(directory) // cluster)
            offset = device.writer.allocate_metadata(clusters)
            device.file.pwrite(offset, directory + bytes(clusters * cluster - len(directory)))
            extension = _EXTENSION.pack(len(self.bitmaps), 0, len(directory), offset)
            header = device.header.with_extension(fmt.EXT_BITMAPS, extension)
            autoclear |= fmt.Autoclear.BITMAPS
        else:
            offset = 0
            header = device.header.with_extension(fmt.EXT_BITMAPS, None)
            autoclear &= ~fmt.Autoclear.BITMAPS
        device.write_metadata()
        device.refcounts.write_back()
        device.file.flush()
        device.update_header(extensions=header.extensions, autoclear=autoclear)
        self._directory = (offset, len(directory))
        if old_size:
            device.writer.free_metadata(old_offset, -(-old_size // cluster))


def _bytes_for(size: int, granularity_bits: int) -> int:
    return -(-size // (8 << granularity_bits))
