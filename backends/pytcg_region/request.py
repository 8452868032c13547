"""A request to compile a region, as `region_grow` writes it: parsed, and made a key.

Its addresses count from the seed's, so that the same code at another address, or in another
process, is the same request.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from functools import cached_property

from pytcg.exec.layout import (
    RECORD,
    RECORD_SIZE,
    REQUEST_BLOCK,
    REQUEST_HEAD,
    REQUEST_RUN,
)
from pytcg.exec.regions import Ending
from pytcg_region.kept import SHAPE_ROW
from pytcg_x86.core.form import row_of
from pytcg_x86.core.state import Mode
from pytcg_x86.region.compiler import PLAIN_KEY, GuestBlock, Insn

_HEAD = struct.Struct("<QQIIII4xI")
_BLOCK = struct.Struct("<QqqqIIII")
_RECORD = struct.Struct("<QQqqhhhhBBBBI")
_RUN = struct.Struct("<QQ")
_NAMES = ("imm", "disp", "pc", "a", "b", "base", "index", "segment", "shift", "length")
assert _HEAD.size == REQUEST_HEAD.size and _BLOCK.size == REQUEST_BLOCK.size
assert _RECORD.size == RECORD_SIZE == RECORD.size and _RUN.size == REQUEST_RUN.size


class Request:
    """Blocks to be compiled as a region; ``blocks[0]`` is the seed."""

    def __init__(self, data: bytes | memoryview):
        head = _HEAD.unpack_from(data, 0)
        self.flushes, self.pc, self.mode, self.count, self.insns, pages, context = head
        self.spans = pages > 1
        self.user = bool(self.mode & Mode.USER)
        runs = _HEAD.size + self.count * _BLOCK.size + self.insns * _RECORD.size
        self._body = bytes(data[_HEAD.size : runs])
        self.top = context if self._has_x87() else None
        """The x87 stack's top at the seed, if that matters."""
        self._runs = list(_RUN.iter_unpack(data[runs : runs + self.count * _RUN.size]))

    @property
    def tbs(self) -> list[int]:
        """The blocks' addresses."""
        return [tb for tb, _ in self._runs]

    @cached_property
    def blocks(self) -> list[GuestBlock]:
        """The blocks, parsed."""
        found = []
        insns = self._insns()
        for number, (row, (_, hits)) in enumerate(zip(self._rows(), self._runs, strict=True)):
            _, pc, taken, fall, count, ending, entry, _ = row
            body = [next(insns) for _ in range(count)]
            found.append(GuestBlock(number, pc, body, ending, taken, fall, bool(entry), hits,
                                    False))  # fmt: skip
        reached = {pc for block in found for pc in _direct(block)}
        for block in found:
            block.root = block.pc not in reached
        return found

    def _rows(self) -> Iterator[tuple[int, ...]]:
        return _BLOCK.iter_unpack(self._body[: self.count * _BLOCK.size])

    def _has_x87(self) -> bool:
        return any("fpu" in row_of(key & PLAIN_KEY).attrs for key, *_ in self._records())

    def _records(self) -> Iterator[tuple[int, ...]]:
        return _RECORD.iter_unpack(self._body[self.count * _BLOCK.size :])

    def _insns(self) -> Iterator[Insn]:
        for row in self._records():
            key, *values, near, effects = row
            yield Insn(key & PLAIN_KEY, dict(zip(_NAMES, values, strict=True)), near, effects)

    def shape(self) -> bytes:
        """What it takes to find the same blocks again: rows for `region_follow`."""
        return b"".join(SHAPE_ROW.pack(pc, entry, taken, fall)
                        for _, pc, taken, fall, _, _, entry, _ in self._rows())  # fmt: skip

    def key(self, *identity: str) -> str:
        """Digest of all that the code depends on."""
        digest = hashlib.blake2b(digest_size=20)
        for part in (*identity, f"{self.count} {self.spans} {self.user} {self.top}"):
            digest.update(part.encode() + b"\0")
        digest.update(self._body)
        return digest.hexdigest()


def _direct(block: GuestBlock) -> tuple[int, ...]:
    """Where a block goes by direct transfers."""
    if row_of(block.insns[-1].key).mnemonic == "CALLI":
        return ()
    return {Ending.BRANCH: (block.taken, block.fall), Ending.FALL: (block.fall,)}.get(
        Ending(block.ending), ())
