"""A line of the human monitor: found in the tables, run, its errors told as text."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockError
from pytcg.machine.drives import DeviceError
from pytcg.machine.runner import MachineError
from pytcg.monitor.command import CommandError
from pytcg.monitor.human import block, control, drives, input, io, jobs, memory, saving, vnc
from pytcg.monitor.human.info import SUBJECTS
from pytcg.monitor.human.table import HumanCommand, Qmp, Shell, UsageError, find

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def run_line(machine: Machine, line: str, qmp: Qmp) -> str:
    """What the monitor prints for a line, with CR LF; errors are text too."""
    return _run(Shell(machine, qmp), line).replace("\n", "\r\n")


def _run(shell: Shell, line: str) -> str:
    words = _split(line)
    if not words:
        return ""
    name, form = _name(words[0])
    row, rows, at = find(COMMANDS, name), COMMANDS, 1
    if row is not None and name == "info" and len(words) > 1:
        row, rows, at = find(SUBJECTS, words[1]), SUBJECTS, 2
        name = words[1]
    if row is None or (form and not row.format):
        return f"unknown command: '{line.strip()}'\n"
    arguments = ([form] if form else []) + words[at:]
    called = f"info {name}" if rows is SUBJECTS else name
    try:
        _count(row, arguments)
        return row.run(shell, arguments)
    except UsageError as error:
        text = str(error)
        if not row.format and "extraneous" in text:
            text = f"{row.names}: {text}"
        return f'{text}\nTry "help {called}" for more information\n'
    except (CommandError, MachineError, BlockError, DeviceError) as error:
        return f"Error: {error}\n"
    except Exception as error:  # our own fault: the guest must not pay for it
        return f"Error: internal error: {type(error).__name__}: {error}\n"


def _count(row: HumanCommand, words: list[str]) -> None:
    if len(words) > row.most:
        raise UsageError("extraneous characters at the end of line")
    if len(words) < row.least:
        wanted = row.arguments.split()[len(words)]
        what = {"device": "block device name", "filename": "filename"}.get(wanted, "string")
        raise UsageError(f"{row.names}: {what} expected")


def _name(word: str) -> tuple[str, str]:
    """A command's name, and the /FORMAT that may stick to it."""
    name, slash, form = word.partition("/")
    return name, slash + form


def _split(line: str) -> list[str]:
    """Words, quoted as QEMU does."""
    if '"' not in line:
        return line.split()
    try:
        return shlex.split(line, posix=True)
    except ValueError:
        return line.split()


def show_help(shell: Shell, words: list[str]) -> str:
    """help."""
    del shell
    rows, prefix = COMMANDS, ""
    if words and words[0] == "info":
        rows, prefix, words = SUBJECTS, "info ", words[1:]
    if words:
        row = find(rows, words[0])
        return row.line(prefix) if row is not None else ""
    return "".join(row.line(prefix) for row in rows)


def show_info(shell: Shell, words: list[str]) -> str:
    """info without a subject."""
    return show_help(shell, ["info", *words])


COMMANDS: Final = tuple(sorted((
    *block.COMMANDS, *control.COMMANDS, *drives.COMMANDS, *memory.COMMANDS, *saving.COMMANDS,
    *vnc.COMMANDS, *input.COMMANDS, *io.COMMANDS, *jobs.COMMANDS,
    HumanCommand("help|?", "[cmd]", "show the help", show_help, 0, 2),
    HumanCommand("info", "[subcommand]", "show various information about the system state",
                 show_info, 0, 1),
)))  # fmt: skip


def complete(text: str) -> list[str]:
    """Words that may follow what is typed, for the word under the cursor."""
    before, _, word = text.rpartition(" ")
    rows = {"": COMMANDS, "info": SUBJECTS, "help": COMMANDS, "?": COMMANDS,
            "help info": SUBJECTS}.get(" ".join(before.split()))  # fmt: skip
    names = [name for row in rows or () for name in row.names.split("|")]
    return sorted(name for name in names if name.startswith(word))
