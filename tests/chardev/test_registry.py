"""Character devices by id: who may take them, muxes, logs, datagrams."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytcg.chardev.base import ChardevError, Context
from pytcg.chardev.registry import Chardevs


class Device:
    """A front-end that keeps what it gets, and hears of its peer."""

    def __init__(self, chardevs: Chardevs, name: str) -> None:
        self.received = bytearray()
        self.room = 1 << 16
        self.heard: list[object] = []
        self.chardev = chardevs.take(name)
        self.chardev.on_open = lambda: self.heard.append("open")
        self.chardev.on_close = lambda: self.heard.append("close")
        self.chardev.on_focus = self.heard.append
        chardevs.connect(self.chardev, self)

    def can_receive(self) -> int:
        return self.room

    def receive(self, data: bytes) -> int:
        self.received += data
        return len(data)

    def receive_break(self) -> None:
        pass


@pytest.fixture
def chardevs() -> Iterator[Chardevs]:
    loop = asyncio.new_event_loop()
    made = Chardevs(Context(loop, threading.RLock(), loop.stop))
    yield made
    made.close()
    loop.close()


def until(chardevs: Chardevs, done: Callable[[], bool]) -> None:
    async def wait() -> None:
        while not done():
            await asyncio.sleep(0.001)

    chardevs.context.loop.run_until_complete(asyncio.wait_for(wait(), 10))


def test_a_chardev_has_one_front_end_and_may_go_when_it_has_none(chardevs: Chardevs) -> None:
    chardevs.create("null", "a", {})
    with pytest.raises(ChardevError, match="Duplicate ID 'a' for chardev"):
        chardevs.create("null", "a", {})
    with pytest.raises(ChardevError, match="can't find value 'b'"):
        chardevs.take("b")
    assert Device(chardevs, "a").heard == ["open"]
    with pytest.raises(ChardevError, match="can't take value 'a': Device 'a' is in use"):
        chardevs.take("a")
    with pytest.raises(ChardevError, match="Chardev 'a' is busy"):
        chardevs.remove("a")
    with pytest.raises(ChardevError, match="Chardev 'b' not found"):
        chardevs.remove("b")
    chardevs.create("ringbuf", "c", {"size": "64"})
    chardevs.remove("c")
    assert [each.label for each in chardevs] == ["a"]


def test_front_ends_on_a_mux_share_its_peer_and_take_turns_at_the_keys(
    chardevs: Chardevs, tmp_path: Path
) -> None:
    path = str(tmp_path / "s")
    chardevs.create("socket", "m", {"path": path, "server": "on", "wait": "off", "mux": "on"})
    first, second = Device(chardevs, "m"), Device(chardevs, "m")
    assert {each.label: each.description() for each in chardevs} == {
        "m": "mux", "m-base": f"disconnected:unix:{path},server=on"}  # fmt: skip
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        until(chardevs, lambda: second.heard == ["open"])
        peer.sendall(b"one\x01ctwo")
        until(chardevs, lambda: second.received == b"two")
        for device in (first, second):
            device.chardev.write(b".")
        assert peer.recv(1) + peer.recv(1) == b".."
    until(chardevs, lambda: second.heard[-1] == "close")
    assert first.heard == ["open", False, "close"] and first.received == b"one"
    assert second.heard == ["open", True, "close"]


def test_a_mux_by_itself_stands_on_another_chardev(chardevs: Chardevs) -> None:
    chardevs.create("null", "base", {})
    chardevs.create("mux", "m", {"chardev": "base"})
    assert [each.label for each in chardevs] == ["base", "m"]
    assert Device(chardevs, "m").heard == Device(chardevs, "m").heard == ["open"]
    with pytest.raises(ChardevError, match="in use"):
        chardevs.take("base")


def test_a_log_file_gets_all_that_is_written(chardevs: Chardevs, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old ")
    values = {"logfile": str(log), "logappend": "on"}
    for name, mux in (("a", "off"), ("b", "on")):
        chardevs.create("null", name, {**values, "mux": mux})
        Device(chardevs, name).chardev.write(name.encode())
    assert log.read_bytes() == b"old ab"
    with pytest.raises(ChardevError, match="Could not create '/nowhere/x': No such file"):
        chardevs.create("null", "c", {"logfile": "/nowhere/x"})


def test_datagrams(chardevs: Chardevs) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(10)
        peer.bind(("127.0.0.1", 0))
        opened = chardevs.open(f"udp:127.0.0.1:{peer.getsockname()[1]}", "serial0")
        assert opened is not None and opened.description() == "udp"
        with pytest.raises(ChardevError, match="in use"):
            chardevs.take("serial0")
        chardevs.create("udp", "u", {"host": "127.0.0.1", "port": str(peer.getsockname()[1])})
        device = Device(chardevs, "u")
        device.room = 2
        device.chardev.write(b"ping")
        data, address = peer.recvfrom(100)
        assert data == b"ping"
        peer.sendto(b"abcdef", address)
        until(chardevs, lambda: device.received == b"abcdef")
        peer.close()
        for _ in range(3):
            device.chardev.write(b"refused")
        chardevs.context.loop.run_until_complete(asyncio.sleep(0.01))
