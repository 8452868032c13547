"""A request to compile a region, as `region_grow` writes it: parsed, and made a key.

Addresses are made to count from the seed's, so that the same code at another address, or in another
process, is the same request.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from pytcg.exec.layout import RECORD, RECORD_SIZE, REQUEST_BLOCK, REQUEST_HEAD
from pytcg.exec.regions import Ending
from pytcg_x86.core.form import row_of
from pytcg_x86.decode.formkey import RELATIVE
from pytcg_x86.region.compiler import GuestBlock, Insn, plain_key

_HEAD = struct.Struct("<QQIIII")
_BLOCK = struct.Struct("<QQQQIIII")
_SHAPE = struct.Struct("<qQqq")
_RECORD = struct.Struct("<QQQQHHHHBBBBI")
_NAMES = ("imm", "disp", "pc", "a", "b", "base", "index", "segment", "shift", "length", "position")
assert _HEAD.size == REQUEST_HEAD.size and _BLOCK.size == REQUEST_BLOCK.size
assert _RECORD.size == RECORD_SIZE == RECORD.size

SHAPE_ROW = _SHAPE.size
SEED_ONLY = bytes(SHAPE_ROW)
"""The shape of a region of its seed alone."""
_MASK = (1 << 64) - 1


def _distance(address: int, seed: int) -> int:
    """Signed difference of two addresses."""
    return ((address - seed + (1 << 63)) & _MASK) - (1 << 63)


class Request:
    """Blocks to be compiled as a region; ``blocks[0]`` is the seed."""

    def __init__(self, data: bytes | memoryview):
        self.flushes, seed, self.mode, count, _, pages = _HEAD.unpack_from(data, 0)
        self.spans = pages > 1
        self.tbs: list[int] = []
        self.blocks: list[GuestBlock] = []
        at = _HEAD.size
        records = _RECORD.iter_unpack(data[at + count * _BLOCK.size :])
        for number in range(count):
            tb, pc, taken, fall, hits, insns, ending, entry = _BLOCK.unpack_from(data, at)
            at += _BLOCK.size
            self.tbs.append(tb)
            self.blocks.append(GuestBlock(
                number, _distance(pc, seed), list(_insns(records, insns, seed, ending)), ending,
                _distance(taken, seed), _distance(fall, seed), bool(entry), hits,
                False))  # fmt: skip
        reached = {pc for block in self.blocks for pc in _direct(block)}
        for block in self.blocks:
            block.root = block.pc not in reached

    def shape(self) -> bytes:
        """What it takes to find the same blocks again: rows for `region_follow`."""
        return b"".join(_SHAPE.pack(b.pc, b.entry, b.taken, b.fall) for b in self.blocks)

    def key(self, *identity: str) -> str:
        """Digest of all that the code depends on."""
        digest = hashlib.blake2b(digest_size=20)
        for part in identity:
            digest.update(part.encode() + b"\0")
        digest.update(f"{self.spans}".encode())
        for block in self.blocks:
            digest.update(f"{block.pc} {block.ending} {block.taken} {block.fall} {block.entry}"
                          .encode())  # fmt: skip
            for insn in block.insns:
                digest.update(f"{insn.key:x} {sorted(insn.fields.items())}\n".encode())
        return digest.hexdigest()


def _direct(block: GuestBlock) -> tuple[int, ...]:
    """Where a block goes by direct transfers."""
    if row_of(block.insns[-1].key).mnemonic == "CALLI":
        return ()
    return {Ending.BRANCH: (block.taken, block.fall), Ending.FALL: (block.fall,)}.get(
        Ending(block.ending), ())


def _insns(records: Iterator[tuple[int, ...]], count: int, seed: int,
           ending: int) -> Iterator[Insn]:  # fmt: skip
    for number in range(count):
        key, *values, effects = next(records)
        fields = dict(zip(_NAMES, values, strict=True))
        fields["pc"] = _distance(fields["pc"], seed)
        if fields["shift"] & RELATIVE:
            fields["disp"] = _distance(fields["disp"], seed)
        if number == count - 1 and (ending == Ending.BRANCH or row_of(plain_key(key)).mnemonic
                                    in ("JMPI", "CALLI")):  # fmt: skip
            fields["imm"] = 0  # the chain, or the last target
            if ending == Ending.BRANCH:
                fields["disp"] = 0
        yield Insn(plain_key(key), fields, effects)
