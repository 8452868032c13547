"""Segment descriptors as they lie in memory (SDM vol. 3A, 3.4.5)."""

from __future__ import annotations

from typing import NamedTuple


class Descriptor(NamedTuple):
    """``limit`` in bytes, ``attributes`` as the descriptor's bits 40-55 without the limit's."""

    base: int
    limit: int
    attributes: int


def parse_descriptor(raw: int) -> Descriptor:
    """What the eight bytes of a descriptor say."""
    limit = raw & 0xFFFF | raw >> 32 & 0xF_0000
    if raw >> 55 & 1:
        limit = limit << 12 | 0xFFF
    return Descriptor(raw >> 16 & 0xFF_FFFF | raw >> 56 << 24, limit, raw >> 40 & 0xF0FF)
