"""Sockets, pipes and ring buffers behind a serial port."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytcg.chardev.base import Chardev, ChardevError, Context
from pytcg.chardev.ringbuf import RingBuffer
from pytcg.chardev.spec import open_chardev, parse_chardev
from pytcg.chardev.telnet import GREETING


class Uart:
    """A front-end that takes everything."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.breaks = 0

    def can_receive(self) -> int:
        return 1 << 16

    def receive(self, data: bytes) -> int:
        self.received += data
        return len(data)

    def receive_break(self) -> None:
        self.breaks += 1


class Bench:
    """A loop, a front-end and the chardevs under test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.uart = Uart()
        self.context = Context(self.loop, threading.RLock(), self.loop.stop)
        self.opened: list[Chardev] = []
        self.events: list[str] = []

    def open(self, spec: str) -> Chardev:
        chardev = open_chardev(spec, "serial0")
        self.opened.append(chardev)
        chardev.on_open = lambda: self.events.append("open")
        chardev.on_close = lambda: self.events.append("close")
        chardev.start(self.context, self.uart)
        return chardev

    def until(self, done: Callable[[], bool]) -> None:
        async def wait() -> None:
            while not done():
                await asyncio.sleep(0.001)

        self.loop.run_until_complete(asyncio.wait_for(wait(), 5))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    for chardev in bench.opened:
        chardev.close()
    bench.loop.close()


def client(path: Path) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(5)
    peer.connect(str(path))
    return peer


def test_a_server_serves_one_client_after_the_other(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "serial"
    chardev = bench.open(f"unix:{path},server=on,wait=off")
    assert chardev.description() == f"disconnected:unix:{path},server=on"
    chardev.write(b"nobody hears this")
    for word in (b"first", b"second"):
        with client(path) as peer:
            peer.sendall(word)
            bench.until(lambda word=word: word in bench.uart.received)  # type: ignore[misc]
            chardev.write(b"to " + word)
            assert peer.recv(100) == b"to " + word
            assert chardev.description() == f"unix:{path},server=on"
        bench.until(lambda: bench.events[-1] == "close")
    assert bench.events == ["open", "close"] * 2
    chardev.close()
    assert not path.exists()


def test_a_client_that_reads_nothing_makes_the_guest_hold_back(
    bench: Bench, tmp_path: Path
) -> None:
    chardev = bench.open(f"unix:{tmp_path / 's'},server,nowait")
    room: list[bool] = []
    chardev.on_room = lambda: room.append(True)
    with client(tmp_path / "s"):
        bench.until(lambda: bench.events == ["open"])
        while not chardev.full():
            chardev.write(bytes(65536))
    bench.until(lambda: bool(room))
    assert not chardev.full()


def test_tcp_and_telnet(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    chardev = bench.open(f"telnet:127.0.0.1:{port},server=on,wait=off")
    assert chardev.description() == f"disconnected:telnet:127.0.0.1:{port},server=on"
    with socket.create_connection(("127.0.0.1", port), 5) as peer:
        peer.sendall(b"\xff\xfd\x01a\xff\xfa\x18\x00xterm\xff\xf0b\xff\xffc\xff\xf3")
        bench.until(lambda: bench.uart.breaks == 1)
        assert bench.uart.received == b"ab\xffc"
        assert peer.recv(100) == GREETING
        chardev.write(b"\xff!")
        assert peer.recv(100) == b"\xff\xff!"


def test_connecting_and_reconnecting(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "peer"
    with pytest.raises(ChardevError, match="No such file"):
        open_chardev(f"unix:{path}", "serial0")
    chardev = bench.open(f"unix:{path},reconnect=1")
    chardev.write(b"lost")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        bench.until(lambda: bench.events == ["open"])
        with server.accept()[0] as peer:
            peer.sendall(b"hello")
            bench.until(lambda: bench.uart.received == b"hello")


def test_a_server_may_wait_for_its_first_client(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "s"

    def come() -> None:
        while True:
            try:
                peer = client(path)
            except OSError:
                continue
            peer.sendall(b"here")
            threading.Event().wait(0.1)
            peer.close()
            return

    thread = threading.Thread(target=come)
    thread.start()
    bench.open(f"unix:{path},server=on")
    bench.until(lambda: bench.uart.received == b"here")
    thread.join()


def test_named_pipes(bench: Bench, tmp_path: Path) -> None:
    base = tmp_path / "p"
    for end in ("in", "out"):
        os.mkfifo(f"{base}.{end}")
    chardev = bench.open(f"pipe:{base}")
    with open(f"{base}.in", "wb", buffering=0) as into, open(f"{base}.out", "rb", 0) as out:
        into.write(b"typed")
        bench.until(lambda: bench.uart.received == b"typed")
        chardev.write(b"shown")
        assert out.read(100) == b"shown"


def test_a_ring_buffer_keeps_the_newest(bench: Bench) -> None:
    ring = RingBuffer("r", 8)
    ring.write(b"0123456789")
    assert ring.read(3) == b"234"
    assert ring.read(100) == b"56789"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tcp:localhost", "could not connect serial0 to character backend 'tcp:localhost'"),
        ("tcp:localhost:none", "address resolution failed for localhost:none"),
        ("unix:/nowhere/s,server=on,wait=off", "Failed to bind socket to /nowhere/s: No such file"),
        ("unix:/x,wait=off", "'wait' option is incompatible with socket in client connect mode"),
        ("unix:/x,server=maybe", "Parameter 'server' expects 'on' or 'off'"),
        ("unix:/x,colour=red", "Invalid parameter 'colour'"),
        (f"unix:/{'x' * 200},server=on", "is too long"),
        ("pipe:/nowhere/p", "Could not open '/nowhere/p': No such file"),
        ("ringbuf,size=9", "size of ringbuf chardev must be power of two"),
    ],
)
def test_what_cannot_be_opened_is_named(spec: str, message: str) -> None:
    with pytest.raises(ChardevError, match=message):
        open_chardev(spec, "serial0")


def test_chardev_option() -> None:
    assert parse_chardev("socket,id=mon,path=/a,,b,server=on,nowait") == (
        "socket", "mon", {"path": "/a,b", "server": "on", "wait": "off"}
    )  # fmt: skip
    with pytest.raises(ChardevError, match="no id"):
        parse_chardev("null")
