"""Snapshots of disks, outside in overlays and inside of qcow2, one by one or several at once.

`transaction` prepares all of its actions, then does all while every user is held; if one can't be
prepared, those before it are undone and nothing has changed.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final, Protocol

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.graph import Graph, Holder
from pytcg.block.jobs.job import join
from pytcg.block.reopen import set_writable
from pytcg.monitor.block import bitmaps
from pytcg.monitor.block.copies import blockdev_backup_of, drive_backup_of
from pytcg.monitor.block.joblist import start_job
from pytcg.monitor.block.lookup import node_of, root_of
from pytcg.monitor.block.targets import make, open_target
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.block.jobs.backup import Backup
    from pytcg.monitor.machine import Machine

Given = dict[str, Any]


class Action(Protocol):
    """One of a transaction's; made from the machine and its arguments."""

    def prepare(self) -> None:
        """All that can fail: CommandError, BlockError."""
        ...

    def commit(self) -> None:
        """Do it; all users are held."""
        ...

    def abort(self) -> None:
        """Undo `prepare`."""
        ...


class Overlay:
    """blockdev-snapshot-sync: from now on writes go to a new image over the disk."""

    def __init__(self, machine: Machine, given: Given) -> None:
        self.graph = machine.drives.graph
        self._given = given
        self._node = node_of(machine, given.get("device"), given.get("node-name"))
        self._made: str | None = None
        self._overlay: BlockDevice | None = None

    def prepare(self) -> None:
        given, node = self._given, self._node
        if "node-name" in given and "snapshot-node-name" not in given:
            raise CommandError("New overlay node-name missing")
        self.graph.check_unused_by_jobs(node)
        name, format = given["snapshot-file"], given.get("format", "qcow2")
        if given.get("mode", "absolute-paths") == "absolute-paths":
            make(name, format, node.size, node)
            self._made = name
        self._overlay = open_target(self.graph, name, format, given.get("snapshot-node-name"),
                                    None)  # fmt: skip
        if not self._overlay.supports_backing:
            raise CommandError("The overlay does not support backing images")

    def commit(self) -> None:
        assert self._overlay is not None
        put_over(self.graph, self._overlay, self._node)

    def abort(self) -> None:
        if self._overlay is not None:
            self._overlay.close()
        if self._made is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._made)


def put_over(graph: Graph, overlay: BlockDevice, node: BlockDevice) -> None:
    """Users of a node stand on the overlay, which stands on the node, read-only from now on."""
    node.flush()
    graph.replace(node, overlay)
    overlay.backing = node
    with contextlib.suppress(BlockError):  # some kinds can't be reopened; nobody writes to it
        set_writable(node, writable=False)
    graph.refresh()


class NodeOverlay:
    """blockdev-snapshot: the same with a node that is there."""

    def __init__(self, machine: Machine, given: Given) -> None:
        self.graph = machine.drives.graph
        self._node = root_of(machine, given["node"])
        self._overlay = node_of(machine, None, given["overlay"])

    def prepare(self) -> None:
        self.graph.check_unused_by_jobs(self._node)
        name = self._overlay.node_name
        if self.graph.users_of(self._overlay):
            raise CommandError("The overlay is already in use")
        if self._overlay.backing is not None:
            raise CommandError("The overlay already has a backing image")
        if not self._overlay.supports_backing:
            raise CommandError("The overlay does not support backing images")
        if self._overlay.size < self._node.size:
            raise CommandError(f"The overlay '{name}' is smaller than the disk")

    def commit(self) -> None:
        put_over(self.graph, self._overlay, self._node)

    def abort(self) -> None:
        """Nothing was made."""


class Internal:
    """blockdev-snapshot-internal-sync."""

    def __init__(self, machine: Machine, given: Given) -> None:
        self.graph = machine.drives.graph
        self._given = given
        self._node = root_of(machine, given["device"])

    def prepare(self) -> None:
        name, device = self._given["name"], self._given["device"]
        self.graph.check_unused_by_jobs(self._node)
        node = qcow2_of(self._node, device)
        if not name:
            raise CommandError("Name is empty")
        if node.read_only:
            raise CommandError(f"Device '{device}' is read only")
        if any(entry.name == name for entry in node.snapshots):
            raise CommandError(f"Snapshot with name '{name}' already exists on device '{device}'")

    def commit(self) -> None:
        from pytcg.block.formats.qcow2.snapshot import create_snapshot

        create_snapshot(qcow2_of(self._node, self._given["device"]), self._given["name"])

    def abort(self) -> None:
        """Nothing was made."""


def qcow2_of(node: BlockDevice, device: str) -> Qcow2Device:
    """A node that can have snapshots inside; CommandError."""
    if not isinstance(node, Qcow2Device):
        raise CommandError(f"Block format '{node.format_name}' used by device '{device}' does not"
                           " support internal snapshots")  # fmt: skip
    return node


class BackupAction:
    """drive-backup and blockdev-backup: all of a transaction's begin at one moment."""

    def __init__(self, machine: Machine, given: Given, *, to_file: bool) -> None:
        self._machine = machine
        self._given = given
        self._make = drive_backup_of if to_file else blockdev_backup_of
        self._made: tuple[Backup, BlockDevice] | None = None

    def prepare(self) -> None:
        self._made = self._make(self._machine, self._given)

    @property
    def job(self) -> Backup:
        """Once it is prepared."""
        assert self._made is not None
        return self._made[0]

    def commit(self) -> None:
        start_job(self._machine, self.job)

    def abort(self) -> None:
        if self._made is None:
            return
        self._made[0].thaw(done=False)
        graph = self._machine.drives.graph
        for user in list(graph.users):
            if isinstance(user, Holder) and user.device is self._made[1]:
                graph.leave(user)
        graph.drop(self._made[1])


class Abort:
    """abort: for tests."""

    def __init__(self, machine: Machine, given: Given) -> None:
        del machine, given

    def prepare(self) -> None:
        raise CommandError("Transaction aborted using Abort action")

    def commit(self) -> None:
        """Never."""

    def abort(self) -> None:
        """Nothing was made."""


ACTIONS: Final[dict[str, Any]] = {
    **bitmaps.ACTIONS,
    "abort": Abort,
    "blockdev-snapshot": NodeOverlay,
    "blockdev-snapshot-sync": Overlay,
    "blockdev-snapshot-internal-sync": Internal,
    "drive-backup": lambda machine, given: BackupAction(machine, given, to_file=True),
    "blockdev-backup": lambda machine, given: BackupAction(machine, given, to_file=False),
}


NOT_GROUPED: Final = (Overlay, NodeOverlay, Internal)


def transaction(machine: Machine, actions: list[Given], properties: Given | None = None) -> Any:
    """All of them, or none."""
    grouped = (properties or {}).get("completion-mode", "individual") == "grouped"
    prepared: list[Action] = []
    with machine.drives.graph.drained():
        try:
            for given in actions:
                action: Action = ACTIONS[given["type"]](machine, given["data"])
                if grouped and isinstance(action, NOT_GROUPED):
                    raise CommandError(f"Action '{given['type']}' does not support transaction"
                                       " property completion-mode = grouped")  # fmt: skip
                prepared.append(action)
                action.prepare()
            if grouped:
                join([action.job for action in prepared if isinstance(action, BackupAction)])
            for action in prepared:
                action.commit()
        except BaseException:
            for action in reversed(prepared):
                action.abort()
            raise


def _alone(kind: str) -> Any:
    def run(machine: Machine, given: Given) -> None:
        transaction(machine, [{"type": kind, "data": given}])

    return run


def delete_internal(machine: Machine, device: str, id: str | None = None, name: str | None = None
                    ) -> Any:  # fmt: skip
    """blockdev-snapshot-delete-internal-sync: tells what it was."""
    from pytcg.block.formats.qcow2.snapshot import delete_snapshot
    from pytcg.cli.snapshots import describe_snapshot

    node = qcow2_of(root_of(machine, device), device)
    if id is None and name is None:
        raise CommandError("Name or id must be provided")
    for entry in node.snapshots:
        if (id in (None, entry.id)) and (name in (None, entry.name)):
            with machine.drives.graph.drained():
                told = describe_snapshot(entry)
                delete_snapshot(node, entry.id)
            return told
    shown = f"id '{id or '(null)'}' and name '{name or '(null)'}'"
    raise CommandError(f"Snapshot with {shown} does not exist on device '{device}'")


COMMANDS: Final = (
    Command("blockdev-snapshot-sync", _alone("blockdev-snapshot-sync"), "BlockdevSnapshotSync"),
    Command("blockdev-snapshot", _alone("blockdev-snapshot"), "BlockdevSnapshot"),
    Command("blockdev-snapshot-internal-sync", _alone("blockdev-snapshot-internal-sync"),
            "BlockdevSnapshotInternal"),
    Command("blockdev-snapshot-delete-internal-sync", delete_internal,
            "device: str, *id: str, *name: str", "SnapshotInfo"),
    *(Command(kind, _alone(kind), bitmaps.TAKES.get(kind, "BlockDirtyBitmap"))
      for kind in bitmaps.ACTIONS),
    bitmaps.DEBUG,
    Command("transaction", transaction,
            "actions: [TransactionAction], *properties: TransactionProperties"),
)  # fmt: skip
