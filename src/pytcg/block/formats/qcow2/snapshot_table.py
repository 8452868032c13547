"""qcow2's table of internal snapshots: its entries, reading and packing it, and what can be saved
of one that is too long."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.typed import NamedTuple

MAX_EXTRA = 1024
AS_IT_IS = "surrogateescape"  # names are bytes, and stay those they were


class SnapshotEntry(NamedTuple):
    """One entry of the snapshot table."""

    l1_table_offset: int
    l1_size: int
    id: str
    name: str
    date_sec: int
    date_nsec: int
    vm_clock_nsec: int
    vm_state_size: int
    disk_size: int
    icount: int = -1
    extra: bytes = b""  # extra data past the fields we know, kept
    extra_size: int = 24  # of all extra data, as the disk has it


_SNAPSHOT = struct.Struct(">QIHHIIQII")


class SnapshotTableError(ImageFormatError):
    """A table that is too long, which ``check -r all`` can mend."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}\nYou can force-remove {hint} with qemu-img check -r all")
        self.errno = errno.EFBIG


class TableRepair:
    """What was left out while reading a table that is too long."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.entries = 0  # dropped from the end
        self.trimmed = 0  # entries whose extra data was cut


def read_snapshots(file: BlockDevice, header: fmt.Header, repair: TableRepair | None = None
                   ) -> list[SnapshotEntry]:
    """The table's entries; SnapshotTableError if it is too long and there is no ``repair``."""
    found: list[SnapshotEntry] = []
    position = kept = 0
    for index in range(header.nb_snapshots):
        position, kept = -(-position // 8) * 8, -(-kept // 8) * 8
        entry, size = _read_entry(file, header, header.snapshots_offset + position)
        if entry.extra_size > MAX_EXTRA:
            _too_much_extra(index, entry.extra_size, repair)
        position += size
        kept += size - max(0, entry.extra_size - MAX_EXTRA)
        if kept > fmt.MAX_SNAPSHOT_TABLE_BYTES or position >> 31:
            _too_many(header.nb_snapshots - index, repair)
            break
        found.append(entry)
    return found


def _read_entry(file: BlockDevice, header: fmt.Header, offset: int) -> tuple[SnapshotEntry, int]:
    """An entry and its length on the disk."""
    (l1_offset, l1_size, id_length, name_length, seconds, nanoseconds, clock, vm_state,
     extra_length) = _SNAPSHOT.unpack(_read(file, offset, _SNAPSHOT.size))
    if offset >= file.size:
        raise ImageFormatError("Snapshot table is truncated")
    extra = _read(file, offset + _SNAPSHOT.size, min(extra_length, MAX_EXTRA))
    size = _SNAPSHOT.size + extra_length
    names = _read(file, offset + size, id_length + name_length)
    if len(extra) >= 8:
        vm_state = int.from_bytes(extra[:8], "big")
    disk_size = int.from_bytes(extra[8:16], "big") if len(extra) >= 16 else header.size
    icount = int.from_bytes(extra[16:24], "big", signed=True) if len(extra) >= 24 else -1
    ident, name = names[:id_length], names[id_length:]
    return SnapshotEntry(
        l1_offset, l1_size, ident.decode(errors=AS_IT_IS), name.decode(errors=AS_IT_IS),
        seconds, nanoseconds, clock, vm_state, disk_size, icount, extra[24:], extra_length,
    ), size + len(names)


def _read(file: BlockDevice, offset: int, length: int) -> bytes:
    """Bytes of the file, which holds zeroes behind its end."""
    there = max(0, min(length, file.size - offset))
    return (file.pread(offset, there) if there else b"") + bytes(length - there)


def _too_much_extra(index: int, size: int, repair: TableRepair | None) -> None:
    if repair is None:
        raise SnapshotTableError(f"Too much extra metadata in snapshot table entry {index}",
                                 "this extra metadata")
    repair.report(f"Discarding too much extra metadata in snapshot table entry {index} "
                  f"({size} > {MAX_EXTRA})")
    repair.trimmed += 1


def _too_many(count: int, repair: TableRepair | None) -> None:
    if repair is None:
        raise SnapshotTableError("Snapshot table is too big",
                                 f"all {count} overhanging snapshots")
    repair.report(f"Discarding {count} overhanging snapshots (snapshot table is too big)")
    repair.entries += count


def reread(file: BlockDevice, header: fmt.Header, repair: TableRepair | None
           ) -> list[SnapshotEntry]:
    """The entries for a check, of a table that was not validated when the image was opened."""
    over = header.nb_snapshots - fmt.MAX_SNAPSHOTS
    if over > 0:
        if repair is None:
            raise SnapshotTableError("snapshot table too large",
                                     f"all {over} overhanging snapshots")
        repair.report(f"Discarding {over} overhanging snapshots")
        repair.entries += over
        header = header._replace(nb_snapshots=fmt.MAX_SNAPSHOTS)
    if header.nb_snapshots and header.snapshots_offset & ((1 << header.cluster_bits) - 1):
        raise BlockError("snapshot table offset invalid", errno.EINVAL)
    try:
        return read_snapshots(file, header, repair)
    except BlockError as error:
        raise BlockError(f"failed to read the snapshot table: {error}", error.errno) from None


def snapshots_length(entries: list[SnapshotEntry]) -> int:
    """How long the snapshot table is on the disk; pack_snapshots may make it longer."""
    length = 0
    for entry in entries:
        length = -(-length // 8) * 8 + _SNAPSHOT.size + entry.extra_size
        length += len((entry.id + entry.name).encode(errors=AS_IT_IS))
    return length


def pack_snapshots(entries: list[SnapshotEntry]) -> bytes:
    """The snapshot table's bytes."""
    table = bytearray()
    for entry in entries:
        table += bytes(-len(table) % 8)
        extra = struct.pack(">QQq", entry.vm_state_size, entry.disk_size, entry.icount)
        extra += entry.extra
        ident = entry.id.encode(errors=AS_IT_IS)
        name = entry.name.encode(errors=AS_IT_IS)
        small_state = entry.vm_state_size if entry.vm_state_size <= 0xFFFF_FFFF else 0
        table += _SNAPSHOT.pack(entry.l1_table_offset, entry.l1_size, len(ident), len(name),
                                entry.date_sec, entry.date_nsec, entry.vm_clock_nsec,
                                small_state, len(extra))
        table += extra + ident + name
    return bytes(table)
