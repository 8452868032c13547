"""A pytcg-io session: the open image, requests in flight, and how arguments are read."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import CACHE_MODES, open_image
from pytcg.block.options import merge, parse_keyval, parse_size, place_filename, unflatten
from pytcg.cli.block_tool import UsageError, parse_argv, warn_if_probed
from pytcg.cli.io.report import report_lines
from pytcg.cli.program import program_name
from pytcg.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

TOOL = program_name("pytcg-io")
MAX_LENGTH = (1 << 31) - 512
SECTOR = 512
_MAX_VALUE = (1 << 63) - 1
_MAX_IN_FLIGHT = 64


class CommandError(Exception):
    """A command that did not succeed; the text, if any, goes to stdout."""


class LoudError(CommandError):
    """The same, but said on stderr."""


class ShowUsage(CommandError):
    """The command's one line of help is the answer."""


@dataclass
class OpenSettings:
    """How an image is opened; `reopen` changes some and opens it again."""

    name: str | None = None
    image_format: str | None = None
    read_only: bool = False
    snapshot: bool = False
    cache: str = "writeback"
    discard: str = "unmap"
    force_share: bool = False
    image_opts: bool = False
    copy_on_read: bool = False
    extra: dict[str, str] = field(default_factory=dict)

    def open(self) -> BlockDevice:
        """Open the image. Raises BlockError."""
        name: str | dict[str, Any] | None = self.name
        if self.extra:
            name = unflatten(self.extra)
            if self.name is not None and self.image_opts:
                name = merge(name, unflatten(parse_keyval(self.name)))
            elif self.name is not None:
                name = place_filename(name, self.name)
        if name is None or name == {}:
            raise BlockError("Must specify either driver or file", errno.EINVAL)
        device = open_image(
            name, format=self.image_format, read_only=self.read_only, snapshot=self.snapshot,
            cache=self.cache, discard=self.discard, force_share=self.force_share,
            image_opts=self.image_opts,
        )
        if self.copy_on_read:
            return self._copying(device)
        return device

    @staticmethod
    def _copying(device: BlockDevice) -> BlockDevice:
        from pytcg.block.filters.copy_on_read import CopyOnRead

        try:
            if device.read_only:
                raise BlockError("Can't use copy-on-read on read-only device", errno.EINVAL)
            return CopyOnRead(device)
        except BlockError:
            device.close()
            raise


def check_cache(mode: str) -> str:
    """A cache mode, or an error."""
    if mode not in CACHE_MODES:
        raise LoudError(f"{TOOL}: Invalid cache option: {mode}")
    return mode


def check_discard(mode: str) -> str:
    """A discard mode, or an error."""
    if mode not in ("ignore", "off", "unmap", "on"):
        raise LoudError(f"{TOOL}: Invalid discard option: {mode}")
    return mode


class Session:
    """What commands act on."""

    def __init__(self) -> None:
        self.device: BlockDevice | None = None
        self.settings = OpenSettings()
        self.finished = False
        self._executor: ThreadPoolExecutor | None = None
        self._in_flight: deque[Future[list[str]]] = deque()

    def open(self, settings: OpenSettings) -> None:
        """Open an image. Raises LoudError."""
        if self.device is not None:
            raise LoudError(f"{TOOL}: file open already, try 'help close'")
        try:
            self.device = settings.open()
        except BlockError as error:
            named = settings.name is not None and not settings.image_opts
            what = f"can't open device {settings.name}" if named else "can't open"
            raise LoudError(f"{TOOL}: {what}: {error}") from None
        self.settings = settings
        warn_if_probed(self.device, settings.name or "")

    def reopen(self, after: OpenSettings) -> None:
        """Open the image again with other settings; the old ones stay if that fails."""
        before = self.settings
        if before.snapshot:
            raise LoudError(f"{TOOL}: a temporary snapshot can't be reopened")
        self.close()
        try:
            self.device = after.open()
            self.settings = after
        except BlockError as error:
            self.open(before)
            _, refused, option = str(error).partition("support the option ")
            message = f"Cannot change the option {option}" if refused else str(error)
            raise LoudError(f"{TOOL}: {message}") from None

    def close(self) -> None:
        """Finish what is in flight and close the image."""
        self.drain()
        if self.device is not None:
            device, self.device = self.device, None
            try:
                device.close()
            except BlockError as error:
                raise LoudError("\n".join(f"{TOOL}: {line}" for line in str(error).splitlines())
                                ) from None

    def shutdown(self) -> None:
        """End the session."""
        self.close()
        if self._executor is not None:
            self._executor.shutdown()

    @property
    def disk(self) -> BlockDevice:
        """The image, which a command's flags say is open."""
        assert self.device is not None
        return self.device

    # ---- requests in flight ----

    def submit(self, work: Callable[[], list[str]]) -> None:
        """Start a request beside the commands; its lines are printed when it is done."""
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(16, "aio")
        if len(self._in_flight) >= _MAX_IN_FLIGHT:
            self._print(self._in_flight.popleft())
        self._in_flight.append(self._executor.submit(work))

    def reap(self) -> None:
        """Print what has been done meanwhile, in order."""
        while self._in_flight and self._in_flight[0].done():
            self._print(self._in_flight.popleft())

    def drain(self) -> None:
        """Wait for all requests."""
        while self._in_flight:
            self._print(self._in_flight.popleft())

    @staticmethod
    def _print(future: Future[list[str]]) -> None:
        for line in future.result():
            print(line)


# ---- arguments ----


@dataclass
class Arguments:
    """A command's options and the rest."""

    flags: set[str]
    values: dict[str, str]
    rest: list[str]


def read_arguments(name: str, words: Sequence[str], short: str) -> Arguments:
    """Split a command's words as getopt does. Raises ShowUsage."""
    try:
        options, rest = parse_argv(words, short, ())
    except UsageError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise ShowUsage from None
    letters = {option[1:] for option, _ in options}
    return Arguments(letters, {option[1:]: value for option, value in options}, rest)


def number(text: str) -> int:
    """An offset or a length with an optional suffix."""
    try:
        value = parse_size(text)
    except ValueError:
        raise CommandError("Parsing error: non-numeric argument, or extraneous/unrecognized "
                           f"suffix -- {text}") from None
    if value > _MAX_VALUE:
        raise CommandError(f"Parsing error: argument too large -- {text}")
    return value


def length_of(text: str) -> int:
    """A length that one request may have."""
    value = number(text)
    if value > MAX_LENGTH:
        raise CommandError(f"length cannot exceed {MAX_LENGTH}, given {text}")
    return value


def pattern(text: str) -> int:
    """A pattern byte."""
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise CommandError(f"{text} is not a valid pattern byte")
    return value


def options_of(text: str) -> dict[str, str]:
    """The key=value list after -o."""
    return parse_keyval(text)


def timed(name: str, verb: str, offset: int, count: int, arguments: Arguments,
          work: Callable[[], list[str]]) -> list[str]:
    """Do `work` and return its lines with the report; CommandError if it fails."""
    start = time.perf_counter()
    try:
        lines = work()
    except BlockError as error:
        raise CommandError(f"{name} failed: {os.strerror(error.errno)}") from None
    seconds = time.perf_counter() - start
    if "q" in arguments.flags:
        return lines
    return lines + report_lines(verb, seconds, offset, count, machine="C" in arguments.flags)


def injected(what: str) -> None:
    """What -i says; there are no block statistics here that it could count in."""
    print(f"injecting invalid {what} request")


def guarded(work: Callable[[], list[str]]) -> list[str]:
    """The lines of a request in flight, whose failure nobody waits for."""
    try:
        return work()
    except CommandError as error:
        return [str(error)]


def check_in_range(disk: BlockDevice, offset: int, length: int) -> None:
    """A request past the end of the disk is an I/O error, whatever the format says."""
    if offset + length > disk.size:
        raise BlockError("Input/output error", errno.EIO)


def vector_of(arguments: Arguments) -> tuple[int, int]:
    """(offset, length) of an offset and adjacent lengths."""
    if len(arguments.rest) < 2:
        raise ShowUsage
    offset = number(arguments.rest[0])
    length = sum(length_of(text) for text in arguments.rest[1:])
    if length > (1 << 31) - 1:
        raise CommandError("Argument list exceeds maximum size 2147483647")
    return offset, length


def check_sectors(offset: int, length: int) -> None:
    """Compressed clusters and VM state are addressed in sectors."""
    if offset % SECTOR or length % SECTOR:
        bad, what = (offset, "offset") if offset % SECTOR else (length, "count")
        raise CommandError(f"{bad} is not a sector-aligned value for '{what}'")
