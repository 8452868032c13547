"""pytcg-img bitmap."""

from __future__ import annotations

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.cli.img.common import Arguments, Failure, open_disk, parse, size_argument

ACTIONS = ("add", "remove", "clear", "enable", "disable", "merge")


def run(argv: list[str]) -> int:
    """Do the actions to one bitmap, in order."""
    arguments = parse(argv, "b/source-file: f: F/source-format: g/granularity: image-opts add "
                            "remove clear enable disable merge:")
    text = arguments.get("g")
    granularity = size_argument(text, "granularity") if text else 0
    actions = [item for item in arguments.given if item[0] in ACTIONS]
    if not actions:
        raise Failure("Need at least one of --add, --remove, --clear, --enable, --disable, or "
                      "--merge")
    if granularity and not any(name == "add" for name, _ in actions):
        raise Failure("granularity only supported with --add")
    if "F" in arguments and "b" not in arguments:
        raise Failure("-F only supported with -b")
    merges = any(name == "merge" for name, _ in actions)
    if "b" in arguments and not merges:
        raise Failure("Merge bitmap source file only supported with --merge")
    if len(arguments.words) != 2:
        raise Failure("Expecting filename and bitmap name")
    filename, bitmap = arguments.words
    with open_disk(filename, arguments, format=arguments.get("f"), read_only=False) as device:
        if not isinstance(device, Qcow2Device):
            action = actions[0][0]
            reason = (f"Format driver '{device.format_name}' does not support persistent bitmaps"
                      if action == "add" else f"Dirty bitmap '{bitmap}' not found")
            raise Failure(f"Operation {action} on bitmap {bitmap} failed: {reason}")
        for name, value in actions:
            try:
                if name == "add":
                    device.bitmaps.add(bitmap, granularity or _default_granularity(device))
                else:
                    _act(device, name, bitmap, value, arguments)
            except BlockError as error:
                raise Failure(f"Operation {name} on bitmap {bitmap} failed: {error}") from None
    return 0


def _default_granularity(device: Qcow2Device) -> int:
    return min(max(device.cluster_size, 4096), 65536)


def _act(device: Qcow2Device, action: str, name: str, value: str, arguments: Arguments) -> None:
    bitmaps = device.bitmaps
    if action == "remove":
        bitmaps.remove(name)
    elif action == "clear":
        bitmaps.clear(name)
    elif action == "merge":
        _merge(device, name, value, arguments)
    else:
        bitmaps.enable(name, on=action == "enable")


def _merge(device: Qcow2Device, name: str, source_name: str, arguments: Arguments) -> None:
    source_file = arguments.get("b")
    if source_file is None:
        _merge_from(device, name, device, source_name)
        return
    plain = Arguments([], [])
    with open_disk(source_file, plain, format=arguments.get("F"), no_backing=True) as other:
        if not isinstance(other, Qcow2Device):
            raise BlockError(f"Dirty bitmap '{source_name}' not found")
        _merge_from(device, name, other, source_name)


def _merge_from(device: Qcow2Device, name: str, other: Qcow2Device, source_name: str) -> None:
    source = other.bitmaps.find(source_name)
    if source.in_use:
        raise BlockError(f"Bitmap '{source_name}' is inconsistent and cannot be used")
    bits = bytearray(other.bitmaps.load(source))
    device.bitmaps.merge(name, bits, source.entry.granularity_bits)
