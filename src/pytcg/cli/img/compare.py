"""pytcg-img compare."""

from __future__ import annotations

import os

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.zeroes import is_zero
from pytcg.cli.img.common import Arguments, Failure, Progress, cache_mode, open_disk, parse, usage

CHUNK = 2 << 20
SECTOR = 512


class Different(Exception):
    """The images differ; the message says where."""


def run(argv: list[str]) -> int:
    """Compare: 0 the same, 1 different, more than 1 for an error."""
    arguments = parse(argv, "f: F: T: p q s U/force-share image-opts")
    if len(arguments.words) != 2:
        usage("Expecting two image file names")
    one, two = arguments.words
    with Progress(enabled="p" in arguments and "q" not in arguments, step=2.0) as progress:
        progress(0, 1)
        return _compare_named(one, two, arguments, progress)


def _compare_named(one: str, two: str, arguments: Arguments, progress: Progress) -> int:
    cache = cache_mode(arguments, "T", "writeback", code=2)
    with open_disk(one, arguments, format=arguments.get("f"), cache=cache, code=2) as first, \
            open_disk(two, arguments, format=arguments.get("F"), cache=cache, code=2) as second:
        return _compare(_Side(first, one), _Side(second, two), progress,
                        quiet="q" in arguments, strict="s" in arguments)


class _Side:
    """One of the images, with its name for messages."""

    def __init__(self, device: BlockDevice, name: str) -> None:
        self.size = device.size
        self._device, self._name = device, name

    def status_at(self, offset: int, length: int) -> Extent:
        """What the image says of a range's beginning; Failure in QEMU's words."""
        try:
            return self._device.status_at(offset, length)
        except BlockError:
            raise Failure(f"Sector allocation test failed for {self._name}", 3) from None

    def read(self, offset: int, length: int) -> bytes:
        """Its content; Failure in QEMU's words."""
        try:
            return self._device.pread(offset, length)
        except BlockError as error:
            raise Failure(f"Error while reading offset {offset} of {self._name}: "
                          f"{os.strerror(error.errno)}", 4) from None


def _compare(first: _Side, second: _Side, progress: Progress, *, quiet: bool,
             strict: bool) -> int:
    try:
        _compare_common(first, second, strict=strict, quiet=quiet, progress=progress)
    except Different as difference:
        if not quiet:
            print(difference)
        return 1
    except BlockError as error:
        raise Failure(str(error), 4) from None
    if not quiet:
        print("Images are identical.")
    return 0


def _compare_common(first: _Side, second: _Side, *, strict: bool, quiet: bool,
                    progress: Progress) -> None:
    common, total = min(first.size, second.size), max(first.size, second.size)
    if strict and first.size != second.size:
        raise Different("Strict mode: Image size mismatch!")
    offset = 0
    while offset < common:
        one = first.status_at(offset, common - offset)
        two = second.status_at(offset, common - offset)
        length = min(one.length, two.length)
        if strict and one[1:4] != two[1:4]:
            raise Different(f"Strict mode: Offset {offset} block status mismatch!")
        if not (one.zero and two.zero):
            length = min(length, CHUNK)
            left = bytes(length) if one.zero else first.read(offset, length)
            right = bytes(length) if two.zero else second.read(offset, length)
            if left != right:
                raise Different("Content mismatch at offset "
                                f"{offset + _first_difference(left, right)}!")
        offset += length
        progress(offset, total)
    if first.size != second.size:
        if not quiet:
            print("Warning: Image size mismatch!")
        _require_zero(first if first.size > second.size else second, common, progress)


def _first_difference(left: bytes, right: bytes) -> int:
    """The offset of the first differing sector."""
    return next(start for start in range(0, len(left), SECTOR)
                if left[start : start + SECTOR] != right[start : start + SECTOR])


def _require_zero(side: _Side, offset: int, progress: Progress) -> None:
    while offset < side.size:
        extent = side.status_at(offset, side.size - offset)
        length = extent.length
        if not extent.zero:
            length = min(length, CHUNK)
            data = side.read(offset, length)
            if not is_zero(data, 0, length):
                raise Different("Content mismatch at offset "
                                f"{offset + _first_difference(data, bytes(length))}!")
        offset += length
        progress(offset, side.size)
