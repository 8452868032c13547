"""block-dirty-bitmap-*: what was written since, one by one or within a transaction."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.dirty import (
    DirtyBitmap,
    add_bitmap,
    bitmaps_of,
    check_usable,
    find_bitmap,
    remove_bitmap,
)
from pytcg.monitor.block.lookup import node_of
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

Given = dict[str, Any]
WORD: Final = 8  # bytes of the words that QEMU keeps bits in


def _found(machine: Machine, given: Given, name: str) -> tuple[BlockDevice, DirtyBitmap]:
    """The node and its bitmap; CommandError, BlockError."""
    try:
        node = node_of(machine, given["node"], given["node"])
    except CommandError:
        raise CommandError(f"Node '{given['node']}' not found") from None
    return node, find_bitmap(node, name)


class BitmapAction:
    """One of a transaction's: done as it is prepared, while all users are held, or undone."""

    def __init__(self, machine: Machine, given: Given) -> None:
        self.machine = machine
        self.given = given

    def prepare(self) -> None:
        raise NotImplementedError

    def commit(self) -> None:
        """It is done."""

    def abort(self) -> None:
        """Undo what was done."""

    def find(self, name: str) -> DirtyBitmap:
        """A bitmap of the node that is meant."""
        return _found(self.machine, self.given, name)[1]


class Add(BitmapAction):
    """block-dirty-bitmap-add."""

    _made: tuple[BlockDevice, DirtyBitmap] | None = None

    def prepare(self) -> None:
        given = self.given
        if not given["name"]:
            raise CommandError("Bitmap name cannot be empty")
        node = node_of(self.machine, given["node"], given["node"])
        made = add_bitmap(node, given["name"], given.get("granularity"),
                          persistent=given.get("persistent", False),
                          enabled=not given.get("disabled", False))  # fmt: skip
        self._made = node, made

    def abort(self) -> None:
        if self._made is not None:
            remove_bitmap(*self._made)


class Remove(BitmapAction):
    """block-dirty-bitmap-remove: it goes when nothing can fail any more."""

    _found: tuple[BlockDevice, DirtyBitmap] | None = None

    def prepare(self) -> None:
        node, bitmap = _found(self.machine, self.given, self.given["name"])
        check_usable(bitmap, inconsistent=False)
        self._found = node, bitmap

    def commit(self) -> None:
        assert self._found is not None
        remove_bitmap(*self._found)


class Clear(BitmapAction):
    """block-dirty-bitmap-clear."""

    _bits: tuple[DirtyBitmap, bytes] | None = None

    def prepare(self) -> None:
        bitmap = self.find(self.given["name"])
        check_usable(bitmap)
        self._bits = bitmap, bytes(bitmap.bits)
        bitmap.clear()

    def abort(self) -> None:
        if self._bits is not None:
            self._bits[0].put(self._bits[1])


class Switch(BitmapAction):
    """block-dirty-bitmap-enable and -disable."""

    on: bool
    _was: tuple[DirtyBitmap, bool] | None = None

    def prepare(self) -> None:
        bitmap = self.find(self.given["name"])
        check_usable(bitmap, read_only=False)
        self._was = bitmap, bitmap.enabled
        bitmap.set_enabled(self.on)

    def abort(self) -> None:
        if self._was is not None:
            self._was[0].set_enabled(self._was[1])


class Enable(Switch):
    """Follow writes."""

    on = True


class Disable(Switch):
    """Don't."""

    on = False


class Merge(BitmapAction):
    """block-dirty-bitmap-merge."""

    _bits: tuple[DirtyBitmap, bytes] | None = None

    def prepare(self) -> None:
        target = self.find(self.given["target"])
        sources = [self._source(each) for each in self.given["bitmaps"]]
        for source in sources:
            check_usable(target)
            check_usable(source, read_only=False)
            if source.size != target.size:
                raise CommandError("Bitmaps are of different sizes (destination size is"
                                   f" {target.size}, source size is {source.size}) and can't be"
                                   " merged")  # fmt: skip
            if self._bits is None:
                self._bits = target, bytes(target.bits)
            target.merge(source.bits, source.granularity)

    def _source(self, each: str | Given) -> DirtyBitmap:
        if isinstance(each, str):
            return self.find(each)
        return _found(self.machine, each, each["name"])[1]

    def abort(self) -> None:
        if self._bits is not None:
            self._bits[0].put(self._bits[1])


ACTIONS: Final[dict[str, type[BitmapAction]]] = {
    "block-dirty-bitmap-add": Add,
    "block-dirty-bitmap-remove": Remove,
    "block-dirty-bitmap-clear": Clear,
    "block-dirty-bitmap-enable": Enable,
    "block-dirty-bitmap-disable": Disable,
    "block-dirty-bitmap-merge": Merge,
}


def describe_bitmaps(node: BlockDevice) -> list[dict[str, Any]]:
    """BlockDirtyInfo of each, the last one made first."""
    try:
        found = bitmaps_of(node)
    except BlockError:
        return []
    return [{
        "name": bitmap.name, "count": bitmap.count, "granularity": bitmap.granularity,
        "recording": bitmap.enabled, "busy": bitmap.busy, "persistent": bitmap.persistent,
        **({"inconsistent": True} if bitmap.inconsistent else {}),
    } for bitmap in reversed(found)]  # fmt: skip


def sha256(machine: Machine, **given: str) -> Any:
    """x-debug-block-dirty-bitmap-sha256: of the bits, in whole words."""
    _, bitmap = _found(machine, given, given["name"])
    bits = bytes(bitmap.bits)
    bits += bytes(-len(bits) % WORD)
    return {"sha256": hashlib.sha256(bits).hexdigest()}


TAKES: Final = {
    "block-dirty-bitmap-add": "BlockDirtyBitmapAdd",
    "block-dirty-bitmap-merge": "BlockDirtyBitmapMerge",
}
"""What an action takes; a node and a name, if it isn't here."""
DEBUG: Final = Command("x-debug-block-dirty-bitmap-sha256", sha256, "node: str, name: str",
                       "BlockDirtyBitmapSha256")  # fmt: skip
