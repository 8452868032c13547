"""The stream of a saved machine.

All numbers are little-endian. The layout of version 1:

    8 bytes   "PYTCG-VM"
    u32       version
    u32       0
    u64       length of the header
    …         the header: JSON in UTF-8 (`pytcg.machine.saved.machine`)
    runs of memory, each: u64 offset in the RAM window, u64 length in bytes, the bytes
    u64       2^64 - 1, and a u64 of 0: the end
    u32       CRC-32 of all before it

Pages of zeroes are left out.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from pytcg.exec.layout import PAGE_SIZE

MAGIC: Final = b"PYTCG-VM"
VERSION: Final = 1
END: Final = (1 << 64) - 1
CHUNK: Final = 1 << 20  # a multiple of the page size
LONGEST_HEADER: Final = 1 << 30
_HEAD: Final = struct.Struct("<8sLLQ")
_RUN: Final = struct.Struct("<QQ")

Read = Callable[[int, int], bytes]
"""Reads (position, length); less at the end of the stream."""


class SavedError(Exception):
    """A saved machine that can't be written or read; the text says why."""


class Run(NamedTuple):
    """Memory that is not zero: its place in the RAM window, and in the stream."""

    offset: int
    length: int
    position: int


def write_stream(header: dict[str, Any], window: memoryview,
                 write: Callable[[bytes | memoryview], None]) -> None:  # fmt: skip
    """Send the pieces of a stream to ``write``."""
    crc = 0
    for piece in _pieces(header, window):
        crc = zlib.crc32(piece, crc)
        write(piece)
    write(struct.pack("<L", crc))


def _pieces(header: dict[str, Any], window: memoryview) -> Iterator[bytes | memoryview]:
    text = json.dumps(header, separators=(",", ":")).encode()
    yield _HEAD.pack(MAGIC, VERSION, 0, len(text)) + text
    for at in range(0, len(window), CHUNK):
        part = window[at : at + CHUNK]
        for first, last in _used(part):
            yield _RUN.pack(at + first, last - first)
            yield part[first:last]
    yield _RUN.pack(END, 0)


def _used(part: memoryview) -> list[tuple[int, int]]:
    """(start, end) of what is not zero, in whole pages."""
    import numpy as np  # a tenth of a second, for machines that nobody saves

    pages = np.frombuffer(part, np.uint64).reshape(-1, PAGE_SIZE // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], pages, [False]))))
    return [(int(first) * PAGE_SIZE, int(last) * PAGE_SIZE)
            for first, last in zip(edges[::2], edges[1::2], strict=True)]  # fmt: skip


class SavedMachine:
    """A stream that was read through: its header, and where its memory is. SavedError."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._position = self._crc = 0
        magic, version, _, length = _HEAD.unpack(self._take(_HEAD.size))
        if magic != MAGIC:
            raise SavedError("it is no saved machine")
        if version != VERSION:
            raise SavedError(f"it is a saved machine of version {version}, not {VERSION}")
        if length > LONGEST_HEADER:
            raise SavedError("its header is too long")
        self.header = self._parse(self._take(length))
        self.runs = list(self._find_runs())
        expected = self._crc
        if struct.unpack("<L", self._take(4))[0] != expected:
            raise SavedError("it is damaged: its checksum is wrong")

    @staticmethod
    def _parse(text: bytes) -> dict[str, Any]:
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            raise SavedError("it is damaged: its header is no JSON") from None
        if not isinstance(header, dict):
            raise SavedError("it is damaged: its header is no JSON object")
        return header

    def _take(self, length: int) -> bytes:
        data = self._read(self._position, length)
        if len(data) != length:
            raise SavedError("it is cut short")
        self._position += length
        self._crc = zlib.crc32(data, self._crc)
        return data

    def _find_runs(self) -> Iterator[Run]:
        while True:
            offset, length = _RUN.unpack(self._take(_RUN.size))
            if offset == END:
                return
            if length > CHUNK or offset % PAGE_SIZE or length % PAGE_SIZE:
                raise SavedError("it is damaged: a run of memory can't be")
            yield Run(offset, length, self._position)
            self._take(length)

    def fill(self, window: memoryview) -> None:
        """Put the memory into a window of zeroes."""
        for run in self.runs:
            data = self._read(run.position, run.length)
            if len(data) != run.length:
                raise SavedError("it is cut short")
            window[run.offset : run.offset + run.length] = data
