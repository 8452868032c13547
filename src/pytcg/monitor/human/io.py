"""qemu-io: pytcg-io's commands on a disk of the machine, for tests. They print on the emulator's
own output, as QEMU's do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockError
from pytcg.block.gate import Gate
from pytcg.monitor.block.lookup import drive_of, root_of
from pytcg.monitor.human.block import flags_of
from pytcg.monitor.human.table import HumanCommand, Shell

if TYPE_CHECKING:
    from pytcg.cli.io.session import Session

NOT_HERE: Final = ("open", "close", "quit", "q")


def run_io(shell: Shell, words: list[str]) -> str:
    """qemu-io [-d] DEVICE COMMAND: by a drive's id or a node's name, or with -d by a device's."""
    from pytcg.cli.io.commands import run_line
    from pytcg.cli.io.session import CommandError, LoudError

    flags, [name, *command] = flags_of(words, "d")
    line = " ".join(command)
    machine = shell.machine
    if line.split(" ")[0] in NOT_HERE:
        return f'command "{line}" not found\n'
    session, gate = _session(shell, name, by_device="d" in flags)
    graph = machine.drives.graph
    graph.use(gate)
    try:
        run_line(session, line)
    except CommandError as error:
        if str(error):
            print(error, file=sys.stderr if isinstance(error, LoudError) else sys.stdout)
    except BlockError as error:
        print(error, file=sys.stderr)
    finally:
        session.reap()
        graph.leave(gate)
        sys.stdout.flush()
    return ""


def _session(shell: Shell, name: str, *, by_device: bool) -> tuple[Session, Gate]:
    """One that stands where the disk's users do now; requests in flight of the last one end."""
    from pytcg.cli.io.session import Session

    machine = shell.machine
    if by_device:
        drive = drive_of(machine, None, name)
        if drive.io is None:
            raise BlockError(f"Device '{name}' has no medium")
        node = drive.io.device.node
    else:
        node = root_of(machine, name)
    graph = machine.drives.graph
    session, gate = machine.io_sessions.get(node.node_name, (None, None))
    if session is None or gate is None or gate.node is not node:
        session, gate = Session(), Gate(graph.entry(node))
        session.device = gate
        machine.io_sessions[node.node_name] = session, gate
    gate.device = graph.entry(node)
    return session, gate


COMMANDS: Final = (
    HumanCommand("qemu-io", "[-d] device \"[command]\"", "run a command of qemu-io on a disk",
                 run_io, 2, 99),
)  # fmt: skip
