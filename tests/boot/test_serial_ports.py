"""Linux's virtio_console and ours: named ports, consoles, peers that come and go."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from boot.terminal import ANSWER_SECONDS, Terminal

pytestmark = pytest.mark.boot
Machine = Callable[..., Terminal]
NAME = "org.pytcg.test"
FIND = "n=$(grep -l org.pytcg.test /sys/class/virtio-ports/*/name); p=/dev/$(basename ${n%/name})"


def connect(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(ANSWER_SECONDS)
    peer.connect(str(path))
    return peer


def read_line(peer: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        data = peer.recv(1)
        assert data, line
        line += data
    return line


def test_a_named_port_carries_bytes_both_ways(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "port"
    terminal = machine(
        "-chardev", f"socket,path={path},server=on,wait=off,id=c", "-device", "virtio-serial-pci",
        "-device", f"virtserialport,chardev=c,name={NAME}",
    )  # fmt: skip
    with connect(path) as peer:
        # Linux drops what came when the last one closes a port: keep it open.
        terminal.type(f"{FIND}; exec 5<>$p; echo hello from the guest >&5; read line <&5; "
                      "echo got $line\n")  # fmt: skip
        assert read_line(peer) == b"hello from the guest\n"
        peer.sendall(b"hello from the host\n")
        terminal.wait_for(b"^got hello from the host", ANSWER_SECONDS)
        # More than any buffer holds, to a reader that takes its time and back.
        terminal.type("dd bs=64k count=4 iflag=fullblock <&5 2>/dev/null | sha256sum\n")
        peer.sendall(b"0123456789abcdef" * 16384)
        screen = terminal.wait_for(rb"^[0-9a-f]{64}", ANSWER_SECONDS)
        assert hashlib.sha256(b"0123456789abcdef" * 16384).hexdigest().encode() in screen
        terminal.type("dd if=/dev/zero bs=64k count=32 2>/dev/null >&5; echo is $((6*7))\n")
        total = 0
        while total < 32 * 65536:
            data = peer.recv(1 << 20)
            assert data
            total += len(data)
        terminal.wait_for(b"^is 42", ANSWER_SECONDS)
    with connect(path) as peer:  # the next peer
        terminal.type("echo again >&5\n")
        assert read_line(peer) == b"again\n"


def test_a_shell_on_a_virtio_console(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "console"
    terminal = machine(
        "-chardev", f"socket,path={path},server=on,wait=off,id=c", "-device", "virtio-serial-pci",
        "-device", "virtconsole,chardev=c",
    )  # fmt: skip
    with connect(path) as peer:
        terminal.type("setsid sh -c 'exec sh </dev/hvc0 >/dev/hvc0 2>&1' &\n")
        peer.sendall(b"echo $((6*7))$((6*7))\n")
        seen = b""
        while b"4242" not in seen:
            seen += peer.recv(4096)
