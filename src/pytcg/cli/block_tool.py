"""What the block tools share: options in getopt_long's manner, errors, the probing warning."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pytcg.block.device import BlockDevice
from pytcg.block.filters.filter import Filter
from pytcg.cli import getopt_long
from pytcg.typed import NoReturn


class ToolError(Exception):
    """Ends a tool: the text goes to stderr after its name, exit status 1."""


class UsageError(ToolError):
    """A command line that can't be understood."""


def parse_argv(argv: Sequence[str], short: str, long: Sequence[str]
               ) -> tuple[list[tuple[str, str]], list[str]]:
    """Options as (name, value) with their dashes, long ones unabbreviated, and the other words.

    ``short`` is ``ab:c``, a colon after what takes a value; ``long`` likewise ``("all=", "help")``.
    """
    wanted = {letter: short[index + 1 : index + 2] == ":"
              for index, letter in enumerate(short) if letter != ":"}
    wanted |= {name.removesuffix("="): name.endswith("=") for name in long}
    try:
        given, words = getopt_long.parse(argv, wanted)
    except getopt_long.OptionError as error:
        raise UsageError(_in_glibc_words(error)) from None
    return [(f"--{name}" if len(name) > 1 else f"-{name}", value) for name, value in given], words


def _in_glibc_words(error: getopt_long.OptionError) -> str:
    if len(error.name) == 1:
        what = "option requires an argument" if error.what == error.MISSING else "invalid option"
        return f"{what} -- '{error.name}'"
    shown = f"'--{error.name}'"
    return {error.MISSING: f"option {shown} requires an argument",
            error.EXTRA: f"option {shown} doesn't allow an argument",
            error.AMBIGUOUS: f"option {shown} is ambiguous",
            }.get(error.what, f"unrecognized option {shown}")


def fail(tool: str, message: object) -> NoReturn:
    """One line on stderr, and the end."""
    print(f"{tool}: {message}", file=sys.stderr)
    raise SystemExit(1)


def unfiltered(device: BlockDevice) -> BlockDevice:
    """The image below the filters that drive options put over it."""
    while isinstance(device, Filter):
        device = device.below
    return device


def warn_if_probed(device: BlockDevice, name: str) -> None:
    """A guessed raw format is dangerous: a guest could write another format's header."""
    if device.probed and device.format_name == "raw" and not device.read_only:
        print(
            f"WARNING: Image format was not specified for '{name}' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.",
            file=sys.stderr,
        )
