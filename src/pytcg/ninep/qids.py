"""Numbers of files: the host's inode, with the device in it where an export spans several."""

from __future__ import annotations

import errno
import stat
import threading
from collections.abc import Callable
from typing import Final

from pytcg.ninep.backend import Stat
from pytcg.ninep.fids import error
from pytcg.ninep.wire import Qid

MULTIDEVS: Final = ("remap", "forbid", "warn")
PREFIX_BITS: Final = 16
QTDIR, QTSYMLINK = 0x80, 0x02


class Qids:
    """Makes qids; ``multidevs`` says what becomes of files on another device than the root's."""

    def __init__(self, multidevs: str = "warn", warn: Callable[[str], None] | None = None) -> None:
        self._multidevs = multidevs
        self._warn = warn
        self._lock = threading.Lock()
        self._devices: dict[int, int] = {}  # to prefixes, in the order they were met
        self._odd: dict[tuple[int, int], int] = {}  # inodes too large for a prefix

    def of(self, found: Stat) -> Qid:
        """ENODEV for what is forbidden."""
        version = (found.mtime // 1_000_000_000 ^ found.size << 8) & 0xFFFFFFFF
        return Qid(kind_of(found.mode), version, self.path(found.dev, found.ino))

    def path(self, device: int, inode: int) -> int:
        """A file's number."""
        prefix = self._devices.get(device)
        if prefix is None:
            prefix = self._meet(device)
        if not prefix or self._multidevs != "remap":
            return inode
        if inode < 1 << 64 - PREFIX_BITS and prefix < 1 << PREFIX_BITS - 1:
            return prefix << 64 - PREFIX_BITS | inode
        with self._lock:
            return self._odd.setdefault((device, inode), 1 << 63 | len(self._odd))

    def _meet(self, device: int) -> int:
        with self._lock:
            if self._devices and self._multidevs == "forbid":
                raise error(errno.ENODEV)
            if len(self._devices) == 1 and self._multidevs == "warn" and self._warn is not None:
                self._warn("9p: Multiple devices detected in same VirtFS export, which might lead"
                           " to file ID collisions and severe misbehaviours on guest! You should"
                           " either use a separate export for each device shared from host or use"
                           " virtfs option 'multidevs=remap'!")  # fmt: skip
            return self._devices.setdefault(device, len(self._devices))


def kind_of(mode: int) -> int:
    """A qid's type bits."""
    if stat.S_ISDIR(mode):
        return QTDIR
    return QTSYMLINK if stat.S_ISLNK(mode) else 0
