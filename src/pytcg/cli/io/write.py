"""pytcg-io's commands that write, zero, discard and flush."""

from __future__ import annotations

import errno
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError, NotSupported
from pytcg.block.filters.filter import zeroes_fast
from pytcg.cli.block_tool import unfiltered
from pytcg.cli.io.session import (
    Arguments,
    CommandError,
    LoudError,
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

_WRITE_FILL = 0xCD


@command("[-bcCfnquz] [-P pattern | -s source_file] off len",
         "writes a number of bytes at a specified offset", least=2, most=ANY, alias="w",
         writes=True)
def write(session: Session, words: list[str]) -> None:
    """Write a range filled with 0xcd, with -P another byte, with -s a file's bytes repeated.
    -z zeroes it (-u may unmap, -n must not be slow), -c compresses it, -f bypasses the cache.
    -q prints no report, -C prints the report for machines."""
    arguments = read_arguments("write", words, "bcCfnpP:qs:uz")
    flags = arguments.flags
    fill = pattern(arguments.values["P"]) if "P" in flags else _WRITE_FILL
    if len(arguments.rest) != 2:
        raise ShowUsage
    _check_write_flags(flags)
    offset, length = number(arguments.rest[0]), length_of(arguments.rest[1])
    if flags & {"b", "c"}:
        check_sectors(offset, length)
    data = b"" if "z" in flags else _source(arguments, length, fill)
    disk = session.disk
    if "z" in flags:
        work = _zeroing(disk, offset, length, flags)
    elif "c" in flags:
        work = _compressed(disk, offset, data)
    elif "b" in flags:
        work = _saving(disk, offset, data)
    else:
        work = _storing(disk, offset, data, fua="f" in flags)
    for line in timed("write", "wrote", offset, length, arguments, work):
        print(line)


def _check_write_flags(flags: set[str]) -> None:
    if {"b", "z"} <= flags:
        raise CommandError("-b and -z cannot be specified at the same time")
    if "f" in flags and flags & {"b", "c"}:
        raise CommandError("-f and -b or -c cannot be specified at the same time")
    for letter in "nu":
        if letter in flags and "z" not in flags:
            raise CommandError(f"-{letter} requires -z to be specified")
    if len(flags & {"z", "P", "s"}) > 1:
        raise CommandError("Only one of -z, -P, and -s can be specified at the same time")


def _source(arguments: Arguments, length: int, fill: int) -> bytes:
    if "s" not in arguments.flags:
        return bytes([fill]) * length
    name = arguments.values["s"]
    try:
        with open(name, "rb") as file:
            unit = file.read(length)
    except OSError as error:
        raise LoudError(f"{name}: {error.strerror}") from None
    if not unit:
        raise LoudError(f"{name}: file is empty")
    return (unit * -(-length // len(unit)))[:length]


def _saving(disk: BlockDevice, offset: int, data: bytes) -> Callable[[], list[str]]:
    def work() -> list[str]:
        disk.write_vm_state(offset, memoryview(data))
        return []

    return work


def _storing(disk: BlockDevice, offset: int, data: bytes, *, fua: bool) -> Callable[[], list[str]]:
    def work() -> list[str]:
        check_in_range(disk, offset, len(data))
        disk.pwrite(offset, data, fua=fua)
        return []

    return work


def _zeroing(disk: BlockDevice, offset: int, length: int, flags: set[str]
             ) -> Callable[[], list[str]]:
    def work() -> list[str]:
        if "n" in flags and not zeroes_fast(disk):
            raise NotSupported("zeroing is no faster than writing")
        check_in_range(disk, offset, length)
        disk.write_zeroes(offset, length, may_unmap="u" in flags, fua="f" in flags)
        return []

    return work


def _compressed(disk: BlockDevice, offset: int, data: bytes) -> Callable[[], list[str]]:
    def work() -> list[str]:
        image = unfiltered(disk)
        if not image.can_compress:
            raise NotSupported("no compression")
        check_in_range(disk, offset, len(data))
        cluster = disk.cluster_size
        ends_disk = offset + len(data) == disk.size
        if offset % cluster or (len(data) % cluster and not ends_disk):
            raise BlockError("not whole clusters", errno.EINVAL)
        for at in range(0, len(data), cluster):
            if disk.layer_status(offset + at, min(cluster, len(data) - at)).data:
                raise BlockError("compressed writes don't overwrite", errno.EIO)
            image.write_compressed(offset + at, memoryview(data)[at : at + cluster])
        return []

    return work


@command("[-Cfq] [-P pattern] off len [len..]",
         "writes a number of bytes at a specified offset", least=2, most=ANY,
         writes=True)
def writev(session: Session, words: list[str]) -> None:
    """Write adjacent ranges in one request; options as for write."""
    arguments = read_arguments("writev", words, "CfqP:")
    fill = pattern(arguments.values["P"]) if "P" in arguments.flags else _WRITE_FILL
    offset, length = vector_of(arguments)
    work = _storing(session.disk, offset, bytes([fill]) * length, fua="f" in arguments.flags)
    for line in timed("writev", "wrote", offset, length, arguments, work):
        print(line)


@command("[-Cfiquz] [-P pattern] off len [len..]",
         "asynchronously writes a number of bytes", least=2, most=ANY, writes=True)
def aio_write(session: Session, words: list[str]) -> None:
    """Start a write and go on; aio_flush waits for it. Options as for write;
    -i only counts as an invalid request."""
    arguments = read_arguments("aio_write", words, "CfiP:quz")
    flags = arguments.flags
    fill = pattern(arguments.values["P"]) if "P" in flags else _WRITE_FILL
    if len(arguments.rest) < 2:
        raise ShowUsage
    if "z" in flags and len(arguments.rest) != 2:
        raise CommandError("-z supports only a single length parameter")
    if "u" in flags and "z" not in flags:
        raise CommandError("-u requires -z to be specified")
    if "i" in flags:
        injected("write")
        return
    offset, length = vector_of(arguments)
    if "z" in flags:
        work = _zeroing(session.disk, offset, length, flags)
    else:
        work = _storing(session.disk, offset, bytes([fill]) * length, fua="f" in flags)
    session.submit(lambda: guarded(
        lambda: timed("aio_write", "wrote", offset, length, arguments, work)))


@command("", "completes all outstanding aio requests")
def aio_flush(session: Session, words: list[str]) -> None:
    """Wait for every request that aio_read and aio_write started."""
    session.drain()


@command("", "flush all in-core file state to disk", alias="f")
def flush(session: Session, words: list[str]) -> None:
    """Return when everything written is on stable storage."""
    try:
        session.disk.flush()
    except BlockError as error:
        raise CommandError(f"flush failed: {error}") from None


@command("[-Cq] off len", "discards a number of bytes at a specified offset", least=2, most=ANY,
         alias="d", writes=True)
def discard(session: Session, words: list[str]) -> None:
    """Tell the image that a range is not needed; -q and -C as for read."""
    arguments = read_arguments("discard", words, "Cq")
    if len(arguments.rest) != 2:
        raise ShowUsage
    offset, length = number(arguments.rest[0]), length_of(arguments.rest[1])

    def work() -> list[str]:
        check_in_range(session.disk, offset, length)
        session.disk.discard(offset, length)
        return []

    for line in timed("discard", "discard", offset, length, arguments, work):
        print(line)
