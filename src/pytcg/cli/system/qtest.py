"""-qtest: a test at the devices of a machine."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING, Any

from pytcg.cli.system.characters import open_for
from pytcg.machine.qtest.session import QtestSession
from pytcg.machine.runner import MachineError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytcg.cli.system.option_values import Options
    from pytcg.monitor.machine import Machine


def serve_qtest(options: Options, machine: Machine, stack: ExitStack) -> None:
    """Serve it from now on; ChardevError, MachineError."""
    assert options.qtest is not None
    chardev = open_for(machine.chardevs, "-qtest", options.qtest, "qtest")
    if chardev is None:
        return
    board: Any = machine.board
    QtestSession(board, machine.loop, chardev, _open_log(options, stack)).start(machine.chardevs)


def _open_log(options: Options, stack: ExitStack) -> IO[str] | None:
    """QEMU's own default is stderr."""
    name = options.qtest_log
    if name == "none":
        return None
    if name is None:
        return sys.stderr
    try:
        return stack.enter_context(open(name, "w", encoding="utf-8", buffering=1))
    except OSError as error:
        raise MachineError(f"Failed to open {name} for QTest log: {error.strerror}") from error
