"""The two debuggers of these tests: GDB itself, and a client that speaks the protocol by hand."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from pytcg.gdbstub.packets import Decoder, frame

SECONDS = 120
needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")


def run_gdb(target: str, *commands: str, symbols: Path | None = None) -> str:
    """What GDB prints for commands, once it is connected to ``target``."""
    words = ["gdb", "-batch", "-nx", "-ex", "set confirm off", "-ex", "set width 0"]
    if symbols is not None:
        words.append(str(symbols))
    for command in (f"target remote {target}", *commands):
        words += ["-ex", command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.stdout + done.stderr


class Wire:
    """A client by hand: `ask` sends a packet and gives the answer."""

    def __init__(self, address: tuple[str, int] | str):
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(SECONDS)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, SECONDS)
        self._decoder = Decoder()
        self._found: list[bytes] = []

    def send(self, packet: str | bytes) -> None:
        data = packet if isinstance(packet, bytes) else packet.encode("latin-1")
        self.socket.sendall(frame(data))

    def receive(self) -> str:
        while not self._found:
            data = self.socket.recv(65536)
            assert data, "the server hung up"
            self._found += [found for found in self._decoder.feed(data) if isinstance(found, bytes)]
            self.socket.sendall(b"+")
        return self._found.pop(0).decode("latin-1")

    def ask(self, packet: str | bytes) -> str:
        self.send(packet)
        return self.receive()

    def interrupt(self) -> str:
        self.socket.sendall(b"\x03")
        return self.receive()

    def register(self, number: int) -> int:
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int, size: int = 8) -> None:
        data = value.to_bytes(size, "little").hex()
        assert self.ask(f"P{number:x}={data}") == "OK"

    def memory(self, address: int, size: int) -> bytes:
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))

    def close(self) -> None:
        self.socket.close()


RCX, RSP, RIP, EFLAGS, CS = 2, 7, 16, 17, 18
"""GDB's numbers of registers, in the 64-bit description."""
