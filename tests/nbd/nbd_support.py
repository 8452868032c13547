"""What the NBD tests share: a disk in memory, servers and peers that end with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytcg.block.device import BlockDevice, Extent
from pytcg.block.protocols.nbd.channel import Channel
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.protocol import (
    CLIENT_FLAGS,
    OPTION_REPLY,
    SIMPLE_REPLY,
    STRUCTURED_REPLY,
    HandshakeFlag,
    Option,
    Reply,
    Request,
    pack_info_request,
    pack_option,
)
from pytcg.block.protocols.nbd.server import NbdServer, listen_unix

SRC = str(Path(__file__).parents[2] / "src")
TIMEOUT = 20


def need(program: str) -> str:
    """The path of a peer; the test is skipped where it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class MemoryDisk(BlockDevice):
    """A disk in a bytearray; 4 KiB blocks of zeroes are holes."""

    format_name = "memory"
    BLOCK = 4096

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.flushes = 0
        self.cached: list[tuple[int, int]] = []
        self.fua_writes = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.check_range(offset, len(buffer))
        buffer[:] = memoryview(self.data)[offset : offset + len(buffer)]

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        self.check_range(offset, len(data), write=True)
        self.data[offset : offset + len(data)] = data
        self.fua_writes += fua

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        self.pwrite(offset, bytes(length), fua=fua)

    def discard(self, offset: int, length: int) -> None:
        self.pwrite(offset, bytes(length))

    def layer_status(self, offset: int, length: int) -> Extent:
        end = min(offset + length, (offset // self.BLOCK + 1) * self.BLOCK)
        start = offset // self.BLOCK * self.BLOCK
        zero = not any(self.data[start : start + self.BLOCK])
        return Extent(end - offset, data=not zero, zero=zero)

    def flush(self) -> None:
        self.flushes += 1

    def cache_range(self, offset: int, length: int) -> None:
        self.check_range(offset, length)
        self.cached.append((offset, length))

    def bitmap_names(self) -> list[str]:
        return ["changes"]

    def bitmap_status(self, name: str, offset: int, length: int) -> list[tuple[int, bool]]:
        return [(min(512, length - at), (offset + at) // 512 % 2 == 0)
                for at in range(0, length, 512)]


@contextlib.contextmanager
def serving(tmp_path: Path, *exports: Export, max_clients: int = 0, handshake_seconds: float = 10,
            tls: object = None) -> Iterator[str]:
    """A server in this process; the path of its socket."""
    path = str(tmp_path / "nbd.sock")
    server = NbdServer(exports, max_clients=max_clients, handshake_seconds=handshake_seconds,
                       tls=tls)  # type: ignore[arg-type]
    server.start(listen_unix(path))
    try:
        yield path
    finally:
        server.close()


def uri(path: str, export: str = "") -> str:
    """The NBD URI of an export on a unix socket."""
    return f"nbd+unix:///{export}?socket={path}"


class RawClient:
    """Speaks the protocol byte by byte, rightly or wrongly."""

    def __init__(self, path: str, *, flags: int | None = None) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        self.channel = Channel(sock)
        self.channel.set_deadline(TIMEOUT)
        self.channel.receive(18)
        if flags is None:
            flags = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self.channel.send(CLIENT_FLAGS.pack(flags))

    def option(self, option: Option, data: bytes = b"") -> list[tuple[int, bytes]]:
        """Send an option; its replies up to the one that ends them."""
        self.channel.send(pack_option(option, data))
        return self.replies()

    def replies(self) -> list[tuple[int, bytes]]:
        """Option replies up to ACK or an error."""
        found = []
        while True:
            _, _, kind, length = OPTION_REPLY.unpack(self.channel.receive(OPTION_REPLY.size))
            found.append((kind, bytes(self.channel.receive(length))))
            if kind == Reply.ACK or kind & 1 << 31:
                return found

    def go(self, name: str = "", *, structured: bool = False) -> None:
        """Enter the transmission phase."""
        if structured:
            assert self.option(Option.STRUCTURED_REPLY)[-1][0] == Reply.ACK
        assert self.option(Option.GO, pack_info_request(name, []))[-1][0] == Reply.ACK

    def request(self, command: int, offset: int = 0, length: int = 0, *, flags: int = 0,
                cookie: int = 1, payload: bytes = b"") -> None:
        """Send a request."""
        self.channel.send(Request(flags, command, cookie, offset, length).pack(), payload)

    def simple_reply(self, data: int = 0) -> tuple[int, int, bytes]:
        """(error, cookie, data) of a simple reply."""
        _, error, cookie = SIMPLE_REPLY.unpack(self.channel.receive(SIMPLE_REPLY.size))
        return error, cookie, b"" if error else bytes(self.channel.receive(data))

    def chunk(self) -> tuple[int, int, int, bytes]:
        """(flags, type, cookie, payload) of a structured reply chunk."""
        header = self.channel.receive(STRUCTURED_REPLY.size)
        _, flags, kind, cookie, length = STRUCTURED_REPLY.unpack(header)
        return flags, kind, cookie, bytes(self.channel.receive(length))

    def close(self) -> None:
        """Hang up."""
        self.channel.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def run(*command: str, status: int = 0, timeout: float = 60) -> str:
    """Run a program to its end; its output, with the expected exit status checked."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout,
                          env=environment(), check=False)
    assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def environment() -> dict[str, str]:
    """Ours, with this source tree first."""
    return {**os.environ, "PYTHONPATH": SRC}


def tool(name: str, *args: str) -> list[str]:
    """The command line of one of our tools."""
    return [sys.executable, "-m", f"pytcg.cli.{name}", *args]


@contextlib.contextmanager
def running(command: Sequence[str], socket_path: str) -> Iterator[subprocess.Popen[str]]:
    """A server program, from the time its socket is there until the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    try:
        wait_for_socket(process, socket_path)
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def wait_for_socket(process: subprocess.Popen[str], path: str) -> None:
    """Return when somebody listens on the socket."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        if process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"server ended early: {out}{err}")
        if os.path.exists(path):
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                if _listening(path, probe):
                    return
        time.sleep(0.02)
    raise AssertionError("server did not start")


def _listening(path: str, probe: socket.socket) -> bool:
    # Connecting would count as a client; /proc says it without.
    with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
        return any(line.split()[3] == "00010000" and line.rstrip().endswith(path)
                   for line in file if path in line)
