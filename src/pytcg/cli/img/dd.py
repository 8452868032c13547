"""pytcg-img dd."""

from __future__ import annotations

import sys

from pytcg.block.create import create_image, is_driver_name, new_values
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.memory import page_aligned
from pytcg.block.open import open_image
from pytcg.cli.img.common import PROGRAM, Failure, open_disk, parse, size_argument

SECTOR = 512


def run(argv: list[str]) -> int:
    """Copy a part of one image to a new one."""
    arguments = parse(argv, "f: O: U/force-share image-opts")
    values: dict[str, str] = {}
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if key not in ("if", "of", "bs", "count", "skip") or not equals:
            raise Failure(f"unrecognized operand {key}")
        values[key] = value
    if "if" not in values or "of" not in values:
        raise Failure("Must specify both input and output files")
    driver = arguments.get("O", "raw") or ""
    if not is_driver_name(driver):
        raise Failure("Unknown file format")
    block = size_argument(values.get("bs", "512"), "bs", lowest=1, highest=(1 << 31) - 1)
    count, skip = (size_argument(values.get(key, "0"), key) for key in ("count", "skip"))
    with open_disk(values["if"], arguments, format=arguments.get("f")) as source:
        size = source.size
        if "count" in values:
            size = min(size, count * block)
        skipped = skip * block
        if skipped > source.size:
            print(f"{PROGRAM}: {values['if']}: cannot skip to specified offset", file=sys.stderr)
            skipped = source.size
        length = max(0, min(size, source.size - skipped) if "count" in values
                     else source.size - skipped)
        _copy(source, skipped, length, values["of"], driver, block)
    return 0


def _copy(source: BlockDevice, start: int, length: int, output: str, driver: str, block: int
          ) -> None:
    try:
        values = new_values(driver, output)
    except BlockError as error:
        raise Failure(str(error)) from None
    try:
        values.set("size", str(length))
        create_image(output, driver, values)
    except BlockError as error:
        raise Failure(f"{output}: error while creating output image: {error}") from None
    try:
        with open_image(output, format=driver) as target:
            buffer = page_aligned(min(block, 1 << 24))
            position = 0
            while position < length:
                view = memoryview(buffer)[: min(len(buffer), length - position)]
                source.read_into(start + position, view)
                target.pwrite(position, view)
                position += len(view)
            target.flush()
    except BlockError as error:
        raise Failure(f"error while writing to output image file: {error}") from None
