"""A whole machine in the test's own process, but for its processor, with a QMP client at it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.chardev.base import Chardev, Context
from pytcg.cli.system.characters import open_chardevs
from pytcg.cli.system.drives import Drives
from pytcg.cli.system.options import parse
from pytcg.machine.devices.rack import Rack
from pytcg.machine.loop import MainLoop
from pytcg.machine.pc import Pc, PcConfig
from pytcg.machine.runner import Runner
from pytcg.monitor.command import CommandError
from pytcg.monitor.commands import run_command
from pytcg.monitor.devices import watch_devices
from pytcg.monitor.human.monitor import run_line
from pytcg.monitor.machine import Machine
from pytcg.monitor.qmp import QmpSession
from pytcg.monitor.schema.check import check
from pytcg.monitor.schema.events import EVENTS

SECONDS = 240.0


class Client(Chardev):
    """The other end of a QMP session: what was said to it."""

    def __init__(self) -> None:
        super().__init__("qmp")
        self.said: list[dict[str, Any]] = []

    def send(self, data: bytes) -> None:
        self.said.append(json.loads(data))


class Station:
    """A machine of a command line; its processor does nothing, and waits for `cont`."""

    def __init__(self, line: str, stack: ExitStack) -> None:
        options = parse(["-nodefaults", *line.split()])
        self.loop = MainLoop()
        stack.callback(self.loop.close)
        lock = self.loop.lock
        chardevs = open_chardevs(options, Context(self.loop.asyncio, lock, self.loop.stop))
        stack.callback(chardevs.close)
        board = Pc(PcConfig(16 << 20), self.loop.clock, lock, board_memory(16 << 20),
                   lambda bus: FakeVcpu(bus, FakeVcpu.wait))  # fmt: skip
        drives = Drives(options, lock, self._fail, stack)
        self.rack = Rack(board, drives.by_id, chardevs)
        drives.add_devices(self.rack)
        self.board = board
        board.boot = lambda vcpu: None
        self.failures: list[BaseException] = []
        runner = Runner(board, self.loop, paused=True)
        self.machine = Machine(board, runner, chardevs, self.loop, drives.by_id)
        self.machine.rack = self.rack
        self.machine.add_drive = drives.add
        watch_devices(self.machine)
        board.start()
        thread = threading.Thread(target=runner._vcpu_main, daemon=True)
        thread.start()
        stack.callback(self._end, runner, thread)
        self.client = Client()
        QmpSession(self.machine, self.client).start()
        self.say({"execute": "qmp_capabilities"})

    def _fail(self, error: BaseException) -> None:
        self.failures.append(error)

    def _end(self, runner: Runner, thread: threading.Thread) -> None:
        with runner._wake:
            runner._quitting = True
            runner._wake.notify_all()
        self.board.vcpu.request_exit()
        thread.join(SECONDS)
        if self.machine.exports.server is not None:
            self.machine.exports.server.close()
        assert not self.failures and self.loop.error is None, (self.failures, self.loop.error)

    # --- the protocol --------------------------------------------------------------------------

    def say(self, request: Any) -> dict[str, Any]:
        """A request as it stands, and its answer; events are kept."""
        text = request if isinstance(request, str) else json.dumps(request)
        before = len(self._answers())
        assert self.client.frontend is not None
        self.client.frontend.receive(text.encode() + b"\n")
        self.until(lambda: len(self._answers()) > before)
        return self._answers()[-1]

    def _answers(self) -> list[dict[str, Any]]:
        return [each for each in self.client.said if "event" not in each and "QMP" not in each]

    def events(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        """(name, data) so far, all or those of some names."""
        return [(each["event"], each.get("data", {})) for each in self.client.said
                if "event" in each and (not names or each["event"] in names)]  # fmt: skip

    def until(self, condition: Callable[[], bool]) -> None:
        """Serve the main loop until something is so."""
        end = time.monotonic() + SECONDS
        while True:
            self.loop.asyncio.run_until_complete(asyncio.sleep(0.002))
            if condition():
                return
            assert time.monotonic() < end, self.client.said[-8:]

    def event(self, name: str, **data: Any) -> dict[str, Any]:
        """Wait for one with this data, which must be of its declared type."""
        def found() -> list[dict[str, Any]]:
            return [told for _, told in self.events(name) if data.items() <= told.items()]

        self.until(lambda: bool(found()))
        return found()[-1]

    def forget(self) -> None:
        """What was said so far."""
        self.client.said.clear()

    def run(self, name: str, /, **arguments: Any) -> Any:
        """A command's result, which must be of the type that its row declares."""
        from pytcg.monitor.commands import COMMANDS

        given = {key.replace("_", "-") if key not in _UNDERSCORED else key: value
                 for key, value in arguments.items()}  # fmt: skip
        answer = self.say({"execute": name, "arguments": given})
        if "error" in answer:
            raise CommandError(answer["error"]["desc"], answer["error"]["class"])
        result, declared = answer["return"], COMMANDS[name].returns
        if declared is None:
            assert result == {}
        else:
            check(result, declared, name)
        for event, told in self.events():
            check_event(event, told)
        return result

    def refused(self, name: str, /, **arguments: Any) -> str:
        """The error of a command that must fail."""
        with pytest.raises(CommandError) as caught:
            self.run(name, **arguments)
        return str(caught.value)

    def line(self, text: str) -> str:
        """What the human monitor prints for a line."""
        shown = run_line(self.machine, text, lambda name, /, **given:
                         run_command(self.machine, name, **given))  # fmt: skip
        return shown.replace("\r\n", "\n")


_UNDERSCORED = ("iops_rd", "iops_wr", "bps_rd", "bps_wr")


def check_event(name: str, data: dict[str, Any]) -> None:
    """An event's data must be what the table says."""
    from pytcg.monitor.schema.check import check_members

    check_members(data, EVENTS[name])


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Callable[[str], Station]]:
    """Makes machines of command lines; `{folder}` in one is the test's own."""
    with ExitStack() as stack:
        yield lambda line: Station(line.format(folder=tmp_path), stack)
