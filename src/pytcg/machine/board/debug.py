"""Ports that only emulators have: the debug console and the debug exit."""

from __future__ import annotations

from functools import partial

from pytcg.chardev.base import Chardev
from pytcg.hw.core.glue import DebugConsole, DebugExit
from pytcg.machine import pc_map as at
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.bus import PortHandlers
from pytcg.machine.runner import Event, PowerRequest


def attach_debug_console(board: Backplane, chardev: Chardev, port: int = at.DEBUG_CONSOLE, *,
                         readback: int = at.DEBUG_CONSOLE) -> None:  # fmt: skip
    """Bytes written to the port go to the chardev; ``readback`` is what the port reads as."""
    console = board.add(DebugConsole(chardev.write, readback=readback))
    board.ports.attach(console, port, count=1)


def attach_debug_exit(board: Backplane, port: int, count: int) -> None:
    """A write to one of ``count`` ports ends the emulator."""

    def ask_exit(status: int) -> None:
        board.ask(PowerRequest(Event.DEBUG_EXIT, status & 0xFF))

    device = board.add(DebugExit(ask_exit))
    board.ports.attach(device, port, count=count)
    handlers = PortHandlers(partial(device.read, 0), partial(device.write, 0))
    for size in (2, 4):  # the whole value counts, whatever the width
        board.ports.attach_port(handlers, port, size=size)
