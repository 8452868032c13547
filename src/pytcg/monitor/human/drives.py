"""drive_add, drive_del and commit."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.options import parse_keyval, unflatten
from pytcg.block.reopen import set_writable
from pytcg.monitor.block.lookup import find_node
from pytcg.monitor.block.nodes import add_node, delete_node
from pytcg.monitor.command import CommandError
from pytcg.monitor.human.block import flags_of
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def add(shell: Shell, words: list[str]) -> str:
    """drive_add [-n] SLOT OPTIONS: as -drive if=none does; with -n as -blockdev does."""
    flags, rest = flags_of(words, "n")
    if len(rest) != 2:
        raise UsageError("drive_add: string expected")
    if "n" in flags:
        add_node(shell.machine, unflatten(parse_keyval(rest[1], implied="driver")))
        return ""
    shell.machine.add_drive(rest[1])
    return "OK\n"


def delete(shell: Shell, words: list[str]) -> str:
    """drive_del NAME: a device that has the drive finds no medium from now on."""
    [name] = words
    machine, drives = shell.machine, shell.machine.drives
    drive = drives.get(name)
    if drive is None or not drive.id:
        if name in drives.graph.nodes:
            delete_node(machine, name)
            return ""
        raise CommandError(f"Device '{name}' not found")
    if drive.io is not None:
        drives.graph.check_unused_by_jobs(drive.io.device.node)
    if drive.taken_by and drive.io is not None:
        drives.take_away(drive)
        drives.forget(drive)
        drive.id = ""
        drives.keep(drive)
    else:
        drives.unserve(drive)
        drives.forget(drive)
    return ""


def commit(shell: Shell, words: list[str]) -> str:
    """commit DEVICE|all: into the image right below; the guest waits meanwhile."""
    [name] = words
    machine = shell.machine
    if name == "all":
        for each in list(machine.drives.values()):
            if each.io is not None and each.io.device.node.backing is not None:
                _commit(machine, each.io.device.node, each.name)
        return ""
    drive = machine.drives.get(name)
    node = find_node(machine, name)
    if node is None and (drive is None or not drive.id):
        raise CommandError(f"Device '{name}' not found")
    if node is None:
        raise CommandError(f"Device '{name}' has no medium")
    _commit(machine, node, name)
    return ""


def _commit(machine: Machine, top: BlockDevice, name: str) -> None:
    from pytcg.block.jobs.convert import Copier, CopyOptions

    graph = machine.drives.graph
    if top.backing is None:
        raise CommandError(f"'commit' error for '{name}': Operation not supported")
    base = top.backing.node
    graph.check_unused_by_jobs(top)
    graph.check_unused_by_jobs(base)
    try:
        with ExitStack() as stack:
            stack.enter_context(graph.drained())
            if base.read_only:
                set_writable(base, writable=True)
                stack.callback(set_writable, base, writable=False)
            if base.size < top.size:
                base.truncate(top.size)
            options = CopyOptions(min_sparse=0, keep_backing=True, backing_size=top.size,
                                  workers=1, rate=0)  # fmt: skip
            Copier(top, base, options, lambda done, total: None).run()
            base.flush()
            if isinstance(top, Qcow2Device):
                top.make_empty()
    except BlockError as error:
        raise CommandError(f"'commit' error for '{name}': {os.strerror(error.errno)}") from None


COMMANDS: Final = (
    HumanCommand("drive_add", "[-n] [[<domain>:]<bus>:]<slot> [file=file][,if=type][,...]",
                 "add drive to PCI storage controller", add, 2, 3),
    HumanCommand("drive_del", "device", "remove host block device", delete, 1, 1),
    HumanCommand("commit", "device|all", "commit changes to the disk images (if -snapshot is used)"
                 " or backing files", commit, 1, 1),
)  # fmt: skip
