"""savevm, loadvm, migrate: a machine's state to internal snapshots of its disks, or to a file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.hw.state import StateError
from pytcg.machine.runner import MachineError, RunState
from pytcg.machine.saved import machine as saved
from pytcg.machine.saved.stream import Read, SavedError, SavedMachine, write_stream
from pytcg.monitor.command import CommandError

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.block.formats.qcow2.snapshot_table import SnapshotEntry
    from pytcg.monitor.machine import Machine

NO_PLACE: Final = "no block device can store vmstate for snapshot"


@contextmanager
def at_rest(machine: Machine) -> Iterator[None]:
    """The processor rests, every disk request has ended, the device lock is held."""
    disks = [drive.io for drive in machine.drives.values() if drive.io is not None]
    with machine.runner.at_rest():
        while True:
            for disk in disks:
                disk.drain()
            with machine.loop.lock:
                if any(disk.stopped for disk in disks):
                    raise CommandError("a disk request that failed waits to be tried again")
                if not any(disk.busy for disk in disks):
                    yield
                    return


# Internal snapshots ------------------------------------------------------------------------------


def _writable(machine: Machine) -> list[tuple[str, BlockDevice]]:
    """The disks that a snapshot is of."""
    return [(drive.name, drive.io.device.node) for drive in machine.drives.values()
            if drive.io is not None and not drive.io.read_only]  # fmt: skip


def disks_of(machine: Machine) -> list[tuple[str, Qcow2Device]]:
    """All writable disks; CommandError if one of them can't have snapshots."""
    from pytcg.block.formats.qcow2.device import Qcow2Device

    found = []
    for name, device in _writable(machine):
        if not isinstance(device, Qcow2Device):
            raise CommandError(f"Device '{name}' is writable but does not support snapshots")
        found.append((name, device))
    if not found:
        raise CommandError(NO_PLACE)
    return found


def _find(device: Qcow2Device, tag: str) -> SnapshotEntry | None:
    return next((entry for entry in device.snapshots if entry.name == tag), None)


def save_vm(machine: Machine, tag: str | None) -> None:
    """savevm: a snapshot of that name takes the place of an older one."""
    save_to(machine, disks_of(machine), tag or time.strftime("vm-%Y%m%d%H%M%S"), replace=True)


def save_to(machine: Machine, disks: list[tuple[str, Qcow2Device]], name: str, *, replace: bool
            ) -> None:  # fmt: skip
    """The same of some disks, the state in the first; CommandError."""
    from pytcg.block.formats.qcow2.snapshot import create_snapshot, delete_snapshot

    if not replace and any(_find(device, name) for _, device in disks):
        raise CommandError(f"Snapshot '{name}' already exists in one or more devices")
    with _stopped(machine), at_rest(machine):
        try:
            for _, device in disks:
                while (old := _find(device, name)) is not None:
                    delete_snapshot(device, old.id)
            place = disks[0][1]
            size = _write_state(machine, place)
            clock = machine.loop.clock.now()
            for _, device in disks:
                create_snapshot(device, name, vm_state_size=size if device is place else 0,
                                vm_clock=clock)  # fmt: skip
        except BlockError as error:
            raise CommandError(f"Error {error} while writing VM state") from None


def _header(machine: Machine) -> dict[str, Any]:
    try:
        return saved.header(machine.board, machine.loop.clock)
    except StateError as error:
        raise CommandError(str(error)) from None


def _write_state(machine: Machine, device: Qcow2Device) -> int:
    """Its length."""
    at = 0

    def write(piece: bytes | memoryview) -> None:
        nonlocal at
        device.write_vm_state(at, memoryview(piece))
        at += len(piece)

    header = _header(machine)
    write_stream(header, machine.board.memory.window.view, write)
    return at


def load_vm(machine: Machine, tag: str) -> None:
    """loadvm: disks and machine as they were; the machine runs on if it ran before."""
    load_from(machine, disks_of(machine), tag)


def load_from(machine: Machine, disks: list[tuple[str, Qcow2Device]], tag: str) -> None:
    """The same from some disks; CommandError."""
    with _stopped(machine), at_rest(machine):
        load_snapshot(machine, disks, tag)


def load_snapshot(machine: Machine, disks: list[tuple[str, Qcow2Device]], tag: str) -> None:
    """The same while nothing runs. CommandError; if the machine doesn't fit, nothing changed."""
    from pytcg.block.formats.qcow2.snapshot import apply_snapshot

    entries = [_find(device, tag) for _, device in disks]
    if None in entries:
        raise CommandError(f"Snapshot '{tag}' does not exist in one or more devices")
    place = next((index for index, entry in enumerate(entries) if entry and entry.vm_state_size),
                 None)  # fmt: skip
    if place is None:
        raise CommandError("This is a disk-only snapshot. Revert to it offline using qemu-img")
    try:
        _check_state(machine, disks[place][1], tag)
        for (_, device), entry in zip(disks, entries, strict=True):
            assert entry is not None
            apply_snapshot(device, entry.id)
        saved.restore(machine.board, machine.loop.clock, _state_of(disks[place][1], tag))
    except SavedError as error:
        raise CommandError(f"Error while loading VM state: {error}") from None
    except BlockError as error:
        raise CommandError(f"Error while loading snapshot '{tag}': {error}") from None


def _check_state(machine: Machine, device: Qcow2Device, tag: str) -> None:
    """Before the disks go back: by a view of the snapshot, not of the disk as it is."""
    from pytcg.block.formats.qcow2.snapshot import load_snapshot as show
    from pytcg.block.open import open_image

    device.flush()
    view = open_image(device.filename, format="qcow2", read_only=True, force_share=True)
    try:
        show(view, tag)  # type: ignore[arg-type]
        saved.check(machine.board, _state_of(view, tag))
    finally:
        view.close()


def _state_of(device: BlockDevice, tag: str) -> SavedMachine:
    size = next(entry.vm_state_size for entry in device.snapshots  # type: ignore[attr-defined]
                if entry.name == tag)  # fmt: skip

    def read(position: int, length: int) -> bytes:
        buffer = bytearray(max(min(length, size - position), 0))
        device.read_vm_state(position, memoryview(buffer))
        return bytes(buffer)

    return SavedMachine(read)


def delete_vm(machine: Machine, tag: str) -> None:
    """delvm."""
    delete_from(machine, disks_of(machine), tag)


def delete_from(machine: Machine, disks: list[tuple[str, Qcow2Device]], tag: str) -> None:
    """The same on some disks; CommandError."""
    from pytcg.block.formats.qcow2.snapshot import delete_snapshot

    with at_rest(machine):
        try:
            for _, device in disks:
                while (entry := _find(device, tag)) is not None:
                    delete_snapshot(device, entry.id)
        except BlockError as error:
            raise CommandError(f"Error while deleting snapshot '{tag}': {error}") from None


@contextmanager
def _stopped(machine: Machine) -> Iterator[None]:
    """STOP before and RESUME after, as a client sees it."""
    runner = machine.runner
    running = runner.state is RunState.RUNNING
    runner.pause()
    try:
        yield
    finally:
        if running:
            runner.resume()


# Files -------------------------------------------------------------------------------------------


def file_of(uri: str) -> tuple[str, int]:
    """(path, offset) of file:PATH[,offset=N]; CommandError for what else there is."""
    kind, _, path = uri.partition(":")
    if kind != "file" or not path:
        raise CommandError(f"unknown migration protocol: {uri}")
    name, comma, option = path.rpartition(",offset=")
    if not comma:
        return path, 0
    if not option.isdecimal():
        raise CommandError(f"invalid offset in '{uri}'")
    return name, int(option)


def migrate_out(machine: Machine, uri: str) -> None:
    """Save to a file; the machine stays stopped, unless that fails."""
    path, offset = file_of(uri)
    runner = machine.runner
    running = runner.state is RunState.RUNNING
    runner.pause()
    try:
        with at_rest(machine):
            header = _header(machine)  # before the file is made: a machine may not be savable
            with open(path, "r+b" if offset else "wb") as file:
                file.seek(offset)
                _write_file(machine, header, file)
    except OSError as error:
        raise CommandError(f"failed to write '{path}': {error.strerror}") from None
    else:
        runner.state = RunState.POSTMIGRATE
    finally:
        if running and runner.state is not RunState.POSTMIGRATE:
            runner.resume()


def _write_file(machine: Machine, header: dict[str, Any], file: BinaryIO) -> None:
    def write(piece: bytes | memoryview) -> None:
        file.write(piece)

    write_stream(header, machine.board.memory.window.view, write)
    file.flush()
    os.fsync(file.fileno())


def load_file(machine: Machine, uri: str) -> None:
    """Be the machine of a file; the device lock is held and nothing runs. MachineError."""
    try:
        path, offset = file_of(uri)
    except CommandError as error:
        raise MachineError(str(error)) from None
    try:
        with open(path, "rb") as file:
            saved.restore(machine.board, machine.loop.clock, SavedMachine(_reader(file, offset)))
    except OSError as error:
        raise MachineError(f"failed to open '{path}': {error.strerror}") from None
    except SavedError as error:
        raise MachineError(f"'{path}' can't be loaded: {error}") from None


def _reader(file: BinaryIO, offset: int) -> Read:
    def read(position: int, length: int) -> bytes:
        file.seek(offset + position)
        return file.read(length)

    return read
