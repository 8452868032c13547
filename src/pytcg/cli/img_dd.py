"""pytcg-img dd."""

from __future__ import annotations

from pytcg.block.create import create_image, new_values
from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.memory import page_aligned
from pytcg.block.open import FORMATS, open_image
from pytcg.block.options import parse_size

from .img_common import Failure, open_disk, parse

SECTOR = 512


def run(argv: list[str]) -> int:
    """Copy a part of one image to a new one."""
    arguments = parse(argv, "h f: O: U help object: image-opts force-share")
    values: dict[str, str] = {}
    for word in arguments.words:
        key, equals, value = word.partition("=")
        if key not in ("if", "of", "bs", "count", "skip") or not equals:
            raise Failure(f"unrecognized operand {key}")
        values[key] = value
    if "if" not in values or "of" not in values:
        raise Failure("Must specify both input and output files")
    driver = arguments.get("O", "raw") or ""
    if driver not in FORMATS:
        raise Failure("Unknown file format")
    block = _number(values, "bs", 512)
    if not 0 < block < 1 << 31:
        raise Failure("Invalid bs specified. Must be between 1 and 2147483647.")
    with open_disk(values["if"], arguments, format=arguments.get("f")) as source:
        size = source.size
        if "count" in values:
            size = min(size, _number(values, "count", 0) * block)
        skipped = _number(values, "skip", 0) * block
        if skipped > source.size:
            skipped = source.size
        length = max(0, min(size, source.size - skipped) if "count" in values
                     else source.size - skipped)
        _copy(source, skipped, length, values["of"], driver, block)
    return 0


def _number(values: dict[str, str], key: str, default: int) -> int:
    try:
        return parse_size(values[key]) if key in values else default
    except ValueError:
        raise Failure(f"invalid number: '{values[key]}'") from None


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
