"""A dirty bitmap that is kept in its image, as a running machine uses it."""

from __future__ import annotations

from pytcg.block.dirty import DirtyBitmap
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.bitmap import Bitmap, Bitmaps


class StoredBitmap(DirtyBitmap):
    """The image itself marks writes in it; IN_USE is in the image before it is changed."""

    persistent = True

    def __init__(self, bitmaps: Bitmaps, bitmap: Bitmap, size: int) -> None:
        self._bitmaps = bitmaps
        self._bitmap = bitmap
        super().__init__(bitmap.entry.name, size, 1 << bitmap.entry.granularity_bits,
                         enabled=bitmap.enabled)

    @property
    def bits(self) -> bytearray:
        return self._bitmaps.load(self._bitmap)

    @property
    def inconsistent(self) -> bool:  # type: ignore[override]
        """Whoever had it last did not store it."""
        return self._bitmaps.is_inconsistent(self._bitmap)

    @property
    def read_only(self) -> bool:  # type: ignore[override]
        """The image can't be written."""
        return self._bitmaps.read_only

    @property
    def count(self) -> int:
        return 0 if self.inconsistent else super().count

    def mark(self, offset: int, length: int) -> None:
        """The image does."""

    def change(self) -> None:
        self._bitmaps.use(self._bitmap)

    def set_enabled(self, on: bool, /) -> None:
        super().set_enabled(on)
        self._bitmaps.set_tracking(self._bitmap, on=on)

    def add(self, offset: int, length: int) -> None:
        self.change()
        super().add(offset, length)

    def resize(self, size: int) -> None:
        self.size = size  # the image has changed the bits
