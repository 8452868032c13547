"""pytcg-io: exercise a disk image by commands, with qemu-io's command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pytcg import __version__
from pytcg.block.device import BlockError
from pytcg.cli.block_tool import ToolError, UsageError, fail, parse_argv
from pytcg.cli.io.commands import run_line
from pytcg.cli.io.session import (
    TOOL,
    CommandError,
    LoudError,
    OpenSettings,
    Session,
    check_cache,
    check_discard,
)

_SHORT = "hVc:d:f:rsnCmki:t:T:U"
_LONG = (
    "help", "version", "cmd=", "format=", "read-only", "snapshot", "nocache", "copy-on-read",
    "misalign", "native-aio", "aio=", "discard=", "cache=", "trace=", "force-share", "object=",
    "image-opts",
)
_LETTERS = {
    "--help": "-h", "--version": "-V", "--cmd": "-c", "--format": "-f", "--read-only": "-r",
    "--snapshot": "-s", "--nocache": "-n", "--copy-on-read": "-C", "--misalign": "-m",
    "--native-aio": "-k", "--aio": "-i", "--discard": "-d", "--cache": "-t", "--trace": "-T",
    "--force-share": "-U",
}
_HELP = f"""usage: {TOOL} [OPTIONS] [-c COMMAND]... [FILE]
Read, write and inspect a disk image by commands; without -c they come from stdin.

  -c, --cmd COMMAND      run a command (again for more); '-c help' lists them
  -f, --format FORMAT    image format
  -r, --read-only        open for reading
  -s, --snapshot         keep writes in a temporary overlay
  -n, --nocache          same as -t none
  -t, --cache MODE       none, writeback, writethrough, directsync, unsafe
  -C, --copy-on-read     keep what is read from the backing file
  -d, --discard MODE     ignore, unmap (the default here)
  -i, --aio MODE         threads, native, io_uring (no difference here)
  -k, --native-aio       same as -i native
  -m, --misalign         accepted; buffers need no alignment
  -U, --force-share      open beside other users, with -r
      --image-opts       FILE is a list of key=value options
      --object TYPE,…    TLS credentials for NBD
  -h, --help             this text
  -V, --version          name and version"""


@dataclass
class Settings:
    """The command line, understood."""

    image: OpenSettings = field(default_factory=OpenSettings)
    commands: list[str] = field(default_factory=list)


def parse_settings(argv: Sequence[str]) -> Settings:
    """Understand the command line. Raises ToolError, LoudError."""
    options, files = parse_argv(argv, _SHORT, _LONG)
    settings = Settings()
    for name, value in options:
        _take_option(settings, _LETTERS.get(name, name), value)
    if len(files) > 1:
        raise UsageError("at most one image may be given")
    if files:
        settings.image.name = files[0]
    if settings.image.image_opts and settings.image.image_format:
        raise ToolError("--image-opts and -f are mutually exclusive")
    return settings


def _add_object(text: str) -> None:
    from pytcg.tls.credentials import TlsError, add_object

    try:
        add_object(text)
    except TlsError as error:
        raise ToolError(error) from None


def _take_option(settings: Settings, name: str, value: str) -> None:
    image = settings.image
    match name:
        case "-c":
            settings.commands.append(value)
        case "-f":
            image.image_format = value
        case "-r":
            image.read_only = True
        case "-s":
            image.snapshot = True
        case "-n":
            image.cache = "none"
        case "-t":
            image.cache = check_cache(value)
        case "-d":
            image.discard = check_discard(value)
        case "-U":
            image.force_share = True
        case "--image-opts":
            image.image_opts = True
        case "--object":
            _add_object(value)
        case "-i" if value not in ("threads", "native", "io_uring"):
            raise ToolError(f"Invalid aio option: {value}")
        case "-C":
            image.copy_on_read = True
        case "-T":
            raise ToolError(f"{name} is not supported")
        case "-h" | "-V":
            print(_HELP if name == "-h" else f"{TOOL} {__version__}")
            raise SystemExit(0)


def _prompted_lines() -> Iterator[str]:
    while True:
        try:
            yield input(f"{TOOL}> ")
        except EOFError:
            return


def run_commands(session: Session, lines: Iterator[str]) -> bool:
    """Run commands until they end or `quit`; whether all succeeded."""
    succeeded = True
    for line in lines:
        succeeded &= _run_one(session, line)
        session.reap()
        sys.stdout.flush()
        if session.finished:
            break
    return succeeded


def _run_one(session: Session, line: str) -> bool:
    try:
        return run_line(session, line)
    except CommandError as error:
        stream = sys.stderr if isinstance(error, LoudError) else sys.stdout
        if str(error):
            print(error, file=stream)
    except (BlockError, MemoryError) as error:
        print(f"{TOOL}: {error or 'out of memory'}", file=sys.stderr)
    return False


def run(settings: Settings) -> int:
    """Open the image, run the commands; the exit status."""
    session = Session()
    if settings.image.name is not None:
        session.open(settings.image)
    try:
        lines = iter(settings.commands) if settings.commands else _prompted_lines()
        return 0 if run_commands(session, lines) else 1
    finally:
        session.shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    try:
        return run(parse_settings(sys.argv[1:] if argv is None else argv))
    except LoudError as error:
        print(error, file=sys.stderr)
        return 1
    except UsageError as error:
        fail(TOOL, f"{error}\nTry '{TOOL} --help' for more information.")
    except (ToolError, BlockError) as error:
        fail(TOOL, error)
    except BrokenPipeError:
        sys.stderr.close()  # or the interpreter complains once more at exit
        return 1
