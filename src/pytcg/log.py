"""The debug log of `-d item,item` and `-D file`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TextIO


class Log:
    """Text of the stages that were asked for; the others cost one look-up."""

    def __init__(self, items: Collection[str] = (), stream: TextIO | None = None) -> None:
        self.items = frozenset(items)
        self._stream = stream

    def enabled(self, item: str) -> bool:
        """Is this stage wanted?"""
        return item in self.items

    def write(self, text: str) -> None:
        """Add lines; the caller has asked `enabled`."""
        if self._stream is not None:
            self._stream.write(text if text.endswith("\n") else text + "\n")
            self._stream.flush()
