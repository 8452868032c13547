"""How much memory translated code may take."""

from __future__ import annotations

from typing import Final, NamedTuple

_LARGEST = 768 << 20
"""Bytes of compiled regions at most: all host code lies within two gigabytes."""


class CodeRoom(NamedTuple):
    """Bytes for the records of blocks, for stitched blocks, and for the process's regions.

    When one of them is full it is emptied, and what is needed is made again.
    """

    records: int = 160 << 20
    stitched: int = 96 << 20
    regions: int = 256 << 20

    @classmethod
    def of(cls, total: int) -> CodeRoom:
        """Share ``total`` bytes out."""
        part = total // 16
        return cls(5 * part, 3 * part, min(8 * part, _LARGEST))


USUAL: Final = CodeRoom()
