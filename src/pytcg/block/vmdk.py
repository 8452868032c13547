"""VMDK, VMware's format: a text descriptor and extents, flat or sparse, perhaps compressed.

Reference: VMware's "Virtual Disk Format 5.0". Integers are little-endian.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from array import array

from pytcg.typed import TYPE_CHECKING, Any, NamedTuple

from .device import BlockDevice, BlockError, Extent, ImageFormatError, NotSupported
from .mapped import ABSENT, SECTOR, ZERO, Block, MappedImage, TableLru, read_table
from .options import resolve_backing
from .posix import PosixFile
from .raw import RawDevice

if TYPE_CHECKING:
    from .open import OpenFlags

MAGIC = b"KDMV"
FLAG_NEWLINE, FLAG_REDUNDANT, FLAG_ZERO_GRAIN = 1, 2, 4
FLAG_COMPRESSED, FLAG_MARKERS = 1 << 16, 1 << 17
AT_END = (1 << 64) - 1  # the grain directory's place when a footer knows it
MAX_DESCRIPTOR = 1 << 20
MAX_GRAIN = 16 << 20
MAX_DISK = 64 << 40
GRAIN_SECTORS = 128
GT_ENTRIES = 512
NO_PARENT = 0xFFFFFFFF
_HEADER = struct.Struct("<4sIIQQQQIQQQBccccH")
_EXTENT = re.compile(r'^(RW|RDONLY|NOACCESS) ([0-9]+) (\w+)(?: "([^"\n]*)")?(?: ([0-9]+))?\s*$')


class SparseHeader(NamedTuple):
    """The header of a sparse extent."""

    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor_at: int
    descriptor_sectors: int
    gt_entries: int
    redundant_at: int
    directory_at: int
    overhead: int


def parse_sparse_header(data: bytes) -> SparseHeader:
    """Read a header (or footer) and check what it claims."""
    header = SparseHeader(*_HEADER.unpack_from(data)[:11])
    if header.magic != MAGIC:
        raise ImageFormatError("Image not in VMDK format")
    if header.version > 3:
        raise NotSupported(f"Unsupported VMDK version {header.version}")
    if not 1 <= header.grain <= MAX_GRAIN // SECTOR or header.grain & (header.grain - 1):
        raise ImageFormatError("Invalid granularity, image may be corrupt")
    if not 1 <= header.gt_entries <= 512:
        raise ImageFormatError("L2 table size too big")
    return header


class SparseExtent(MappedImage):
    """A sparse extent: a grain directory of grain tables."""

    format_name = "vmdk"
    writable_format = True

    def __init__(self, file: BlockDevice) -> None:
        header = parse_sparse_header(file.pread(0, SECTOR))
        if header.directory_at == AT_END:
            # The footer is followed by the end-of-stream marker.
            header = parse_sparse_header(file.pread(max(0, file.size - 2 * SECTOR), SECTOR))
        self.header = header
        self._compressed = bool(header.flags & FLAG_COMPRESSED)
        if self._compressed and not file.read_only:
            raise BlockError("Compressed VMDK images can only be read", errno.EROFS)
        super().__init__(file, header.capacity * SECTOR, header.grain * SECTOR)
        span = header.gt_entries * header.grain
        entries = -(-header.capacity // span)
        self._directory = read_table(file, header.directory_at * SECTOR, entries, "I",
                                     what="L1 table")
        self._tables = TableLru(self._load_table)
        self._last: tuple[int, bytes] | None = None

    def _load_table(self, sector: int) -> array[int]:
        return read_table(self.file, sector * SECTOR, self.header.gt_entries, "I",
                          what="L2 table")

    def block(self, index: int) -> Block:
        first, second = divmod(index, self.header.gt_entries)
        table = self._directory[first]
        if not table:
            return ABSENT
        sector = self._tables.get(table)[second]
        if sector == 0:
            return ABSENT
        if sector == 1 and self.header.flags & FLAG_ZERO_GRAIN:
            return ZERO
        if self._compressed:
            return Block(True, False, 0, lambda: self._inflate(sector))
        return Block(True, False, sector * SECTOR)

    def _inflate(self, sector: int) -> bytes:
        last = self._last
        if last is not None and last[0] == sector:
            return last[1]
        at = sector * SECTOR
        length = int.from_bytes(self.file.pread(at + 8, 4), "little")
        if length > 2 * self.block_size + SECTOR:
            raise BlockError("Compressed grain is too long", errno.EINVAL)
        try:
            plain = zlib.decompressobj().decompress(self.file.pread(at + 12, length),
                                                    self.block_size)
        except zlib.error as error:
            raise BlockError(f"Could not decompress a grain: {error}") from None
        plain = plain.ljust(self.block_size, b"\0")
        self._last = (sector, plain)
        return plain

    def allocate(self, index: int, content: bytes) -> None:
        first, second = divmod(index, self.header.gt_entries)
        at = -(-self.file.size // SECTOR)
        self.file.pwrite(at * SECTOR, content)
        sector = self._directory[first]
        if not sector:
            raise ImageFormatError("VMDK image lacks a grain table")
        self._tables.get(sector)[second] = at
        self.file.pwrite(sector * SECTOR + 4 * second, at.to_bytes(4, "little"))
        if self.header.flags & FLAG_REDUNDANT:
            copy_at = self.header.redundant_at * SECTOR + 4 * first
            copy = int.from_bytes(self.file.pread(copy_at, 4), "little")
            self.file.pwrite(copy * SECTOR + 4 * second, at.to_bytes(4, "little"))


class Descriptor(NamedTuple):
    """The text that says what the disk is made of."""

    values: dict[str, str]
    extents: list[tuple[int, str, str, int]]  # sectors, type, file name, offset in sectors

    @property
    def create_type(self) -> str:
        """monolithicSparse and so on."""
        return self.values.get("createType", "")

    def cid(self, key: str) -> int:
        """CID or parentCID."""
        try:
            return int(self.values.get(key, "ffffffff"), 16)
        except ValueError:
            raise ImageFormatError(f"Invalid {key} in VMDK descriptor") from None


def parse_descriptor(text: str) -> Descriptor:
    """Read a descriptor."""
    values: dict[str, str] = {}
    extents = []
    for line in text.split("\0")[0].splitlines():
        found = _EXTENT.match(line.strip())
        if found:
            _, sectors, kind, name, offset = found.groups()
            extents.append((int(sectors), kind, name or "", int(offset or 0)))
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values[key.strip()] = value.strip().strip('"')
    return Descriptor(values, extents)


class VmdkDevice(BlockDevice):
    """A VMDK image of one or several extents."""

    format_name = "vmdk"
    supports_backing = True
    has_zero_init = True

    def __init__(self, file: BlockDevice) -> None:
        self.file: BlockDevice = file
        self.filename = file.filename
        self.read_only = file.read_only
        self._opened: list[BlockDevice] = []
        self.parts: list[BlockDevice] = []
        try:
            self._open_parts(file)
        except BaseException:
            self._close_extents()
            raise
        self._starts = [sum(part.size for part in self.parts[:index])
                        for index in range(len(self.parts))]
        self._size = sum(part.size for part in self.parts)
        self.cluster_size = max(part.cluster_size for part in self.parts)
        parent = self.descriptor.cid("parentCID")
        if parent != NO_PARENT:
            if len(self.parts) > 1:
                raise NotSupported("VMDK images of several extents can't have a backing file")
            self.backing_file = self.descriptor.values.get("parentFileNameHint")
            self.backing_format = "vmdk"

    def _open_parts(self, file: BlockDevice) -> None:
        if file.pread(0, 4) == MAGIC:
            extent = SparseExtent(file)
            header = extent.header
            text = b""
            if header.descriptor_at:
                length = min(header.descriptor_sectors * SECTOR, MAX_DESCRIPTOR)
                text = file.pread(header.descriptor_at * SECTOR, length)
            self.descriptor = parse_descriptor(text.decode(errors="replace"))
            self.parts = [extent]
            return
        if file.size > MAX_DESCRIPTOR:
            raise ImageFormatError("VMDK descriptor is too large")
        text = file.pread(0, file.size)
        if b"# Disk DescriptorFile" not in text:
            raise ImageFormatError("Image not in VMDK format")
        self.descriptor = parse_descriptor(text.decode(errors="replace"))
        for sectors, kind, name, offset in self.descriptor.extents:
            self.parts.append(self._open_extent(sectors, kind, name, offset))
        if not self.parts:
            raise ImageFormatError("VMDK descriptor names no extents")

    def _open_extent(self, sectors: int, kind: str, name: str, offset: int) -> BlockDevice:
        if kind not in ("FLAT", "SPARSE"):
            raise NotSupported(f"Unsupported extent type '{kind}'")
        path = resolve_backing(self.filename, name)
        opened = PosixFile(path, read_only=self.read_only)
        self._opened.append(opened)
        if kind == "SPARSE":
            return SparseExtent(opened)
        return RawDevice(opened, offset=offset * SECTOR, size=sectors * SECTOR)

    @classmethod
    def open(cls, file: BlockDevice, flags: OpenFlags) -> VmdkDevice:
        """Open an image."""
        return cls(file)

    def format_specific(self) -> dict[str, Any]:
        """What info shows."""
        extents = []
        for index, part in enumerate(self.parts):
            found: dict[str, Any] = {"virtual-size": part.size, "filename": part.filename}
            if part.cluster_size:
                found["cluster-size"] = part.cluster_size
            kinds = self.descriptor.extents
            flat = isinstance(part, RawDevice)
            shown = kinds[index][1] if part.filename != self.filename and kinds else ""
            extents.append(found | {"format": "FLAT" if flat else shown})
        return {"cid": self.descriptor.cid("CID"), "parent-cid": self.descriptor.cid("parentCID"),
                "create-type": self.descriptor.create_type, "extents": extents}

    @property
    def size(self) -> int:
        return self._size

    def _at(self, offset: int) -> tuple[BlockDevice, int]:
        index = next(index for index in range(len(self.parts) - 1, -1, -1)
                     if self._starts[index] <= offset)
        part = self.parts[index]
        part.backing = self.backing  # only a single extent has one: offsets agree
        return part, offset - self._starts[index]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        while buffer:
            part, inside = self._at(offset)
            step = min(len(buffer), part.size - inside)
            part.read_into(inside, buffer[:step])
            offset, buffer = offset + step, buffer[step:]

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        rest = memoryview(data).cast("B")
        while rest:
            part, inside = self._at(offset)
            step = min(len(rest), part.size - inside)
            part.pwrite(inside, rest[:step])
            offset, rest = offset + step, rest[step:]
        if fua:
            self.flush()

    def layer_status(self, offset: int, length: int) -> Extent:
        part, inside = self._at(offset)
        return part.layer_status(inside, min(length, part.size - inside))

    def flush(self) -> None:
        for part in self.parts:
            part.flush()

    def _close_extents(self) -> None:
        for opened in self._opened:
            opened.close()

    def close(self) -> None:
        self._close_extents()
        super().close()

    @staticmethod
    def create_image(path: str, size: int, values: dict[str, Any]) -> None:
        """Make an image."""
        if size > MAX_DISK:
            raise BlockError("VMDK disks can have at most 64 TiB", errno.EFBIG)
        kind = values.get("subformat", "monolithicSparse")
        if kind == "monolithicFlat":
            base = path.removesuffix(".vmdk")
            flat = base + "-flat.vmdk"
            PosixFile.create(flat, size).close()
            extent = f'RW {size // SECTOR} FLAT "{os.path.basename(flat)}" 0'
            with PosixFile.create(path) as file:
                file.pwrite(0, _descriptor_text(kind, extent, size, values).encode())
            return
        if kind != "monolithicSparse":
            raise BlockError(f"Making VMDK images of subformat '{kind}' is not supported",
                             errno.ENOTSUP)
        extent = f'RW {size // SECTOR} SPARSE "{os.path.basename(path)}"'
        with PosixFile.create(path) as file:
            _write_sparse(file, size, _descriptor_text(kind, extent, size, values).encode())


def _descriptor_text(kind: str, extent: str, size: int, values: dict[str, Any]) -> str:
    adapter = values.get("adapter_type", "ide")
    if adapter not in ("ide", "buslogic", "lsilogic", "legacyESX"):
        raise BlockError(f"Unknown adapter type: {adapter}", errno.EINVAL)
    heads = 16 if adapter == "ide" else 255
    cid = int.from_bytes(os.urandom(4), "little")
    return (f"# Disk DescriptorFile\nversion=1\nCID={cid:x}\nparentCID=ffffffff\n"
            f'createType="{kind}"\n\n# Extent description\n{extent}\n\n# The Disk Data Base\n'
            '#DDB\n\nddb.virtualHWVersion = "4"\n'
            f'ddb.geometry.cylinders = "{size // (63 * heads * SECTOR)}"\n'
            f'ddb.geometry.heads = "{heads}"\nddb.geometry.sectors = "63"\n'
            f'ddb.adapterType = "{adapter}"\nddb.toolsVersion = "2147483647"\n')


def _write_sparse(file: PosixFile, size: int, text: bytes) -> None:
    """Header, descriptor, and two sets of grain directory and (empty) grain tables."""
    capacity = size // SECTOR
    tables = -(-capacity // (GT_ENTRIES * GRAIN_SECTORS))
    table_sectors = GT_ENTRIES * 4 // SECTOR
    directory_sectors = -(-tables * 4 // SECTOR)
    descriptor_sectors = 20
    redundant_at = 1 + descriptor_sectors
    directory_at = redundant_at + directory_sectors + tables * table_sectors
    overhead = directory_at + directory_sectors + tables * table_sectors
    overhead = -(-overhead // GRAIN_SECTORS) * GRAIN_SECTORS
    header = _HEADER.pack(MAGIC, 1, FLAG_NEWLINE | FLAG_REDUNDANT, capacity, GRAIN_SECTORS, 1,
                          descriptor_sectors, GT_ENTRIES, redundant_at, directory_at, overhead, 0,
                          b"\n", b" ", b"\r", b"\n", 0)
    file.pwrite(0, header.ljust(SECTOR, b"\0") + text)
    for at in (redundant_at, directory_at):
        first = at + directory_sectors
        directory = array("I", [first + index * table_sectors for index in range(tables)])
        file.pwrite(at * SECTOR, struct.pack(f"<{tables}I", *directory))
    file.truncate(overhead * SECTOR)
