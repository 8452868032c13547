"""Where a command's data lies: physical region pages and scatter-gather lists (NVMe 1.4, 4.3, 4.4).

Every step but the first of a list moves a page's worth of data or more, or is counted: a guest's
loop ends.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from pytcg.hw.storage.nvme.command import Command, Failed, Status

Spans = list[tuple[int | None, int]]
"""(address, length) in order; None: data that is dropped."""
Fetch = Callable[[int, int], bytes]

DATA, BUCKET, SEGMENT, LAST_SEGMENT = 0, 1, 2, 3  # descriptor types
DESCRIPTOR: Final = 16
MAX_SEGMENTS: Final = 256
MAX_DESCRIPTORS: Final = 4096


def spans(command: Command, length: int, page: int, fetch: Fetch) -> Spans:
    """The pieces of ``length`` bytes; Failed, and what ``fetch`` raises."""
    if command.uses_sgl:
        return _merged(_walk_sgl(command.pointer, length, fetch))
    first, second = struct.unpack("<QQ", command.pointer)
    return _merged(_walk_prp(first, second, length, page, fetch))


def _merged(pieces: Spans) -> Spans:
    """Neighbours as one."""
    merged: Spans = []
    for address, length in pieces:
        if merged and address is not None:
            before, size = merged[-1]
            if before is not None and before + size == address:
                merged[-1] = before, size + length
                continue
        merged.append((address, length))
    return merged


def _walk_prp(first: int, second: int, length: int, page: int, fetch: Fetch) -> Spans:
    step = min(length, page - first % page)
    pieces: Spans = [(first, step)]
    length -= step
    if not length:
        return pieces
    if length <= page:
        return [*pieces, (_page_start(second, page), length)]
    if second % 8:
        raise Failed(Status.INVALID_PRP_OFFSET)
    return pieces + _walk_list(second, length, page, fetch)


def _walk_list(at: int, length: int, page: int, fetch: Fetch) -> Spans:
    """A list goes on to the end of its page, whose last entry is the next list's address."""
    pieces: Spans = []
    while length:
        room = (page - at % page) // 8
        wanted = -(-length // page)
        more = wanted > room
        entries = struct.unpack(f"<{min(wanted, room)}Q", fetch(at, 8 * min(wanted, room)))
        for entry in entries[:-1] if more else entries:
            pieces.append((_page_start(entry, page), min(length, page)))
            length -= pieces[-1][1]
        at = _page_start(entries[-1], page)
    return pieces


def _page_start(address: int, page: int) -> int:
    if address % page:
        raise Failed(Status.INVALID_PRP_OFFSET)
    return address


def _walk_sgl(descriptor: bytes, length: int, fetch: Fetch) -> Spans:
    pieces: Spans = []
    waiting = [descriptor]
    segments = 0
    while length:
        if not waiting:
            raise Failed(Status.SGL_LENGTH_INVALID)
        address, size, kind = struct.unpack("<QL3xB", waiting.pop(0))
        if kind & 0x0F:
            raise Failed(Status.SGL_TYPE_INVALID)
        kind >>= 4
        if kind in (DATA, BUCKET):
            step = min(size, length)
            length -= step
            if step:
                pieces.append((address if kind == DATA else None, step))
        elif kind in (SEGMENT, LAST_SEGMENT):
            segments += 1
            if waiting or segments > MAX_SEGMENTS:
                raise Failed(Status.SGL_SEGMENT_INVALID)
            waiting = _segment(address, size, fetch)
        else:
            raise Failed(Status.SGL_TYPE_INVALID)
    return pieces


def _segment(address: int, size: int, fetch: Fetch) -> list[bytes]:
    if not size or size % DESCRIPTOR or size > MAX_DESCRIPTORS * DESCRIPTOR:
        raise Failed(Status.SGL_SEGMENT_INVALID)
    raw = fetch(address, size)
    return [raw[at : at + DESCRIPTOR] for at in range(0, size, DESCRIPTOR)]
