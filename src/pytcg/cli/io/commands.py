"""pytcg-io's commands that ask about the image or manage the session."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.options import LEAVES as PROTOCOLS
from pytcg.cli.block_tool import unfiltered
from pytcg.cli.img.info import describe, human_lines
from pytcg.cli.io import debug as debug
from pytcg.cli.io import read as read
from pytcg.cli.io import reopen as reopen
from pytcg.cli.io import write as write
from pytcg.cli.io.report import size_text
from pytcg.cli.io.session import (
    TOOL,
    CommandError,
    LoudError,
    OpenSettings,
    Session,
    ShowUsage,
    check_cache,
    check_discard,
    number,
    options_of,
    read_arguments,
)
from pytcg.cli.io.table import ANY, COMMANDS, command, find
from pytcg.cli.io.table import run_line as run_line

SECTOR = 512


@command("offset [count]", "checks if offset is allocated in the file", least=1, most=2,
         alias="a")
def alloc(session: Session, words: list[str]) -> None:
    """Count how many of the bytes (512) from an offset this image stores, its backing file
    apart."""
    offset = number(words[0])
    count = number(words[1]) if len(words) > 1 else SECTOR
    count = min(count, max(session.disk.size - offset, 0))
    stored = sum(length for _, length, here in _allocation(session.disk, offset, count) if here)
    print(f"{stored}/{count} bytes allocated at offset {size_text(offset)}")


@command("", "prints the allocated areas of a file")
def map_command(session: Session, words: list[str]) -> None:
    """Print which ranges this image stores itself."""
    runs = _allocation(session.disk, 0, session.disk.size)
    for here, group in itertools.groupby(runs, key=lambda run: run[2]):
        members = list(group)
        first, length = members[0][0], sum(run[1] for run in members)
        state = "    allocated" if here else "not allocated"
        print(f"{size_text(length)} (0x{length:x}) bytes {state} at offset "
              f"{size_text(first)} (0x{first:x})")


def _allocation(disk: BlockDevice, offset: int, count: int) -> Iterator[tuple[int, int, bool]]:
    """(offset, length, allocated in this layer) over a range."""
    end = offset + count
    while offset < end:
        try:
            extent = disk.layer_status(offset, end - offset)
        except BlockError as error:
            raise CommandError(f"Failed to get allocation status: {error}") from None
        yield offset, extent.length, extent.data or extent.zero
        offset += extent.length


@command("", "gets the length of the current file", alias="l")
def length(session: Session, words: list[str]) -> None:
    """Print how long the disk is."""
    print(size_text(session.disk.size))


@command("", "prints information about the current file", alias="i")
def info(session: Session, words: list[str]) -> None:
    """Print the format and its parameters."""
    disk = unfiltered(session.disk)
    print(f"format name: {disk.format_name}")
    if disk.format_name in PROTOCOLS:
        print(f"format name: {disk.format_name}")  # once more, as the protocol's
    if disk.format_name in ("null-co", "null-aio"):
        raise CommandError  # nothing is known of them
    if disk.file is not None and disk.file.format_name == "nbd":
        return  # a server tells nothing of its clusters
    print(f"cluster size: {size_text(disk.cluster_size)}")
    print(f"vm state offset: {size_text(_vm_state_offset(disk))}")
    lines = human_lines(describe(disk, disk.filename))
    heading = "Format specific information:"
    if heading in lines:
        print("\n".join(lines[lines.index(heading) :]))


def _vm_state_offset(disk: BlockDevice) -> int:
    """Where qcow2 keeps VM state: from the first L1 entry past the disk."""
    if not isinstance(disk, Qcow2Device):
        return 0
    entries = disk.cluster_size // (16 if disk.map.extended else 8)
    reach = disk.cluster_size * entries
    return -(-disk.size // reach) * reach


@command("[-m prealloc_mode] off", "truncates the current file at the given offset", least=1,
         most=3, alias="t", writes=True)
def truncate(session: Session, words: list[str]) -> None:
    """Give the disk another length; -m off, metadata, falloc or full says how to fill it."""
    arguments = read_arguments("truncate", words, "m:")
    mode = arguments.values.get("m", "off")
    if mode not in ("off", "metadata", "falloc", "full"):
        raise LoudError(f"{TOOL}: Invalid preallocation mode '{mode}'")
    if len(arguments.rest) != 1:
        raise ShowUsage
    size = number(arguments.rest[0])
    try:
        session.disk.truncate(size, preallocation=mode)
    except BlockError as error:
        raise LoudError(f"{TOOL}: {error}") from None


def _open_flag(settings: OpenSettings, letter: str, value: str) -> None:
    match letter:
        case "r":
            settings.read_only = True
        case "s":
            settings.snapshot = True
        case "n":
            settings.cache = "none"
        case "U":
            settings.force_share = True
        case "t":
            settings.cache = check_cache(value)
        case "d":
            settings.discard = check_discard(value)
        case "o":
            settings.extra.update(options_of(value))
        case "C":
            settings.copy_on_read = True
        case "i" if value not in ("threads", "native", "io_uring"):
            raise LoudError(f"{TOOL}: Invalid aio option: {value}")


@command("[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
         "open the file specified by path", least=1, most=ANY, alias="o", needs_file=False,
         name="open")
def open_command(session: Session, words: list[str]) -> None:
    """Open an image: -r read-only, -s with a temporary overlay, -n without the host's cache,
    -U beside other users, -C keeping what is read from the backing file,
    -t and -d with a cache and a discard mode, -o with driver options."""
    arguments = read_arguments("open", words, "rsCnkUi:t:d:o:")
    settings = OpenSettings()
    for letter in sorted(arguments.flags):
        _open_flag(settings, letter, arguments.values[letter])
    if len(arguments.rest) > 1 or (not arguments.rest and not settings.extra):
        raise ShowUsage
    settings.name = arguments.rest[0] if arguments.rest else None
    session.open(settings)


@command("", "close the current open file", alias="c")
def close(session: Session, words: list[str]) -> None:
    """Close the image; another can be opened."""
    session.close()


@command("", "exit the program", most=ANY, alias="q", needs_file=False)
def quit_command(session: Session, words: list[str]) -> None:
    """Close the image and leave."""
    session.finished = True


@command("milliseconds", "waits for the given value in milliseconds", least=1, most=1)
def sleep(session: Session, words: list[str]) -> None:
    """Wait."""
    try:
        pause = int(words[0], 0)
        if not 0 <= pause < 1 << 31:
            raise ValueError
    except ValueError:
        raise CommandError(f"{words[0]} is not a valid number") from None
    time.sleep(pause / 1000)


@command("signal", "raises a signal", least=1, most=1, needs_file=False)
def sigraise(session: Session, words: list[str]) -> None:
    """Send a signal, by its number, to this very process: `sigraise 9` is a sudden death."""
    wanted = number(words[0])
    if wanted > signal.NSIG:
        raise CommandError(f"signal argument '{words[0]}' is too large to be a valid signal number")
    os.kill(os.getpid(), wanted)


@command("", "simulate a program crash using abort(3)", needs_file=False)
def abort(session: Session, words: list[str]) -> None:
    """Die on the spot."""
    os.abort()


@command("[command]", "help for one or all commands", most=1, alias="?", needs_file=False)
def help_command(session: Session, words: list[str]) -> None:
    """Say what a command does."""
    if not words:
        for name in sorted(COMMANDS):
            print(COMMANDS[name].help_line)
        print("\nUse 'help commandname' for extended help.")
        return
    found = find(words[0])
    if found is None:
        raise CommandError(f"command {words[0]} not found")
    print(found.help_as(words[0]))
    if found.detail:
        print()
        for line in found.detail.splitlines():
            print(f" {line.strip()}")
        print()
