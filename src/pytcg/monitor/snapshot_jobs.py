"""snapshot-save, -load and -delete: savevm and its kin, of disks by their nodes, as jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockError
from pytcg.block.jobs.job import Job
from pytcg.monitor import saving
from pytcg.monitor.block.joblist import start_job
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device
    from pytcg.monitor.machine import Machine

Disks = list[tuple[str, "Qcow2Device"]]


class SnapshotJob(Job):
    """Does all in the main loop, while the machine rests; stays until it is dismissed."""

    def __init__(self, kind: str, id: str, disks: Callable[[], Disks], act: Callable[[Disks], None]
                 ) -> None:  # fmt: skip
        super().__init__(id, nodes=[], dismiss=False)
        self.kind = kind
        self._disks = disks
        self._act = act

    def work(self) -> None:
        """All is `finish`'s."""
        self.length = 1

    def finish(self) -> None:
        try:
            self._act(self._disks())
        except CommandError as error:
            raise BlockError(str(error)) from None
        self.offset = 1


def _disks(machine: Machine, names: list[str], first: str | None) -> Disks:
    """The nodes of these names, that with the machine's state in front; CommandError."""
    from pytcg.block.formats.qcow2.device import Qcow2Device

    found = []
    for name in names:
        node = machine.drives.graph.nodes.get(name)
        if node is None:
            raise CommandError(f"No block device node '{name}'")
        if not isinstance(node, Qcow2Device):
            raise CommandError(f"Device '{name}' is writable but does not support snapshots")
        found.append((name, node))
    if first is not None:
        if first not in names:
            raise CommandError(f"vmstate block device '{first}' does not exist")
        found.sort(key=lambda pair: pair[0] != first)
    return found


def save(machine: Machine, job_id: str, tag: str, vmstate: str, devices: list[str]) -> None:
    """snapshot-save."""
    _start(machine, "save", job_id, devices, vmstate,
           lambda disks: saving.save_to(machine, disks, tag, replace=False))  # fmt: skip


def load(machine: Machine, job_id: str, tag: str, vmstate: str, devices: list[str]) -> None:
    """snapshot-load."""
    _start(machine, "load", job_id, devices, vmstate,
           lambda disks: saving.load_from(machine, disks, tag))  # fmt: skip


def delete(machine: Machine, job_id: str, tag: str, devices: list[str]) -> None:
    """snapshot-delete."""
    _start(machine, "delete", job_id, devices, None,
           lambda disks: saving.delete_from(machine, disks, tag))  # fmt: skip


def _start(machine: Machine, verb: str, id: str, names: list[str], vmstate: str | None,
           act: Callable[[Disks], None]) -> None:  # fmt: skip
    start_job(machine, SnapshotJob(f"snapshot-{verb}", id,
                                   lambda: _disks(machine, names, vmstate), act))  # fmt: skip


WITH_STATE: Final = "job-id: str, tag: str, vmstate: str, devices: [str]"
COMMANDS: Final = (
    Command("snapshot-save", save, WITH_STATE),
    Command("snapshot-load", load, WITH_STATE),
    Command("snapshot-delete", delete, "job-id: str, tag: str, devices: [str]"),
)
