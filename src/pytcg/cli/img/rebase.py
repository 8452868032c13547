"""pytcg-img rebase: give an overlay another backing file."""

from __future__ import annotations

import errno
import os

from pytcg.block.create import is_driver_name
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.jobs.convert import CHUNK
from pytcg.block.open import open_image
from pytcg.block.options import resolve_backing
from pytcg.cli.img.common import (
    Arguments,
    Failure,
    Progress,
    cache_mode,
    one_word,
    open_disk,
    parse,
    usage,
)

GRANULE = 512


def run(argv: list[str]) -> int:
    """Rebase; safely (copying what differs) unless -u."""
    arguments = parse(argv, "f: F: b: u p q t: T: U/force-share image-opts")
    name = one_word(arguments)
    unsafe = "u" in arguments
    if arguments.get("b") is None and not unsafe:
        usage("Must specify backing file (-b) or use unsafe mode (-u)")
    with Progress(enabled="p" in arguments and "q" not in arguments, step=2.0) as progress:
        progress(0, 1)
        cache = cache_mode(arguments, "t", "writeback")
        cache_mode(arguments, "T", "writeback")
        # -U is for the backing files; the image itself is written.
        own = Arguments([item for item in arguments.given if item[0] == "image-opts"], [])
        with open_disk(name, own, format=arguments.get("f"), read_only=False, cache=cache,
                       no_backing=unsafe) as device:
            _rebase(device, arguments, progress)
    return 0


def _rebase(device: BlockDevice, arguments: Arguments, progress: Progress) -> None:
    new_name, new_format = arguments.get("b"), arguments.get("F")
    if new_format is not None and not is_driver_name(new_format):
        raise Failure(f"Invalid format name: '{new_format}'")
    if "u" not in arguments:
        _copy_differences(device, new_name or "", arguments, progress)
    failed = f"Could not change the backing file to '{new_name or '(null)'}'"
    try:
        if new_name and not new_format:
            raise BlockError("backing format must be specified", errno.EINVAL)
        device.change_backing_file(new_name or None, new_format if new_name else None)
        device.flush()
    except BlockError as error:
        reason = "No space left in the file header" if error.errno == errno.ENOSPC else error
        raise Failure(f"{failed}: {reason}") from None
    finally:
        progress(1, 1)


def _copy_differences(device: BlockDevice, new_name: str, arguments: Arguments,
                      progress: Progress) -> None:
    old = device.backing
    new: BlockDevice | None = None
    if new_name:
        try:
            full = resolve_backing(device.location, new_name)
        except BlockError as error:
            raise Failure(f"Could not resolve backing filename: {error}") from None
        try:
            new = open_image(full, format=arguments.get("F"), read_only=True,
                             force_share="U" in arguments)
        except BlockError as error:
            raise Failure(f"Could not open new backing file '{new_name}': {error}") from None
    try:
        offset = 0
        while offset < device.size:
            extent = device.layer_status(offset, min(CHUNK, device.size - offset))
            if not (extent.data or extent.zero):
                _copy_run(device, old, new, offset, extent.length)
            offset += extent.length
            progress(offset, device.size)
        device.flush()
    except BlockError as error:
        raise Failure(f"Error while writing to COW image: {os.strerror(error.errno)}") from None
    finally:
        if new is not None:
            new.close()


def _copy_run(device: BlockDevice, old: BlockDevice | None, new: BlockDevice | None, offset: int,
              length: int) -> None:
    """Store what reads differently through the new backing file."""
    before, after = _read(old, offset, length), _read(new, offset, length)
    if before == after:
        return
    start: int | None = None
    for position in range(0, length + GRANULE, GRANULE):
        differs = before[position : position + GRANULE] != after[position : position + GRANULE]
        if differs and start is None:
            start = position
        elif not differs and start is not None:
            stop = min(position, length)
            if old is None or offset + start >= old.size:
                device.write_zeroes(offset + start, stop - start)
            else:
                device.pwrite(offset + start, before[start:stop])
            start = None


def _read(disk: BlockDevice | None, offset: int, length: int) -> bytes:
    inside = 0 if disk is None else max(0, min(length, disk.size - offset))
    data = disk.pread(offset, inside) if disk is not None and inside else b""
    return data + bytes(length - inside)
