"""Drives and nodes by the names that clients give, or QEMU's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.block.device import BlockDevice
from pytcg.machine.drives import Drive
from pytcg.monitor.command import CLASS_NO_DEVICE, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def drive_of(machine: Machine, device: str | None, id: str | None) -> Drive:
    """A drive by its own id, or by its device's id or path."""
    if (device is None) == (id is None):
        raise CommandError("Need exactly one of 'device' and 'id'")
    if device is not None:
        for drive in machine.drives.values():
            if drive.id == device and drive.id:
                return drive
        raise CommandError(f"Device '{device}' not found", CLASS_NO_DEVICE)
    assert id is not None
    for drive in machine.drives.values():
        if drive.qdev and id in (drive.qdev, f"/machine/peripheral/{drive.qdev}"):
            return drive
    if any(drive.device_id == id for drive in machine.drives.values()):
        raise CommandError("Device does not have a block device backend")
    raise CommandError(f"Device '{id}' not found", CLASS_NO_DEVICE)


def find_node(machine: Machine, name: str) -> BlockDevice | None:
    """The node of a name, or the one that the drive of a name has on top."""
    drive = machine.drives.get(name)
    if drive is not None and drive.id:
        return drive.io.device.node if drive.io is not None else None
    return machine.drives.graph.nodes.get(name)


def node_of(machine: Machine, device: str | None, node_name: str | None = None) -> BlockDevice:
    """By a drive's id or by a node's name: QEMU's bdrv_lookup_bs."""
    if device is not None:
        drive = machine.drives.get(device)
        if drive is not None and drive.id:
            if drive.io is None:
                raise CommandError(f"Device '{device}' has no medium")
            return drive.io.device.node
    if node_name is not None and node_name in machine.drives.graph.nodes:
        return machine.drives.graph.nodes[node_name]
    raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'")


def root_of(machine: Machine, device: str) -> BlockDevice:
    """What jobs work on: a drive's id or any node's name."""
    return node_of(machine, device, device)
