"""The Ctrl-A escapes."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator

import pytest

from pytcg.chardev.base import Chardev, Context, Frontend
from pytcg.chardev.mux import MuxChardev


class Terminal(Chardev):
    """A chardev that keeps what is written and can be typed on."""

    def __init__(self) -> None:
        super().__init__("serial0")
        self.shown = bytearray()
        self.frontend: Frontend | None = None

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self.frontend = frontend

    def write(self, data: bytes) -> None:
        self.shown += data

    def type(self, data: bytes) -> None:
        assert self.frontend is not None
        self.frontend.receive(data)


class Guest:
    """A UART that can be closed."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.room = 1 << 20
        self.breaks = 0

    def can_receive(self) -> int:
        return self.room

    def receive(self, data: bytes) -> int:
        self.received += data
        return len(data)

    def receive_break(self) -> None:
        self.breaks += 1


class Desk:
    """Terminal, mux and guest, connected."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.terminal, self.guest = Terminal(), Guest()
        self.mux = MuxChardev(self.terminal)
        self.quits = 0
        self.mux.start(Context(self.loop, threading.RLock(), self.quit), self.guest)

    def quit(self) -> None:
        self.quits += 1


@pytest.fixture
def desk() -> Iterator[Desk]:
    result = Desk()
    yield result
    result.loop.close()


def test_ordinary_keys_and_control_c_go_to_the_guest(desk: Desk) -> None:
    desk.terminal.type(b"ls\r\x03\x1b[A")
    assert desk.guest.received == b"ls\r\x03\x1b[A"


def test_x_quits(desk: Desk) -> None:
    desk.terminal.type(b"\x01x")
    assert desk.quits == 1
    assert b"Terminated" in desk.terminal.shown
    assert not desk.guest.received


def test_x_quits_even_when_the_guest_takes_nothing(desk: Desk) -> None:
    desk.guest.room = 0
    desk.terminal.type(b"hello?\x01x")
    assert desk.quits == 1


def test_the_escape_may_arrive_in_two_reads(desk: Desk) -> None:
    desk.terminal.type(b"\x01")
    desk.terminal.type(b"x")
    assert desk.quits == 1


def test_h_lists_the_keys(desk: Desk) -> None:
    desk.terminal.type(b"\x01h")
    assert b"C-a x    exit emulator\r\n" in desk.terminal.shown


def test_control_a_twice_sends_one(desk: Desk) -> None:
    desk.terminal.type(b"\x01\x01b")
    assert desk.guest.received == b"\x01b"


def test_b_sends_a_break(desk: Desk) -> None:
    desk.terminal.type(b"\x01b")
    assert desk.guest.breaks == 1
    assert not desk.guest.received


def test_unknown_escapes_vanish(desk: Desk) -> None:
    desk.terminal.type(b"\x01c\x01zq")
    assert desk.guest.received == b"q"


def test_t_stamps_each_line(desk: Desk) -> None:
    desk.terminal.type(b"\x01t")
    desk.mux.write(b"one\ntwo\n")
    stamp = rb"\[00:00:00\.\d{3}\] "
    assert re.fullmatch(stamp + b"one\n" + stamp + b"two\n", bytes(desk.terminal.shown))
    desk.terminal.shown.clear()
    desk.terminal.type(b"\x01t")
    desk.mux.write(b"three\n")
    assert desk.terminal.shown == b"three\n"


def test_typing_ahead_waits_for_the_guest(desk: Desk) -> None:
    desk.guest.room = 0
    desk.terminal.type(b"later")
    assert not desk.guest.received
    desk.guest.room = 16
    desk.mux.accept_input()
    desk.loop.run_until_complete(asyncio.sleep(0.01))
    assert desk.guest.received == b"later"
