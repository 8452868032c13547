"""pytcg-img resize."""

from __future__ import annotations

from pytcg.block.device import BlockError

from .img_common import PROGRAM, Failure, open_disk, parse, size_argument, usage

SECTOR = 512
MODES = ("off", "metadata", "falloc", "full")


def run(argv: list[str]) -> int:
    """Change the size of a disk."""
    # The size may be negative: take it before options are looked for.
    words = argv[:-1] if len(argv) > 1 else argv
    arguments = parse(words, "h f: q help object: image-opts preallocation: shrink")
    if len(argv) < 2:
        usage("Not enough arguments")
    if len(arguments.words) != 1:
        usage("Expecting image file name and size")
    text = argv[-1]
    mode = arguments.get("preallocation", "off") or ""
    if mode not in MODES:
        raise Failure(f"Invalid preallocation mode '{mode}'")
    sign = {"+": 1, "-": -1}.get(text[:1], 0)
    amount = size_argument(text[1:] if sign else text, "image size")
    with open_disk(arguments.words[0], arguments, format=arguments.get("f"),
                   read_only=False) as device:
        old = device.size
        size = old + sign * amount if sign else amount
        if size <= 0:
            raise Failure("New image size must be positive")
        if size < old:
            if mode != "off":
                raise Failure("Preallocation can only be used for growing images")
            if "shrink" not in arguments:
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
