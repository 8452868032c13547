"""savevm, loadvm, delvm, migrate and what tells of them."""

from __future__ import annotations

from typing import Final

from pytcg.cli.snapshots import describe_snapshot, snapshot_lines
from pytcg.monitor import migration, saving
from pytcg.monitor.command import CommandError
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError


def save_vm(shell: Shell, words: list[str]) -> str:
    """savevm."""
    saving.save_vm(shell.machine, words[0] if words else None)
    return ""


def load_vm(shell: Shell, words: list[str]) -> str:
    """loadvm."""
    saving.load_vm(shell.machine, words[0])
    return ""


def delete_vm(shell: Shell, words: list[str]) -> str:
    """delvm."""
    saving.delete_vm(shell.machine, words[0])
    return ""


def snapshots(shell: Shell, words: list[str]) -> str:
    """info snapshots: those that all disks have."""
    del words
    try:
        disks = saving.disks_of(shell.machine)
    except CommandError:
        return f"{saving.NO_PLACE}\n"
    first = disks[0][1].snapshots
    common = [entry for entry in first
              if all(any(entry.name == other.name for other in device.snapshots)
                     for _, device in disks)]  # fmt: skip
    if not common:
        return "There is no snapshot available.\n"
    rows = [describe_snapshot(entry) | {"id": "--"} for entry in common]
    return "\n".join(("List of snapshots present on all disks:", *snapshot_lines(rows))) + "\n"


def migrate(shell: Shell, words: list[str]) -> str:
    """migrate: waits for the end, unless -d."""
    detach = "-d" in words
    rest = [word for word in words if word != "-d"]
    if len(rest) != 1:
        raise UsageError("migrate: string expected")
    shell.qmp("migrate", uri=rest[0])
    if not detach:
        migration.finish(shell.machine, rest[0])
        if shell.machine.migration.error:
            raise CommandError(shell.machine.migration.error)
    return ""


def migrate_incoming(shell: Shell, words: list[str]) -> str:
    """migrate_incoming."""
    shell.qmp("migrate-incoming", uri=words[0])
    return ""


def migrate_state(shell: Shell, words: list[str]) -> str:
    """info migrate."""
    del words
    found = shell.qmp("query-migrate")
    return f"Migration status: {found['status']}\n" if found else ""


COMMANDS: Final = (
    HumanCommand("savevm", "tag", "save a VM snapshot. If no tag is provided, a new snapshot is"
                 " created", save_vm, 0, 1),
    HumanCommand("loadvm", "tag", "restore a VM snapshot from its tag", load_vm, 1, 1),
    HumanCommand("delvm", "tag", "delete a VM snapshot from its tag", delete_vm, 1, 1),
    HumanCommand("migrate", "[-d] uri", "migrate to URI (using -d to not wait for completion)",
                 migrate, 1, 2),
    HumanCommand("migrate_incoming", "uri", "Continue an incoming migration from an -incoming"
                 " defer", migrate_incoming, 1, 1),
)  # fmt: skip
SUBJECTS: Final = (
    HumanCommand("migrate", "", "show migration status", migrate_state),
    HumanCommand("snapshots", "", "show the currently saved VM snapshots", snapshots),
)
