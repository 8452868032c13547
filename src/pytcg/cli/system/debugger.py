"""Serving GDB in a running machine: from the command line, or by the monitor's `gdbserver`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pytcg.chardev.base import ChardevError

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pytcg.cli.system.option_values import Options
    from pytcg.gdbstub.system import GdbServer
    from pytcg.monitor.machine import Machine

_TCP = ",server=on,wait=off,nodelay=on"


class DebuggerService:
    """At most one server at a time."""

    def __init__(self, machine: Machine):
        self._machine = machine
        self._server: GdbServer | None = None

    def serve(self, device: str) -> None:
        """Serve on a chardev instead of where it does now; "none": nowhere. ChardevError."""
        if device == "none":
            self.close()
            return
        from pytcg.chardev.spec import open_chardev
        from pytcg.gdbstub.system import GdbServer, debuggable
        from pytcg.gdbstub.target import TargetError

        try:
            debuggable(self._machine)
        except TargetError as error:
            raise ChardevError(f"gdbstub: {error}") from error
        chardev = open_chardev(device + _TCP if device.startswith("tcp:") else device, "gdb")
        self.close()
        self._server = GdbServer(self._machine, chardev, self._monitor)
        self._server.start(self._machine.chardevs.context)

    def command(self, device: str) -> str:
        """The monitor's ``gdbserver DEVICE``."""
        try:
            self.serve(device)
        except ChardevError:
            return f"Could not open gdbserver on device '{device}'\n"
        if device == "none":
            return "Disabled gdbserver\n"
        return f"Waiting for gdb connection on device '{device}'\n"

    def close(self) -> None:
        """Serve no longer."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def _monitor(self, line: str) -> str:
        from pytcg.monitor.commands import run_command
        from pytcg.monitor.human.monitor import run_line

        return run_line(self._machine, line, partial(run_command, self._machine))


def serve_debugger(options: Options, machine: Machine, stack: ExitStack) -> None:
    """Serve what `-gdb` names, and let the monitor do so; ChardevError."""
    service = DebuggerService(machine)
    stack.callback(service.close)
    machine.serve_gdb = service.command
    if options.gdb is not None:
        service.serve(options.gdb)
