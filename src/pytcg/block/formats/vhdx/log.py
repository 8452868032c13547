"""VHDX's log: metadata is written here first, so that an interrupted change can be finished.

An entry is a header and descriptors, then a 4 KiB sector of data for each that isn't zeroes.
"""

from __future__ import annotations

import errno
import struct

from pytcg.block.device import BlockDevice, BlockError, ImageFormatError
from pytcg.block.formats.vhdx.format import (
    MIB,
    NO_LOG,
    Header,
    is_sealed,
    new_guid,
    sealed,
    write_header,
)
from pytcg.typed import NamedTuple

SECTOR = 4096
MAX_REPLAYED_LOG = 32 << 20
_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_DESCRIPTOR = struct.Struct("<4s4s8sQQ")


class Log:
    """A session's use of the log: one entry at a time, at its beginning."""

    def __init__(self, file: BlockDevice, header: Header) -> None:
        self._file = file
        self._sequence = 0
        # A new log GUID also makes whatever lies in the log invalid.
        self._header = write_header(file, header._replace(
            file_guid=new_guid(), data_guid=new_guid(), log_guid=new_guid()))

    def update(self, offset: int, data: bytes) -> None:
        """Change metadata inside one sector; what was written before is on disk by then."""
        file = self._file
        file.flush()  # the data the change points to, and the previous change
        low = offset & -SECTOR
        sector = bytearray(file.pread(low, SECTOR))
        sector[offset - low : offset - low + len(data)] = data
        self._sequence += 1
        file.pwrite(self._header.log_offset, self._entry(low, bytes(sector)))
        file.flush()
        file.pwrite(offset, data)

    def _entry(self, offset: int, sector: bytes) -> bytes:
        size, sequence = self._file.size, self._sequence
        head = _ENTRY.pack(b"loge", 0, 2 * SECTOR, 0, sequence, 1, 0, self._header.log_guid,
                           size, size)
        head += _DESCRIPTOR.pack(b"desc", sector[-4:], sector[:8], offset, sequence)
        high, low = sequence >> 32, sequence & 0xFFFFFFFF
        tail = b"data" + struct.pack("<I", high) + sector[8:-4] + struct.pack("<I", low)
        return sealed(head.ljust(SECTOR, b"\0") + tail)

    def close(self) -> None:
        """Everything is in place: say that the log is empty."""
        self._file.flush()
        self._header = write_header(self._file, self._header._replace(log_guid=NO_LOG))


class _Entry(NamedTuple):
    tail: int
    sequence: int
    data: bytes
    descriptors: int
    flushed_size: int
    last_size: int


def replay(file: BlockDevice, header: Header) -> bool:
    """Finish what the log holds; whether there was anything to do."""
    chain = _active_sequence(_read_entries(file, header), header.log_length)
    if not chain:
        return False
    if file.read_only:
        raise BlockError(f"VHDX image file '{file.filename}' opened read-only, but contains a log "
                         f"that needs to be replayed\nTo replay the log, run:\nqemu-img check -r "
                         f"all '{file.filename}'", errno.EPERM)
    if chain[-1].flushed_size > file.size:
        raise ImageFormatError("The VHDX image is shorter than its log says")
    for entry in chain:
        _apply(file, entry)
    end = -(-chain[-1].last_size // MIB) * MIB
    if end > file.size:
        file.truncate(end)
    file.flush()
    write_header(file, header._replace(log_guid=NO_LOG))
    return True


def _read_entries(file: BlockDevice, header: Header) -> dict[int, _Entry]:
    """The valid entries by their place in the log."""
    length, start = header.log_length, header.log_offset
    if length > MAX_REPLAYED_LOG or length % MIB or start % MIB or start < MIB:
        raise ImageFormatError("VHDX log is invalid")
    log = file.pread(start, length)
    log += log  # an entry may wrap around
    found = {}
    position = 0
    while position < length:
        entry = _parse_entry(log, position, header)
        if entry is not None:
            found[position] = entry
            position += len(entry.data)
        else:
            position += SECTOR
    return found


def _parse_entry(log: bytes, position: int, header: Header) -> _Entry | None:
    (signature, _, length, tail, sequence, descriptors, _, guid, flushed,
     last) = _ENTRY.unpack_from(log, position)
    if (signature != b"loge" or guid != header.log_guid or length % SECTOR or not sequence
            or not SECTOR <= length <= header.log_length or tail % SECTOR
            or _ENTRY.size + descriptors * _DESCRIPTOR.size > length):
        return None
    data = log[position : position + length]
    if not is_sealed(data, b"loge"):
        return None
    return _Entry(tail, sequence, data, descriptors, flushed, last)


def _active_sequence(entries: dict[int, _Entry], length: int) -> list[_Entry]:
    """The entries from the newest one's tail up to it; none if some are missing."""
    if not entries:
        return []
    at, head = max(entries.items(), key=lambda item: item[1].sequence)
    chain: list[_Entry] = []
    position = head.tail
    for _ in range(len(entries)):
        entry = entries.get(position)
        if entry is None or (chain and entry.sequence != chain[-1].sequence + 1):
            break
        chain.append(entry)
        if position == at:
            return chain
        position = (position + len(entry.data)) % length
    raise ImageFormatError("The VHDX log is incomplete")


def _apply(file: BlockDevice, entry: _Entry) -> None:
    sectors = -(-(_ENTRY.size + entry.descriptors * _DESCRIPTOR.size) // SECTOR)
    data_at = sectors * SECTOR
    end = max(file.size, entry.last_size)
    for index in range(entry.descriptors):
        kind, trailing, leading, offset, sequence = _DESCRIPTOR.unpack_from(
            entry.data, _ENTRY.size + index * _DESCRIPTOR.size)
        length = int.from_bytes(leading, "little") if kind == b"zero" else SECTOR
        if (kind not in (b"desc", b"zero") or sequence != entry.sequence or offset % SECTOR
                or offset + length > end):
            raise ImageFormatError("Invalid VHDX log descriptor")
        if kind == b"zero":
            file.write_zeroes(offset, length)
            continue
        data = entry.data[data_at : data_at + SECTOR]
        data_at += SECTOR
        if len(data) < SECTOR or data[:4] != b"data":
            raise ImageFormatError("Invalid VHDX log data sector")
        file.pwrite(offset, leading + data[8:-4] + trailing)
