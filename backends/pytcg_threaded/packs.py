"""Packs of handlers as they are kept on disk: host code, and the effects of each form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytcg_llvm.link import Image

_SEPARATOR = b"\n\0"


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
