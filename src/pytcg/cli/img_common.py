"""What the subcommands of pytcg-img share: arguments, opening, progress, failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from pytcg.block.device import BlockError
from pytcg.block.open import open_image
from pytcg.typed import TYPE_CHECKING, NoReturn

from .program import program_name

if TYPE_CHECKING:
    from pytcg.block.device import BlockDevice

PROGRAM = program_name("pytcg-img")
TRY_HELP = f"Try '{PROGRAM} --help' for more information"
CACHE_MODES = ("none", "off", "writeback", "writethrough", "directsync", "unsafe")


class Failure(Exception):
    """Ends the program with a message and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def usage(message: str) -> NoReturn:
    """Wrong arguments: refer to --help."""
    raise Failure(f"{message}\n{TRY_HELP}")


class Arguments:
    """A parsed command line: options that were given, in order, and the other words."""

    def __init__(self, given: list[tuple[str, str]], words: list[str]) -> None:
        self.given = given
        self.words = words

    def __contains__(self, name: str) -> bool:
        return any(option == name for option, _ in self.given)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The last value given for an option."""
        for option, value in reversed(self.given):
            if option == name:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """All values given for an option."""
        return [value for option, value in self.given if option == name]


def parse(argv: Sequence[str], spec: str) -> Arguments:
    """Parse as getopt_long does, options and words mixed.

    ``spec`` lists the options: ``q f: image-opts output:``; a colon says it takes a value.
    """
    wanted = {item.rstrip(":"): item.endswith(":") for item in spec.split()}
    given: list[tuple[str, str]] = []
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word.startswith("--"):
            _parse_long(word[2:], wanted, rest, given)
        elif word.startswith("-") and len(word) > 1:
            _parse_short(word[1:], wanted, rest, given)
        else:
            words.append(word)
    return Arguments(given, words)


def _parse_long(
    text: str, wanted: dict[str, bool], rest: list[str], given: list[tuple[str, str]]
) -> None:
    name, equals, value = text.partition("=")
    found = [option for option in wanted if len(option) > 1 and option.startswith(name)]
    if name in found:
        found = [name]
    if not found:
        usage(f"unrecognized option '--{name}'")
    if len(found) > 1:
        usage(f"option '--{name}' is ambiguous")
    name = found[0]
    if wanted[name] and not equals:
        if not rest:
            usage(f"option '--{name}' requires an argument")
        value = rest.pop(0)
    elif equals and not wanted[name]:
        usage(f"option '--{name}' doesn't allow an argument")
    given.append((name, value))


def _parse_short(
    text: str, wanted: dict[str, bool], rest: list[str], given: list[tuple[str, str]]
) -> None:
    while text:
        name, text = text[0], text[1:]
        if name not in wanted:
            usage(f"invalid option -- '{name}'")
        value = ""
        if wanted[name]:
            if not text and not rest:
                usage(f"option requires an argument -- '{name}'")
            value, text = (text, "") if text else (rest.pop(0), "")
        given.append((name, value))


def one_word(arguments: Arguments, what: str = "Expecting one image file name") -> str:
    """The only word of a command line."""
    if len(arguments.words) != 1:
        usage(what)
    return arguments.words[0]


def cache_mode(arguments: Arguments, option: str, default: str) -> str:
    """A -t or -T value."""
    mode = arguments.get(option, default) or default
    if mode not in CACHE_MODES:
        kind = "source " if option == "T" else ""
        raise Failure(f"Invalid {kind}cache option: {mode}")
    return mode


def output_format(arguments: Arguments) -> str:
    """The --output value: human or json."""
    value = arguments.get("output", "human") or ""
    if value not in ("human", "json"):
        raise Failure("--output must be used with human or json as argument.")
    return value


def warn(message: str) -> None:
    """A warning on standard error."""
    print(f"{PROGRAM}: warning: {message}", file=sys.stderr)


def open_disk(
    name: str,
    arguments: Arguments,
    *,
    format: str | None = None,
    read_only: bool = True,
    cache: str = "writeback",
    no_backing: bool = False,
    check: bool = False,
    code: int = 1,
) -> BlockDevice:
    """Open an image named on the command line; Failure in QEMU's words."""
    if format is not None:
        from pytcg.block.open import known_driver

        if not known_driver(format):
            raise Failure(f"Could not open '{name}': Unknown driver '{format}'", code)
    try:
        device = open_image(
            name,
            format=format,
            read_only=read_only,
            cache=cache,
            no_backing=no_backing,
            check=check,
            force_share="U" in arguments or "force-share" in arguments,
            image_opts="image-opts" in arguments,
        )
    except BlockError as error:
        raise Failure(f"Could not open '{name}': {error}", code) from None
    if device.probed and device.format_name == "raw" and not read_only:
        print(
            f"WARNING: Image format was not specified for '{name}' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.",
            file=sys.stderr,
        )
    return device


def size_argument(text: str, what: str) -> int:
    """A size in bytes, k, M, G, T, P or E."""
    from pytcg.block.options import parse_size

    try:
        value = parse_size(text)
    except ValueError:
        raise Failure(
            f"Invalid {what} specified. You may use k, M, G, T, P or E suffixes for\n"
            f"{PROGRAM}: kilobytes, megabytes, gigabytes, terabytes, petabytes and "
            "exabytes."
        ) from None
    if value >> 63:
        raise Failure(f"Invalid {what} specified. Must be between 0 and {(1 << 63) - 1}.")
    return value


class Progress:
    """The ``(12.34/100%)`` display of -p."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._last = 0.0
        if enabled:
            self._show(0.0)

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self._enabled and now - self._last > 0.1:
            self._last = now
            self._show(100.0 * done / total if total else 100.0)

    def finish(self) -> None:
        """Show 100 % and end the line."""
        if self._enabled:
            self._show(100.0)
            print()

    def _show(self, percent: float) -> None:
        print(f"    ({percent:3.2f}/100%)\r", end="", flush=True)
