"""QMP's commands, as far as their subsystems are there: one table, in QEMU's names and shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from pytcg import __version__
from pytcg.machine.none import EmptyBoard
from pytcg.machine.runner import RunState
from pytcg.machine.virtual import read_virtual
from pytcg.monitor import (
    characters,
    devices,
    dump,
    input,
    migration,
    objects,
    probing,
    snapshot_jobs,
    vnc,
    yank,
)
from pytcg.monitor.block import (
    chains,
    copies,
    create,
    exports,
    joblist,
    media,
    nodes,
    query,
    reopening,
    snapshots,
    throttling,
)
from pytcg.monitor.command import Command, CommandError
from pytcg.monitor.human.monitor import run_line
from pytcg.monitor.machine import Machine
from pytcg.monitor.schema.events import EVENTS
from pytcg.monitor.schema.introspect import Schema
from pytcg.softmmu.ram import RamError

QEMU_VERSION: Final = {"major": 7, "minor": 2, "micro": 0}
"""Whose commands these are."""
SAVE_CHUNK: Final = 1 << 20

# Queries -----------------------------------------------------------------------------------------


def query_version(machine: Machine) -> Any:
    """The version of the interface, and ours."""
    del machine
    return {"qemu": QEMU_VERSION, "package": f"pytcg {__version__}"}


def query_commands(machine: Machine) -> Any:
    """Every command there is."""
    del machine
    return [{"name": name} for name in sorted(COMMANDS)]


def query_schema(machine: Machine) -> Any:
    """Commands, events, and the types of what they take and give."""
    del machine
    return Schema().tell(COMMANDS.values(), EVENTS)


def query_status(machine: Machine) -> Any:
    """Whether the guest runs."""
    state = machine.runner.state
    return {"running": state is RunState.RUNNING, "singlestep": False, "status": state.value}


def query_name(machine: Machine) -> Any:
    """-name."""
    return {"name": machine.name} if machine.name else {}


def query_uuid(machine: Machine) -> Any:
    """-uuid."""
    return {"UUID": machine.uuid}


def query_kvm(machine: Machine) -> Any:
    """Whether KVM runs the guest, and whether the host has it."""
    from pytcg.accel.kvm.vcpu import KvmVcpu

    board: Any = machine.board
    enabled = board.kvm if isinstance(board, EmptyBoard) else isinstance(board.vcpu, KvmVcpu)
    return {"enabled": enabled,
            "present": os.path.exists("/dev/kvm")}  # fmt: skip


def query_target(machine: Machine) -> Any:
    """The processor's architecture."""
    del machine
    return {"arch": "x86_64"}


def query_cpus_fast(machine: Machine) -> Any:
    """The virtual processors."""
    if isinstance(machine.board, EmptyBoard):
        return []
    return [{"cpu-index": 0, "qom-path": "/machine/unattached/device[0]", "target": "x86_64",
             "thread-id": machine.runner.thread_id,
             "props": {"core-id": 0, "thread-id": 0, "socket-id": 0}}]  # fmt: skip


def query_machines(machine: Machine) -> Any:
    """The boards."""
    del machine
    board = {"cpu-max": 1, "hotpluggable-cpus": False, "numa-mem-supported": False,
             "deprecated": False}  # fmt: skip
    return [{"name": "pc-i440fx-7.2", "alias": "pc", "is-default": True, **board},
            {"name": "pc-q35-7.2", "alias": "q35", **board}, {"name": "none", **board}]  # fmt: skip


def query_memory_size_summary(machine: Machine) -> Any:
    """How much RAM there is."""
    return {"base-memory": machine.board.config.ram_size, "plugged-memory": 0}


# The guest's run ---------------------------------------------------------------------------------


def stop(machine: Machine) -> Any:
    """Stop the processor."""
    machine.runner.pause()
    return {}


def cont(machine: Machine) -> Any:
    """Go on."""
    machine.runner.resume()
    return {}


def system_reset(machine: Machine) -> Any:
    """Press the reset button."""
    machine.runner.reset()
    return {}


def system_powerdown(machine: Machine) -> Any:
    """Press the power button."""
    machine.runner.power_down()
    return {}


def quit_emulator(machine: Machine) -> Any:
    """End the emulator."""
    machine.runner.quit()
    return {}


def inject_nmi(machine: Machine) -> Any:
    """An NMI."""
    machine.board.vcpu.raise_nmi()
    return {}


def human_monitor_command(machine: Machine, command_line: str, cpu_index: int = 0) -> Any:
    """What the human monitor prints for a line."""
    if cpu_index:
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    return run_line(machine, command_line, partial(run_command, machine))


def run_command(machine: Machine, name: str, /, **arguments: Any) -> Any:
    """A command of the table, by whoever else needs it; CommandError."""
    command = COMMANDS[name]
    known = {member.name.replace("-", "_"): member.name for member in command.members}
    given = {known.get(key, key): value for key, value in arguments.items()}
    return command.call(machine, given)


# Memory, screen, keys ----------------------------------------------------------------------------


def pmemsave(machine: Machine, val: int, size: int, filename: str) -> Any:
    """Write physical memory to a file."""
    return _save(machine.board.memory.read, val, size, filename)


def memsave(machine: Machine, val: int, size: int, filename: str, cpu_index: int = 0) -> Any:
    """Write memory, as the processor addresses it, to a file."""
    if cpu_index:
        raise CommandError("Parameter 'cpu-index' expects a CPU number")
    board = machine.board
    with machine.runner.at_rest():
        read = partial(read_virtual, board.memory, board.vcpu.regs)
        return _save(read, val, size, filename)


def _save(read: Callable[[int, int], bytes], val: int, size: int, filename: str) -> Any:
    if size < 0 or val < 0:
        raise CommandError("Invalid parameter 'size'" if size < 0 else "Invalid parameter 'val'")
    try:
        with open(filename, "wb") as file:
            for at in range(val, val + size, SAVE_CHUNK):
                file.write(read(at, min(SAVE_CHUNK, val + size - at)))
    except OSError as error:
        raise CommandError(f"Could not open '{filename}': {error.strerror}") from error
    except RamError as error:
        raise CommandError(f"Invalid addr {val:#018x}/size {size} specified") from error
    return {}


def screendump(machine: Machine, filename: str, format: str = "ppm") -> Any:
    """The screen as a file."""
    if machine.console is None:
        raise CommandError("There is no console to take a screendump from.")
    try:
        machine.console.screenshot(Path(filename), format)
    except OSError as error:
        raise CommandError(f"failed to open file '{filename}': {error.strerror}") from error
    return {}


NEGOTIATE: Final = Command("qmp_capabilities", lambda machine, **given: None,
                           "*enable: [QMPCapability]")  # fmt: skip
"""A session's own command: it is there once, before all others."""

COMMANDS: Final = {command.name: command for command in (
    NEGOTIATE,
    *migration.COMMANDS,
    *characters.COMMANDS,
    *devices.COMMANDS,
    *dump.COMMANDS,
    *chains.COMMANDS,
    *copies.COMMANDS,
    *create.COMMANDS,
    *exports.COMMANDS,
    *joblist.COMMANDS,
    *media.COMMANDS,
    *nodes.COMMANDS,
    *objects.COMMANDS,
    *probing.COMMANDS,
    *query.COMMANDS,
    *reopening.COMMANDS,
    *snapshots.COMMANDS,
    *snapshot_jobs.COMMANDS,
    *throttling.COMMANDS,
    *input.COMMANDS,
    *vnc.COMMANDS,
    *yank.COMMANDS,
    Command("query-version", query_version, returns="VersionInfo"),
    Command("query-commands", query_commands, returns="[CommandInfo]"),
    Command("query-qmp-schema", query_schema, returns="[SchemaInfo]"),
    Command("query-status", query_status, returns="StatusInfo"),
    Command("query-name", query_name, returns="NameInfo"),
    Command("query-uuid", query_uuid, returns="UuidInfo"),
    Command("query-kvm", query_kvm, returns="KvmInfo"),
    Command("query-target", query_target, returns="TargetInfo"),
    Command("query-cpus-fast", query_cpus_fast, returns="[CpuInfoFast]"),
    Command("query-machines", query_machines, returns="[MachineInfo]"),
    Command("query-memory-size-summary", query_memory_size_summary, returns="MemoryInfo"),
    Command("stop", stop),
    Command("cont", cont),
    Command("system_reset", system_reset),
    Command("system_powerdown", system_powerdown),
    Command("quit", quit_emulator),
    Command("inject-nmi", inject_nmi),
    Command("human-monitor-command", human_monitor_command,
            "command-line: str, *cpu-index: int", "str"),
    Command("memsave", memsave, "val: int, size: int, filename: str, *cpu-index: int"),
    Command("pmemsave", pmemsave, "val: int, size: int, filename: str"),
    Command("screendump", screendump, "filename: str, *format: ImageFormat"),
)}  # fmt: skip
