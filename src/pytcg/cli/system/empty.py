"""Running `-machine none`: monitors, and nothing that they could control."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pytcg.chardev.base import Context
from pytcg.cli.system.characters import open_chardevs, start_monitors
from pytcg.machine.drives import DeviceError
from pytcg.machine.loop import MainLoop
from pytcg.machine.none import EmptyBoard
from pytcg.machine.runner import Runner
from pytcg.monitor.machine import Machine

if TYPE_CHECKING:
    from pytcg.cli.system.option_values import Options


def run_empty(options: Options, stack: ExitStack) -> int:
    """Serve until somebody says quit; the exit status."""
    from pytcg.cli.system.drives import Drives

    for name, _ in options.devices:
        raise DeviceError(f"-device {name}: No bus found for device '{name}'")
    loop = MainLoop()
    stack.callback(loop.close)
    chardevs = open_chardevs(options, Context(loop.asyncio, loop.lock, loop.stop))
    stack.callback(chardevs.close)
    kvm = options.accelerators[:1] == ["kvm"] and os.access("/dev/kvm", os.R_OK | os.W_OK)
    board: Any = EmptyBoard(options.memory, kvm=kvm)
    runner = Runner(board, loop, no_reboot=options.no_reboot, paused=options.paused)
    drives = Drives(options, loop.lock, loop.fail, stack)
    machine = Machine(board, runner, chardevs, loop, drives.by_id, name=options.name)
    stack.callback(machine.end)
    start_monitors(options, machine)
    options.ready()
    return runner.run()
