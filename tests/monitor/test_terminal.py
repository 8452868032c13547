"""The human monitor on a terminal."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from boot.terminal import Terminal
from monitor.test_qmp import BIOS

SECONDS = 120


@pytest.fixture
def bios(tmp_path: Path) -> str:
    (tmp_path / "bios").write_bytes(BIOS)
    return str(tmp_path / "bios")


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for each in made:
        each.close()


def test_control_a_c_switches_between_the_serial_port_and_the_monitor(
    bios: str, terminals: list[Terminal]
) -> None:
    terminal = Terminal("-m", "16", "-bios", bios, "-nographic", "-S")
    terminals.append(terminal)
    terminal.type("\x01h")
    terminal.wait_for(rb"C-a c    switch between console and monitor", SECONDS)
    terminal.type("\x01c")
    terminal.wait_for(rb"monitor \(pytcg\) - type 'help' for more information\s+\(qemu\) ?$",
                      SECONDS)  # fmt: skip
    terminal.type("info sta\t")
    terminal.wait_for(rb"info status ?$", SECONDS)
    terminal.type("\r")
    terminal.wait_for(rb"VM status: paused \(prelaunch\)\s+\(qemu\) ?$", SECONDS)
    terminal.type("c\r")
    terminal.wait_for(rb"c\s+\(qemu\) ?$", SECONDS)
    terminal.type("\x1b[A\x1b[A\r")  # the history
    terminal.wait_for(rb"VM status: running", SECONDS)
    terminal.type("frobnicate\r")
    terminal.wait_for(rb"unknown command: 'frobnicate'", SECONDS)
    terminal.type("\x01cto the guest\x01c")
    terminal.wait_for(rb"\(qemu\) ?$", SECONDS)
    terminal.type("quit\r")
    assert terminal.wait(60) == 0


def test_a_monitor_on_a_socket_outlives_its_clients(
    bios: str, terminals: list[Terminal], tmp_path: Path
) -> None:
    path = tmp_path / "m"
    terminal = Terminal("-m", "16", "-bios", bios, "-serial", "none",
                        "-monitor", f"unix:{path},server=on,wait=off")  # fmt: skip
    terminals.append(terminal)
    while not path.exists():
        terminal.read(0.05)
        assert terminal.process.poll() is None

    def talk(typed: bytes, until: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(SECONDS)
            while peer.connect_ex(str(path)):  # it may not listen yet
                time.sleep(0.01)
            seen = b""
            while b"(qemu) " not in seen:
                seen += peer.recv(4096)
            peer.sendall(typed)
            while until not in seen:
                more = peer.recv(4096)
                assert more, seen
                seen += more

    for _ in range(3):
        talk(os.urandom(3000) + b"\r", b"(qemu) ")
    talk(b"info registers\r", b"XMM07=")
    talk(b"", b"")  # gone at once
    talk(b"info name\rinfo version\r", b"pytcg")
    talk(b"x /99999999i 0\rp (((\rp $nix\rsendkey a-b-c\rinfo foo\rhelp help\r", b"show the help")
