"""QMP by QEMU's own client library, and by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from qemu.qmp import EventListener, ExecuteError, QMPClient

from boot.terminal import SOURCES
from chardev.listening import listens

SECONDS = 120
IDLE = b"\xfa\xf4\xeb\xfd"  # cli; hlt; jmp
BIOS = IDLE.rjust(0x10000 - 16 + len(IDLE), b"\0").ljust(0x10000, b"\0")


class Emulator:
    """A machine that does nothing, controlled by QMP."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.path = folder / "qmp"
        bios = folder / "bios"
        bios.write_bytes(BIOS)
        command = [sys.executable, "-m", "pytcg.cli.system", "-m", "16", "-serial", "none",
                   "-bios", str(bios), "-qmp", f"unix:{self.path},server=on,wait=off",
                   "-name", "quiet", *options]  # fmt: skip
        self.process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SOURCES},
                                        stdin=subprocess.DEVNULL)  # fmt: skip
        end = time.monotonic() + SECONDS
        while not listens(self.path):
            assert time.monotonic() < end and self.process.poll() is None, "no socket"
            time.sleep(0.05)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    made = Emulator(tmp_path, "-S")
    yield made
    made.close()


def test_a_client_runs_the_machine(emulator: Emulator, tmp_path: Path) -> None:
    async def story() -> None:
        client = QMPClient("test")
        await client.connect(str(emulator.path))
        assert client.greeting is not None
        assert client.greeting.QMP.version["qemu"]["major"] >= 7
        listener = EventListener()
        client.register_listener(listener)

        async def event(name: str) -> dict[str, Any]:
            found = await asyncio.wait_for(listener.get(), SECONDS)
            assert found["event"] == name
            return dict(found.get("data", {}))

        assert (await client.execute("query-status"))["status"] == "prelaunch"
        await client.execute("cont")
        await event("RESUME")
        assert (await client.execute("query-status"))["running"] is True
        await client.execute("stop")
        await event("STOP")
        assert (await client.execute("query-status"))["status"] == "paused"
        await client.execute("system_reset")
        assert await event("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}
        await client.execute("cont")
        await event("RESUME")
        await client.execute("system_powerdown")
        await event("POWERDOWN")
        names = {entry["name"] for entry in await client.execute("query-commands")}
        assert {"stop", "cont", "query-status"} <= names
        assert (await client.execute("query-name"))["name"] == "quiet"
        dump = tmp_path / "memory"
        await client.execute("pmemsave", {"val": 0xFFFF0000, "size": 0x10000,
                                          "filename": str(dump)})  # fmt: skip
        assert dump.read_bytes() == BIOS
        shot = tmp_path / "shot.png"
        await client.execute("screendump", {"filename": str(shot), "format": "png"})
        assert Image.open(shot).size == (640, 400)
        keys = [{"type": "qcode", "data": name} for name in ("ctrl", "alt", "delete")]
        await client.execute("send-key", {"keys": keys, "hold-time": 1})
        with pytest.raises(ExecuteError, match="does not accept value 'nokey'"):
            await client.execute("send-key", {"keys": [{"type": "qcode", "data": "nokey"}]})
        with pytest.raises(ExecuteError, match="The command frobnicate has not been found"):
            await client.execute("frobnicate")
        await client.execute("quit")
        assert (await event("SHUTDOWN"))["reason"] == "host-qmp-quit"
        with contextlib.suppress(EOFError):  # where the emulator hangs up first
            await client.disconnect()

    asyncio.run(story())
    assert emulator.process.wait(30) == 0


class Wire:
    """The protocol by hand."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rb")
        assert set(self.answer()) == {"QMP"}

    def answer(self) -> Any:
        return json.loads(self.file.readline())

    def ask(self, text: str) -> Any:
        self.sock.sendall(text.encode())
        return self.answer()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def error(kind: str, text: str) -> dict[str, Any]:
    return {"error": {"class": kind, "desc": text}}


def test_what_is_wrong_with_a_request_is_said(emulator: Emulator) -> None:
    wire = Wire(emulator.path)
    expecting = "Expecting capabilities negotiation with 'qmp_capabilities'"
    assert wire.ask('{"execute": "stop"}') == error("CommandNotFound", expecting)
    assert wire.ask('{"execute": "qmp_capabilities", "id": 7}') == {"return": {}, "id": 7}
    for text, answer in (
        ('{"execute": "qmp_capabilities"}',
         error("CommandNotFound",
               "Capabilities negotiation is already complete, command ignored")),
        ("[1]", error("GenericError", "QMP input must be a JSON object")),
        ('{"foo": 1}', error("GenericError", "QMP input member 'foo' is unexpected")),
        ("{}", error("GenericError", "QMP input lacks member 'execute'")),
        ('{"execute": 1}', error("GenericError", "QMP input member 'execute' must be a string")),
        ('{"execute": "stop", "arguments": 1}',
         error("GenericError", "QMP input member 'arguments' must be an object")),
        ('{"execute": "stop", "arguments": {"a": 1}}',
         error("GenericError", "Parameter 'a' is unexpected")),
        ('{"execute": "pmemsave", "arguments": {"val": 0}}',
         error("GenericError", "Parameter 'size' is missing")),
        ('{"execute": "pmemsave", "arguments": {"val": "0", "size": 1, "filename": "x"}}',
         error("GenericError", "Invalid parameter type for 'val', expected: integer")),
    ):  # fmt: skip
        assert wire.ask(text) == answer, text
    assert "JSON parse error" in wire.ask('{"execute": }')["error"]["desc"]
    assert wire.ask('{"execute": "query-kvm"}')["return"]["enabled"] is False
    wire.close()
    again = Wire(emulator.path)  # the next client starts anew
    assert again.ask('{"execute": "stop"}')["error"]["class"] == "CommandNotFound"
    again.close()


def test_lines_of_the_human_monitor(emulator: Emulator) -> None:
    wire = Wire(emulator.path)
    wire.ask('{"execute": "qmp_capabilities"}')

    def line(text: str) -> str:
        arguments = {"command-line": text}
        wire.sock.sendall(json.dumps({"execute": "human-monitor-command",
                                      "arguments": arguments}).encode())  # fmt: skip
        while "event" in (answer := wire.answer()):
            pass
        return str(answer["return"])

    assert line("info status") == "VM status: paused (prelaunch)\r\n"
    assert "EIP=0000fff0" in line("info registers")
    assert line("c") == ""
    assert line("info status") == "VM status: running\r\n"
    end = time.monotonic() + SECONDS
    while "EIP=0000fff2" not in line("info registers"):  # it runs, and is halted
        assert time.monotonic() < end
    assert line("xp/2xb 0xfffffff0") == "00000000fffffff0: 0xfa 0xf4\r\n"
    for text in ("xp", "xp/", "xp/z 0", "xp/99999999999x 0", "xp 0x", "xp -1",
                 "info x y", "\u00b2", "xp/\u00b2 0"):  # fmt: skip
        assert any(word in line(text) for word in (
            "unknown command: ", "Try \"help", "Cannot access memory")), text
    assert line("  ") == ""
    wire.close()


def test_a_machine_that_cannot_be_saved_goes_on(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path, "-device", "virtio-serial-pci")
    try:
        wire = Wire(emulator.path)
        wire.ask('{"execute": "qmp_capabilities"}')
        wire.ask(json.dumps({"execute": "migrate", "arguments": {"uri": f"file:{tmp_path}/out"}}))
        assert [wire.answer()["event"] for _ in range(2)] == ["STOP", "RESUME"]
        assert wire.ask('{"execute": "query-migrate"}')["return"]["status"] == "failed"
        assert wire.ask('{"execute": "query-status"}')["return"]["running"] is True
        assert not (tmp_path / "out").exists()
        wire.close()
    finally:
        emulator.close()
