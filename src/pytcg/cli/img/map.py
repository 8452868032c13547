"""pytcg-img map."""

from __future__ import annotations

from pytcg.block.device import BlockDevice, BlockError, Extent, merge_extents
from pytcg.cli.img.common import Failure, one_word, open_disk, output_format, parse, size_argument


def run(argv: list[str]) -> int:
    """Show where an image's bytes are."""
    arguments = parse(argv, "f/format: U/force-share image-opts output: s/start-offset: "
                            "l/max-length:")
    start, length = 0, -1
    text = arguments.get("s")
    if text is not None:
        start = size_argument(text, "start offset")
    text = arguments.get("l")
    if text is not None:
        length = size_argument(text, "max length")
    name = one_word(arguments)
    as_json = output_format(arguments) == "json"
    with open_disk(name, arguments, format=arguments.get("f")) as device:
        end = device.size if length < 0 else min(device.size, start + length)
        try:
            _print_json(device, start, end) if as_json else _print_human(device, start, end)
        except BlockError as error:
            raise Failure(f"Failed to read image metadata: {error}") from None
    return 0


def _extents(device: BlockDevice, start: int, end: int) -> list[tuple[int, Extent]]:
    def walk() -> list[Extent]:
        found, offset = [], start
        while offset < end:
            extent = device.status_at(offset, end - offset)
            found.append(extent._replace(compressed=False) if extent.compressed else extent)
            offset += extent.length
        return found

    placed, offset = [], start
    for extent in merge_extents(iter(walk())):
        placed.append((offset, extent))
        offset += extent.length
    return placed


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _print_json(device: BlockDevice, start: int, end: int) -> None:
    lines = []
    for offset, extent in _extents(device, start, end):
        line = (f'{{ "start": {offset}, "length": {extent.length}, "depth": {extent.depth}, '
                f'"present": {_flag(extent.present)}, "zero": {_flag(extent.zero)}, '
                f'"data": {_flag(extent.data)}')
        if extent.offset is not None:
            line += f', "offset": {extent.offset}'
        lines.append(line + "}")
    if not lines:  # an empty range is one entry too
        lines.append(f'{{ "start": {start}, "length": 0, "depth": 0, "present": false, '
                     '"zero": false, "data": false}')
    print("[" + ",\n".join(lines) + "]")


def _print_human(device: BlockDevice, start: int, end: int) -> None:
    print(f"{'Offset':<16}{'Length':<16}{'Mapped to':<16}{'File'}")
    for offset, extent in _extents(device, start, end):
        if not extent.data or extent.zero:
            continue
        if extent.offset is None or extent.filename is None:
            raise Failure("File contains external, encrypted or compressed clusters.")
        columns = "".join(f"{_hex(value):<16}" for value in (offset, extent.length,
                                                             extent.offset))
        print(f"{columns}{extent.filename}")


def _hex(value: int) -> str:
    """printf's %#x, which gives a zero no prefix."""
    return hex(value) if value else "0"
