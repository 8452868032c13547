"""pytcg-img resize."""

from __future__ import annotations

from pytcg.block.create_values import SIZE, CreateValues
from pytcg.block.device import BlockError
from pytcg.cli.img.common import PROGRAM, Failure, open_disk, parse, usage

SECTOR = 512
MODES = ("off", "metadata", "falloc", "full")


def run(argv: list[str]) -> int:
    """Change the size of a disk."""
    if len(argv) < 2:
        usage("Not enough arguments")
    # The size may be negative: take it before options are looked for.
    words = argv[:-1]
    arguments = parse(words, "f: q image-opts preallocation: shrink")
    if len(arguments.words) != 1:
        usage("Expecting image file name and size")
    text = argv[-1]
    mode = arguments.get("preallocation", "off") or ""
    if mode not in MODES:
        raise Failure(f"Invalid preallocation mode '{mode}'")
    sign = {"+": 1, "-": -1}.get(text[:1], 0)
    amount = _size(text[1:] if sign else text)
    with open_disk(arguments.words[0], arguments, format=arguments.get("f"),
                   read_only=False) as device:
        old = device.size
        size = old + sign * amount if sign else amount
        if size <= 0 or size >> 63:
            raise Failure("New image size must be positive")
        if size <= old and mode != "off":
            raise Failure("Preallocation can only be used for growing images")
        if size < old and "shrink" not in arguments:
            raise Failure(
                "Use the --shrink option to perform a shrink operation.\n"
                f"{PROGRAM}: warning: Shrinking an image will delete all data beyond the "
                "shrunken image's end. Before performing such an operation, make sure there "
                "is no important data there.")
        try:
            device.truncate(size, preallocation=mode)
            device.flush()
        except BlockError as error:
            raise Failure(str(error)) from None
        if "q" not in arguments:
            print("Image resized.")
    return 0


def _size(text: str) -> int:
    values = CreateValues({"size": SIZE})
    try:
        values.set("size", text)
    except BlockError as error:
        raise Failure(str(error)) from None
    size: int = values.get("size")
    return size
