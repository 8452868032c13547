"""What the subcommands of pytcg-img share: arguments, opening, progress, failures."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pytcg.block.device import BlockError
from pytcg.block.open import open_image
from pytcg.cli import getopt_long
from pytcg.cli.program import program_name
from pytcg.typed import TYPE_CHECKING, NoReturn

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


class HelpWanted(Exception):
    """-h among a command's options."""


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
    """Parse options and words; ``--help`` or ``-h`` is all the help there is.

    ``spec`` lists the options: ``q f/format: image-opts``; a colon says it takes a value, and
    what stands first is the name by which Arguments knows it. --help and --object are always there.
    """
    wanted: dict[str, bool] = {"object": True}
    known_as: dict[str, str] = {}
    for item in ("h/help", *spec.split()):
        names = item.rstrip(":").split("/")
        wanted |= dict.fromkeys(names, item.endswith(":"))
        known_as |= dict.fromkeys(names, names[0])
    try:
        given, words = getopt_long.parse(argv, wanted)
    except getopt_long.OptionError as error:
        if error.what == error.MISSING:
            usage(f"missing argument for option '{error.word}'")
        usage(f"unrecognized option '{error.word}'")
    for name, value in given:
        if name == "h" or name == "help":
            raise HelpWanted
        if name == "object":
            _add_object(value)
    return Arguments([(known_as.get(name, name), value) for name, value in given], words)


def _add_object(text: str) -> None:
    from pytcg.tls.credentials import TlsError, add_object

    try:
        add_object(text)
    except TlsError as error:
        raise Failure(str(error)) from None


def one_word(arguments: Arguments, what: str = "Expecting one image file name") -> str:
    """The only word of a command line."""
    if len(arguments.words) != 1:
        usage(what)
    return arguments.words[0]


def cache_mode(arguments: Arguments, option: str, default: str, *, code: int = 1) -> str:
    """A -t or -T value."""
    mode = arguments.get(option, default) or default
    if mode not in CACHE_MODES:
        kind = "source " if option == "T" else ""
        raise Failure(f"Invalid {kind}cache option: {mode}", code)
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
    if format is not None and "image-opts" in arguments:
        raise Failure("--image-opts and --format are mutually exclusive", code)
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
            force_share="U" in arguments,
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


def size_argument(text: str, what: str, *, lowest: int = 0, highest: int = (1 << 63) - 1) -> int:
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
    if not lowest <= value <= highest:
        raise Failure(f"Invalid {what} specified. Must be between {lowest} and {highest}.")
    return value


class Progress:
    """The ``(12.34/100%)`` display of -p; without it SIGUSR1 asks for one on standard error."""

    def __init__(self, *, enabled: bool, step: float = 1.0) -> None:
        self.enabled = enabled
        self._step = step
        self._shown = 0.0
        self._asked = False
        if not enabled:
            import signal

            signal.signal(signal.SIGUSR1, self._ask)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.enabled:
            print()

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def __call__(self, done: int, total: int) -> None:
        percent = 100.0 * done / total if total else 100.0
        if abs(percent - self._shown) > self._step or percent in (0.0, 100.0):
            self._shown = percent
            self._show(percent)

    def _show(self, percent: float) -> None:
        if self.enabled:
            print(f"    ({percent:3.2f}/100%)\r", end="", flush=True)
        elif self._asked:
            self._asked = False
            print(f"    ({percent:3.2f}/100%)", file=sys.stderr)
