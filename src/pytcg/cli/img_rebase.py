"""pytcg-img rebase: give an overlay another backing file."""

from __future__ import annotations

from pytcg.block.convert import CHUNK
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import FORMATS, open_image
from pytcg.block.options import resolve_backing
from pytcg.block.qcow2 import Qcow2Device

from .img_common import Failure, Progress, cache_mode, one_word, open_disk, parse, usage

GRANULE = 4096


def run(argv: list[str]) -> int:
    """Rebase; safely (copying what differs) unless -u."""
    arguments = parse(argv, "h f: F: b: u p q t: T: U help object: image-opts force-share")
    name = one_word(arguments, "Expecting one image file name")
    new_name = arguments.get("b")
    unsafe = "u" in arguments
    if new_name is None and not unsafe:
        usage("Must specify backing file (-b) or use unsafe mode (-u)")
    new_format = arguments.get("F")
    if new_format is not None and new_format not in FORMATS:
        raise Failure(f"Invalid format name: '{new_format}'")
    progress = Progress(enabled="p" in arguments and "q" not in arguments)
    cache = cache_mode(arguments, "t", "writeback")
    with open_disk(name, arguments, format=arguments.get("f"), read_only=False, cache=cache,
                   no_backing=unsafe) as device:
        if not isinstance(device, Qcow2Device):
            raise Failure(f"Could not change the backing file to '{new_name or ''}': Operation "
                          "not supported")
        try:
            if not unsafe:
                _copy_differences(device, new_name or "", new_format, progress)
            if new_name and not new_format:
                raise Failure(f"Could not change the backing file to '{new_name}': backing format "
                              "must be specified")
            device.change_backing_file(new_name or None, new_format)
            device.flush()
        except BlockError as error:
            raise Failure(f"Could not change the backing file to '{new_name or ''}': "
                          f"{error}") from None
    progress.finish()
    return 0


def _copy_differences(device: Qcow2Device, new_name: str, new_format: str | None,
                      progress: Progress) -> None:
    old = device.backing
    new: BlockDevice | None = None
    if new_name:
        full = resolve_backing(device.location, new_name)
        try:
            new = open_image(full, format=new_format, read_only=True)
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
    finally:
        if new is not None:
            new.close()


def _copy_run(device: Qcow2Device, old: BlockDevice | None, new: BlockDevice | None, offset: int,
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
            device.pwrite(offset + start, before[start : min(position, length)])
            start = None


def _read(disk: BlockDevice | None, offset: int, length: int) -> bytes:
    inside = 0 if disk is None else max(0, min(length, disk.size - offset))
    data = disk.pread(offset, inside) if disk is not None and inside else b""
    return data + bytes(length - inside)
