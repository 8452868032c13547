"""What the block tools share: options in getopt_long's manner, errors, the probing warning."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Sequence

from pytcg.block.device import BlockDevice
from pytcg.block.filters import Filter
from pytcg.typed import NoReturn


class ToolError(Exception):
    """Ends a tool: the text goes to stderr after its name, exit status 1."""


class UsageError(ToolError):
    """A command line that can't be understood."""


def parse_argv(argv: Sequence[str], short: str, long: Sequence[str]
               ) -> tuple[list[tuple[str, str]], list[str]]:
    """Options as (name, value), with the long ones unabbreviated, and the other arguments.

    `short` and `long` are written as for the standard getopt module.
    """
    try:
        return getopt.gnu_getopt(list(argv), short, list(long))
    except getopt.GetoptError as error:
        raise UsageError(_in_glibc_words(error)) from None


def _in_glibc_words(error: getopt.GetoptError) -> str:
    name = error.opt
    shown = f"'--{name}'" if len(name) > 1 else f"-- '{name}'"
    if "requires argument" in error.msg:
        if len(name) > 1:
            return f"option {shown} requires an argument"
        return f"option requires an argument {shown}"
    if "must not have" in error.msg:
        return f"option {shown} doesn't allow an argument"
    if "unique prefix" in error.msg:
        return f"option {shown} is ambiguous"
    return f"unrecognized option {shown}" if len(name) > 1 else f"invalid option {shown}"


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
