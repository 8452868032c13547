"""pytcg-io's commands that read."""

from __future__ import annotations

from pytcg.block.device import BlockDevice
from pytcg.cli.io.report import dump_lines
from pytcg.cli.io.session import (
    Arguments,
    CommandError,
    Session,
    ShowUsage,
    check_in_range,
    check_sectors,
    guarded,
    injected,
    length_of,
    number,
    pattern,
    read_arguments,
    timed,
    vector_of,
)
from pytcg.cli.io.table import ANY, command


@command("[-abCqv] [-P pattern [-s off] [-l len]] off len",
         "reads a number of bytes at a specified offset", least=2, most=ANY, alias="r")
def read(session: Session, words: list[str]) -> None:
    """Read a range, and with -P compare it (from -s, for -l bytes) with a pattern byte.
    -v dumps it, -q prints no report, -C prints the report for machines."""
    arguments = read_arguments("read", words, "bCl:pP:qs:v")
    expected = pattern(arguments.values["P"]) if "P" in arguments.flags else None
    skip = number(arguments.values["s"]) if "s" in arguments.flags else 0
    checked = number(arguments.values["l"]) if "l" in arguments.flags else None
    if len(arguments.rest) != 2 or (expected is None and arguments.flags & {"s", "l"}):
        raise ShowUsage
    offset, length = number(arguments.rest[0]), length_of(arguments.rest[1])
    if checked is None:
        checked = max(length - skip, 0)
    if skip + checked > length:
        raise CommandError("pattern verification range exceeds end of read data")
    if "b" in arguments.flags:
        check_sectors(offset, length)
    window = slice(skip, skip + checked)
    _finish(_read(session.disk, "read", offset, length, arguments, expected, window))


@command("[-Cqv] [-P pattern] off len [len..]",
         "reads a number of bytes at a specified offset", least=2, most=ANY)
def readv(session: Session, words: list[str]) -> None:
    """Read adjacent ranges in one request; options as for read."""
    arguments = read_arguments("readv", words, "CP:qv")
    expected = pattern(arguments.values["P"]) if "P" in arguments.flags else None
    offset, length = vector_of(arguments)
    _finish(_read(session.disk, "readv", offset, length, arguments, expected, slice(None)))


@command("[-Ciqv] [-P pattern] off len [len..]",
         "asynchronously reads a number of bytes", least=2, most=ANY)
def aio_read(session: Session, words: list[str]) -> None:
    """Start a read and go on; aio_flush waits for it. Errors and mismatches are printed, but the
    command has succeeded by then. -i only counts as an invalid request."""
    arguments = read_arguments("aio_read", words, "CP:iqv")
    expected = pattern(arguments.values["P"]) if "P" in arguments.flags else None
    if "i" in arguments.flags:
        injected("read")
        return
    offset, length = vector_of(arguments)
    disk = session.disk

    def work() -> list[str]:
        return _read(disk, "readv", offset, length, arguments, expected, slice(None))[0]

    session.submit(lambda: guarded(work))


def _read(disk: BlockDevice, name: str, offset: int, length: int, arguments: Arguments,
          expected: int | None, window: slice) -> tuple[list[str], bool]:
    """Lines to print, and whether the pattern matched."""
    matched = True

    def work() -> list[str]:
        nonlocal matched
        buffer = memoryview(bytearray(length))
        if "b" in arguments.flags:
            disk.read_vm_state(offset, buffer)
        else:
            check_in_range(disk, offset, length)
            disk.read_into(offset, buffer)
        lines: list[str] = []
        if expected is not None and not _is_filled(buffer[window], expected):
            matched = False
            where = offset + (window.start or 0)
            lines.append(f"Pattern verification failed at offset {where}, "
                         f"{len(buffer[window])} bytes")
        if "v" in arguments.flags and "q" not in arguments.flags:
            lines += dump_lines(buffer, offset)
        return lines

    return timed(name, "read", offset, length, arguments, work), matched


def _finish(outcome: tuple[list[str], bool]) -> None:
    lines, matched = outcome
    for line in lines:
        print(line)
    if not matched:
        raise CommandError


def _is_filled(data: memoryview, byte: int) -> bool:
    # Comparing with itself shifted by one runs at memory speed.
    return not len(data) or (data[0] == byte and data[1:] == data[:-1])
