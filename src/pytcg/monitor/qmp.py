"""A QMP session on a character device: greeting, negotiation, commands, events.

The wire protocol is QEMU's ("docs/interop/qmp-spec"). Commands run in the main loop without the
device lock, since some have to wait for the processor.
"""

from __future__ import annotations

import json
import time
from enum import Enum, auto
from typing import Any, Final

from pytcg.block.device import BlockError
from pytcg.chardev.base import Chardev
from pytcg.machine.drives import DeviceError
from pytcg.machine.runner import MachineError
from pytcg.monitor.command import CLASS_GENERIC, CLASS_NOT_FOUND, CommandError
from pytcg.monitor.commands import COMMANDS, NEGOTIATE, query_version
from pytcg.monitor.jsonstream import JsonError, JsonStream
from pytcg.monitor.machine import Machine
from pytcg.monitor.order import ordered

OOB: Final = "exec-oob"
_OTHER_MEMBERS: Final = ("arguments", "id")
_ROOM = 65536


class State(Enum):
    """How far a client is."""

    CLOSED = auto()       # there is none
    NEGOTIATING = auto()  # greeted; `qmp_capabilities` comes next
    READY = auto()


class QmpSession:
    """The front-end of the monitor's character device."""

    def __init__(self, machine: Machine, chardev: Chardev, *, pretty: bool = False) -> None:
        self._machine = machine
        self._chardev = chardev
        self._context = machine.chardevs.context
        self._indent = 4 if pretty else None
        self._stream = JsonStream()
        self.state = State.CLOSED
        self._oob = False
        chardev.on_open = self._opened
        chardev.on_close = self._closed
        machine.runner.on_event.append(self.event)

    def start(self) -> None:
        """Begin to serve."""
        self._machine.chardevs.connect(self._chardev, self)

    def _opened(self) -> None:
        self._stream = JsonStream()
        self.state, self._oob = State.NEGOTIATING, False
        version = query_version(self._machine)
        self._send({"QMP": {"version": version, "capabilities": ["oob"]}})

    def _closed(self) -> None:
        self.state = State.CLOSED

    # --- the character device's side -----------------------------------------------------------

    def can_receive(self) -> int:
        """As much as comes."""
        return _ROOM

    def receive(self, data: bytes) -> int:
        """Bytes of the client."""
        for value in self._stream.feed(data):
            if self._oob and isinstance(value, dict) and OOB in value:
                self._serve(value)  # before what was asked for earlier
            else:
                self._context.loop.call_soon(self._serve, value)
        return len(data)

    def receive_break(self) -> None:
        """Nothing to monitors."""

    def _send(self, value: Any) -> None:
        with self._context.lock:
            self._chardev.write(json.dumps(ordered(value), indent=self._indent).encode() + b"\r\n")

    # --- commands ------------------------------------------------------------------------------

    def _serve(self, request: Any) -> None:
        if self.state is State.CLOSED:
            return
        answer: dict[str, Any]
        try:
            if isinstance(request, JsonError):
                raise CommandError(str(request))
            answer = {"return": self._execute(request)}
        except CommandError as error:
            answer = {"error": {"class": error.kind, "desc": str(error)}}
        except (MachineError, BlockError, DeviceError) as error:
            answer = {"error": {"class": CLASS_GENERIC, "desc": str(error)}}
        except Exception as error:  # our own fault: the guest must not pay for it
            text = f"internal error: {type(error).__name__}: {error}"
            answer = {"error": {"class": CLASS_GENERIC, "desc": text}}
        if isinstance(request, dict) and "id" in request:
            answer["id"] = request["id"]
        self._send(answer)

    def _execute(self, request: Any) -> Any:
        key, name, arguments = self._check(request)
        if self.state is State.NEGOTIATING:
            return self._negotiate(name, arguments)
        if name == NEGOTIATE.name:
            raise CommandError("Capabilities negotiation is already complete, command ignored",
                               CLASS_NOT_FOUND)  # fmt: skip
        command = COMMANDS.get(name)
        if command is None:
            raise CommandError(f"The command {name} has not been found", CLASS_NOT_FOUND)
        if key == OOB and not command.oob:
            raise CommandError(f"The command {name} does not support OOB")
        return command.call(self._machine, arguments)

    def _check(self, request: Any) -> tuple[str, str, dict[str, Any]]:
        """Which member says what to execute, the command, its arguments; CommandError."""
        if not isinstance(request, dict):
            raise CommandError("QMP input must be a JSON object")
        keys = ["execute", *([OOB] if self._oob else [])]
        found = [key for key in keys if key in request]
        for name in request:
            if name not in (*keys, *_OTHER_MEMBERS):
                raise CommandError(f"QMP input member '{name}' is unexpected")
        if len(found) > 1:
            raise CommandError(f"QMP input member '{found[0]}' clashes with '{found[1]}'")
        if not found:
            raise CommandError("QMP input lacks member 'execute'")
        name, arguments = request[found[0]], request.get("arguments", {})
        if not isinstance(name, str):
            raise CommandError(f"QMP input member '{found[0]}' must be a string")
        if not isinstance(arguments, dict):
            raise CommandError("QMP input member 'arguments' must be an object")
        return found[0], name, arguments

    def _negotiate(self, name: str, arguments: dict[str, Any]) -> Any:
        if name != NEGOTIATE.name:
            raise CommandError("Expecting capabilities negotiation with 'qmp_capabilities'",
                               CLASS_NOT_FOUND)  # fmt: skip
        NEGOTIATE.call(self._machine, arguments)
        self._oob = "oob" in arguments.get("enable", [])
        self.state = State.READY
        return {}

    # --- events --------------------------------------------------------------------------------

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Tell a client that is ready; main loop."""
        if self.state is not State.READY:
            return
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        stamp = {"seconds": seconds, "microseconds": nanoseconds // 1000}
        body = {"event": name, "timestamp": stamp}
        self._send({**body, "data": data} if data else body)
