"""Packs as they are kept on disk.

A pack of handlers is host code, and the effects of each form. A pack of stencils is rows of
`layout.STENCIL`, each with its patches and its code, that lie one behind the other; native code
reads it as it is. A form that can't have a stencil has a row without code, so that it isn't tried
again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytcg.exec.layout import STENCIL
from pytcg.softmmu.ram import HostBuffer
from pytcg_llvm.link import Image

_SEPARATOR = b"\n\0"
STENCIL_ROW = struct.Struct("<QIIII")
"""The form's key, the bytes of its code, the number of patches, flags, the bytes of all of it."""
assert STENCIL_ROW.size == STENCIL.size


@dataclass(frozen=True, slots=True)
class HandlerPack:
    """Handlers of forms: the effects of each by its key, and an image that defines its code."""

    effects: Mapping[int, int]
    image: Image

    @staticmethod
    def symbol(key: int) -> str:
        """The name of a form's handler."""
        return f"form_{key:x}"

    def to_bytes(self) -> bytes:
        """How it is kept on disk."""
        words = " ".join(f"{key:x}:{word:x}" for key, word in self.effects.items())
        return words.encode() + _SEPARATOR + self.image.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> HandlerPack:
        words, image = data.split(_SEPARATOR, 1)
        pairs = (word.split(b":") for word in words.split())
        return cls({int(key, 16): int(word, 16) for key, word in pairs}, Image.from_bytes(image))


def join_handlers(packs: Iterable[bytes]) -> bytes:
    """One pack of several, as they are kept; those without a new form are left out."""
    effects: dict[int, int] = {}
    images = []
    for pack in map(HandlerPack.from_bytes, packs):
        if pack.effects.keys() - effects.keys():
            effects |= pack.effects
            images.append(pack.image)
    return HandlerPack(effects, Image.join(images)).to_bytes()


def join_stencils(packs: Iterable[bytes]) -> bytes:
    """One pack of stencils of several; the first row of a form counts."""
    rows: dict[int, bytes] = {}
    for pack in packs:
        for key, at, _, length in _rows(pack):
            rows.setdefault(key, pack[at : at + length])
    return b"".join(rows.values())


class StencilPacks:
    """The packs of stencils in memory."""

    def __init__(self) -> None:
        self.addresses: dict[int, int] = {}  # of a form's row, by key
        self.tried: set[int] = set()
        self._buffers: list[HostBuffer] = []

    def add(self, pack: bytes) -> None:
        """Let native code reach a pack."""
        if not pack:
            return
        buffer = HostBuffer(-(-len(pack) // 4096) * 4096, huge=False)
        buffer.view[: len(pack)] = pack
        self._buffers.append(buffer)
        for key, at, size, _ in _rows(pack):
            self.tried.add(key)
            if size:
                self.addresses[key] = buffer.address + at


def _rows(pack: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Of each row the form's key, where it begins, the bytes of its code and of all of it."""
    at = 0
    while at < len(pack):
        key, size, _, _, length = STENCIL_ROW.unpack_from(pack, at)
        yield key, at, size, length
        at += length
