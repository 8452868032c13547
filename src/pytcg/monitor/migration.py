"""migrate and its kin: a machine goes to a file, or comes from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.machine.runner import RunState
from pytcg.monitor.command import Command, CommandError
from pytcg.monitor.saving import at_rest, file_of, load_file, migrate_out
from pytcg.monitor.schema.machine import CAPABILITIES

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


REFUSALS: Final = {
    RunState.INMIGRATE: "Guest is waiting for an incoming migration",
    RunState.POSTMIGRATE: "Can't migrate the vm that was paused due to previous migration",
}


def _set(machine: Machine, status: str, error: str = "") -> None:
    migration = machine.migration
    migration.status, migration.error = status, error
    if migration.events:
        machine.runner.tell("MIGRATION", status=status)


def migrate(machine: Machine, uri: str, **flags: bool) -> Any:
    """Begin; `query-migrate` tells how it goes."""
    for name in ("blk", "inc", "resume"):
        if flags.get(name):
            raise CommandError(f"Parameter '{name}' is not supported")
    if machine.runner.state in REFUSALS:
        raise CommandError(REFUSALS[machine.runner.state])
    file_of(uri)
    _set(machine, "setup")
    machine.runner.later(0, lambda: finish(machine, uri))
    return {}


def finish(machine: Machine, uri: str) -> None:
    """Write it."""
    if machine.migration.status != "setup":
        return  # it was cancelled
    _set(machine, "active")
    try:
        migrate_out(machine, uri)
    except Exception as error:
        _set(machine, "failed", str(error))
    else:
        _set(machine, "completed")


def migrate_cancel(machine: Machine) -> Any:
    """Don't begin."""
    if machine.migration.status == "setup":
        _set(machine, "cancelled")
    return {}


def query_migrate(machine: Machine) -> Any:
    """How the last one went."""
    migration = machine.migration
    if migration.status is None:
        return {}
    found = {"status": migration.status}
    return found | {"error-desc": migration.error} if migration.error else found


def migrate_incoming(machine: Machine, uri: str) -> Any:
    """After -incoming defer."""
    if machine.runner.state is not RunState.INMIGRATE:
        raise CommandError("'-incoming' was not specified on the command line")
    file_of(uri)
    _set(machine, "setup")
    machine.runner.later(0, lambda: _arrive(machine, uri))
    return {}


def _arrive(machine: Machine, uri: str) -> None:
    _set(machine, "active")
    try:
        with at_rest(machine):
            load_file(machine, uri)
    except Exception as error:
        _set(machine, "failed", str(error))
    else:
        _set(machine, "completed")
        machine.runner.arrived()


def query_capabilities(machine: Machine) -> Any:
    """All of QEMU's; only `events` can be on."""
    return [{"capability": name, "state": name == "events" and machine.migration.events}
            for name in CAPABILITIES]  # fmt: skip


def set_capabilities(machine: Machine, capabilities: list[Any]) -> Any:
    """Switch them."""
    wanted = []
    for row in capabilities:
        name, state = row["capability"], row["state"]
        if state and name != "events":
            raise CommandError(f"Migration capability '{name}' is not supported")
        wanted.append((name, state))
    for name, state in wanted:
        if name == "events":
            machine.migration.events = state
    return {}


COMMANDS: Final = (
    Command("migrate", migrate, "uri: str, *blk: bool, *inc: bool, *detach: bool, *resume: bool"),
    Command("migrate_cancel", migrate_cancel),
    Command("migrate-incoming", migrate_incoming, "uri: str"),
    Command("query-migrate", query_migrate, returns="MigrationInfo"),
    Command("query-migrate-capabilities", query_capabilities,
            returns="[MigrationCapabilityStatus]"),
    Command("migrate-set-capabilities", set_capabilities,
            "capabilities: [MigrationCapabilityStatus]"),
)  # fmt: skip
