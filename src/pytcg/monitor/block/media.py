"""Media that can be changed: trays, discs, and `eject` and `change` over these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.open import FORMATS, open_image
from pytcg.monitor.block.lookup import drive_of
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.machine.drives import Drive, Tray
    from pytcg.monitor.machine import Machine


def _tray(drive: Drive, shown: str | None) -> Tray:
    if drive.tray is None:
        raise CommandError(f"Device '{shown}' is not removable")
    return drive.tray


def _moved(machine: Machine, drive: Drive, *, is_open: bool) -> None:
    machine.runner.tell("DEVICE_TRAY_MOVED", **{
        "device": drive.id, "id": drive.qdev, "tray-open": is_open})


def watch_trays(machine: Machine) -> None:
    """Tell clients when software in the guest moves one."""
    for drive in machine.drives.values():
        watch_tray(machine, drive)


def watch_tray(machine: Machine, drive: Drive) -> None:
    """The same for one drive."""
    if drive.tray is not None:
        drive.tray.on_eject = lambda is_open: _moved(machine, drive, is_open=is_open)


def open_tray(machine: Machine, device: str | None = None, id: str | None = None,
              *, force: bool = False) -> Any:
    """Open it; software that has locked it is asked to, unless forced."""
    drive = drive_of(machine, device, id)
    _open(machine, drive, device or id, force=force)
    return {}


def _open(machine: Machine, drive: Drive, shown: str | None, *, force: bool) -> bool:
    """Whether it is open now."""
    tray = _tray(drive, shown)
    with machine.loop.lock:
        if tray.tray_open:
            return True
        if tray.locked:
            tray.ask_to_eject()
        if not tray.locked or force:
            tray.open_tray()
            _moved(machine, drive, is_open=True)
            return True
    return False


def _require_open(machine: Machine, drive: Drive, shown: str | None, *, force: bool) -> None:
    if not _open(machine, drive, shown, force=force):
        raise CommandError(f"Device '{shown}' is locked and force was not specified, wait for"
                           " tray to open and try again")  # fmt: skip


def close_tray(machine: Machine, device: str | None = None, id: str | None = None) -> Any:
    """Close it, with what is in it."""
    drive = drive_of(machine, device, id)
    tray = _tray(drive, device or id)
    if tray.tray_open:
        with machine.loop.lock:
            tray.change(drive.io)
        _moved(machine, drive, is_open=False)
    return {}


def remove_medium(machine: Machine, id: str) -> Any:
    """Take the disc out of an open tray; a node that a client added stays."""
    drive = drive_of(machine, None, id)
    _remove(machine, drive, id)
    return {}


def _remove(machine: Machine, drive: Drive, shown: str | None) -> None:
    tray = _tray(drive, shown)
    if not tray.tray_open:
        raise CommandError(f"Tray of device '{shown}' is not open")
    if drive.io is not None:
        machine.drives.graph.check_unused_by_jobs(drive.io.device.node)
        machine.drives.unserve(drive)


def insert_medium(machine: Machine, id: str, node_name: str) -> Any:
    """Put a node into an open tray."""
    drive = drive_of(machine, None, id)
    graph = machine.drives.graph
    node = graph.nodes.get(node_name)
    if node is None:
        raise CommandError(f"Node '{node_name}' not found")
    if graph.users_of(node):
        raise CommandError(f"Node '{node_name}' is already in use")
    _insert(machine, drive, id, graph.owned.get(node_name, node))
    return {}


def _insert(machine: Machine, drive: Drive, shown: str | None, image: BlockDevice) -> None:
    tray = _tray(drive, shown)
    if not tray.tray_open:
        raise CommandError("Tray of the device is not open")
    if drive.io is not None:
        raise CommandError(f"There already is a medium in device '{shown}'")
    drive.io = machine.drives.serve(image)


def eject(machine: Machine, device: str | None = None, id: str | None = None,
          *, force: bool = False) -> Any:
    """Open the tray and take the disc out."""
    drive = drive_of(machine, device, id)
    shown = device or id
    _require_open(machine, drive, shown, force=force)
    _remove(machine, drive, shown)
    return {}


def change_medium(machine: Machine, filename: str, device: str | None = None,
                  id: str | None = None, format: str | None = None,
                  *, force: bool = False, read_only_mode: str = "retain") -> Any:
    """Another disc, by its file's name."""
    drive = drive_of(machine, device, id)
    shown = device or id
    _tray(drive, shown)
    if format is not None and format not in FORMATS:
        raise CommandError(f"Unknown driver '{format}'")
    read_only = read_only_mode == "read-only" or (
        read_only_mode == "retain" and (drive.io is None or drive.io.read_only))  # fmt: skip
    try:
        image = open_image(filename, format=format, read_only=read_only, exclusive=not read_only)
    except BlockError as error:
        text = str(error)
        raise CommandError(text if filename in text else f"{filename}: {text}") from None
    try:
        _require_open(machine, drive, shown, force=force)
        _remove(machine, drive, shown)
    except CommandError:
        image.close()
        raise
    _insert(machine, drive, shown, image)
    close_tray(machine, device, id)
    return {}


COMMANDS: Final = (
    Command("blockdev-open-tray", open_tray, "*device: str, *id: str, *force: bool"),
    Command("blockdev-close-tray", close_tray, "*device: str, *id: str"),
    Command("blockdev-remove-medium", remove_medium, "id: str"),
    Command("blockdev-insert-medium", insert_medium, "id: str, node-name: str"),
    Command("blockdev-change-medium", change_medium,
            "*device: str, *id: str, filename: str, *format: str, *force: bool,"
            " *read-only-mode: BlockdevChangeReadOnlyMode"),
    Command("eject", eject, "*device: str, *id: str, *force: bool"),
)  # fmt: skip
