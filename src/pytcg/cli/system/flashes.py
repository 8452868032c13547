"""Flash images of the command line, opened: `-pflash`, `-drive if=pflash`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from pytcg.block.open import open_image
from pytcg.cli.system.option_values import Options
from pytcg.machine.board.flash import FlashImage
from pytcg.machine.roms import RomError

MOST: Final = 2
ON: Final = ("on", "yes", "true")


def open_flashes(options: Options, stack: ExitStack) -> list[FlashImage]:
    """In the order of their units; closed, and so written, when all is over."""
    places: dict[int, dict[str, str]] = {}
    for values in options.flashes:
        unit = int(values.get("unit") or len(places))
        if unit in places or unit >= MOST:
            raise RomError(f"flash '{values.get('file')}': unit {unit} is taken or isn't there")
        places[unit] = values
    if places and 0 not in places:
        raise RomError("flash: unit 0, which holds the firmware, is missing")
    return [_open(places[unit], stack) for unit in sorted(places)]


def _open(values: dict[str, str], stack: ExitStack) -> FlashImage:
    read_only = values.get("readonly", "off") in ON
    device = open_image(values["file"], format=values.get("format", "raw"), read_only=read_only)
    stack.callback(device.close)
    return FlashImage(device, values["file"], read_only)
