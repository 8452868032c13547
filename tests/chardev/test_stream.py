"""Bytes through pipes, files and pseudo-terminals, with back-pressure both ways."""

from __future__ import annotations

import asyncio
import os
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pytcg.chardev.base import Chardev, ChardevError, Context, NullChardev
from pytcg.chardev.file import FileChardev
from pytcg.chardev.pty import PtyChardev
from pytcg.chardev.spec import open_chardev
from pytcg.chardev.stdio import StdioChardev
from pytcg.chardev.stream import OUTPUT_LIMIT


class FakeUart:
    """A front-end with as much room as the test says."""

    def __init__(self, room: int = 1 << 20) -> None:
        self.room = room
        self.received = bytearray()
        self.breaks = 0

    def can_receive(self) -> int:
        return self.room

    def receive(self, data: bytes) -> int:
        assert len(data) <= self.room
        self.received += data
        self.room -= len(data)
        return len(data)

    def receive_break(self) -> None:
        self.breaks += 1


@pytest.fixture
def context() -> Iterator[Context]:
    loop = asyncio.new_event_loop()
    yield Context(loop, threading.RLock(), loop.stop)
    loop.close()


def run_until(context: Context, done: Callable[[], bool], seconds: float = 5.0) -> None:
    """Run the loop until the condition holds."""

    async def wait() -> None:
        while not done():
            await asyncio.sleep(0.001)

    context.loop.run_until_complete(asyncio.wait_for(wait(), seconds))


class Wires:
    """A StdioChardev on two pipes, and the far ends of both."""

    def __init__(self) -> None:
        self.input_fd, self.type_fd = os.pipe()
        self.see_fd, self.output_fd = os.pipe()
        self.chardev = StdioChardev("serial0", input_fd=self.input_fd, output_fd=self.output_fd)

    def close(self) -> None:
        self.chardev.close()
        for fd in (self.input_fd, self.type_fd, self.see_fd, self.output_fd):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def wires() -> Iterator[Wires]:
    result = Wires()
    yield result
    result.close()


def test_input_reaches_the_front_end(wires: Wires, context: Context) -> None:
    uart = FakeUart()
    wires.chardev.start(context, uart)
    os.write(wires.type_fd, b"uname\n")
    run_until(context, lambda: uart.received == b"uname\n")


def test_output_is_written_at_once(wires: Wires, context: Context) -> None:
    wires.chardev.start(context, FakeUart())
    wires.chardev.write(b"login: ")
    assert os.read(wires.see_fd, 100) == b"login: "


def test_a_full_front_end_leaves_input_in_the_kernel(wires: Wires, context: Context) -> None:
    uart = FakeUart(room=3)
    wires.chardev.start(context, uart)
    os.write(wires.type_fd, b"abcdef")
    run_until(context, lambda: len(uart.received) == 3)
    uart.room = 16
    wires.chardev.accept_input()
    run_until(context, lambda: uart.received == b"abcdef")


def test_a_front_end_that_says_nothing_is_asked_again(wires: Wires, context: Context) -> None:
    uart = FakeUart(room=1)
    wires.chardev.start(context, uart)
    os.write(wires.type_fd, b"ab")
    run_until(context, lambda: len(uart.received) == 1)
    uart.room = 1
    run_until(context, lambda: uart.received == b"ab")


def test_a_slow_reader_fills_the_sink_and_its_return_drains_it(
    wires: Wires, context: Context
) -> None:
    wires.chardev.start(context, FakeUart())
    rooms: list[bool] = []
    wires.chardev.on_room = lambda: rooms.append(True)
    sent = 0
    while not wires.chardev.full():
        wires.chardev.write(b"x" * 4096)
        sent += 4096
    assert sent > OUTPUT_LIMIT
    seen = bytearray()

    def read_some() -> bool:
        if len(seen) < sent:
            seen.extend(os.read(wires.see_fd, 65536))
        return len(seen) == sent

    run_until(context, read_some)
    assert rooms == [True]
    assert not wires.chardev.full()


def test_a_reader_that_went_away_loses_output_and_nothing_else(
    wires: Wires, context: Context
) -> None:
    wires.chardev.start(context, FakeUart())
    os.close(wires.see_fd)
    for _ in range(100):
        wires.chardev.write(b"x" * 65536)
    assert not wires.chardev.full()


def test_closing_waits_for_a_slow_reader(wires: Wires, context: Context) -> None:
    wires.chardev.start(context, FakeUart())
    while not wires.chardev.full():
        wires.chardev.write(b"x" * 4096)
    wires.chardev.write(b"the end")
    seen = bytearray()

    def read_all() -> None:
        while not seen.endswith(b"the end"):
            seen.extend(os.read(wires.see_fd, 4096))

    reader = threading.Thread(target=read_all)
    reader.start()
    wires.chardev.close()
    reader.join(5)
    assert seen.endswith(b"the end")


def test_closing_gives_up_on_a_reader_that_never_reads(wires: Wires, context: Context) -> None:
    wires.chardev.start(context, FakeUart())
    while not wires.chardev.full():
        wires.chardev.write(b"x" * 4096)
    wires.chardev.close()


def test_end_of_input_leaves_output_working(wires: Wires, context: Context) -> None:
    uart = FakeUart()
    wires.chardev.start(context, uart)
    os.write(wires.type_fd, b"last")
    os.close(wires.type_fd)
    run_until(context, lambda: uart.received == b"last")
    context.loop.run_until_complete(asyncio.sleep(0.05))
    wires.chardev.write(b"still here")
    assert os.read(wires.see_fd, 100) == b"still here"


def test_input_from_a_regular_file_is_read_to_its_end(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "typed"
    path.write_bytes(b"one\ntwo\n" * 1000)
    uart = FakeUart()
    with open(path, "rb") as typed, open(os.devnull, "wb") as output:
        chardev = StdioChardev("serial0", input_fd=typed.fileno(), output_fd=output.fileno())
        chardev.start(context, uart)
        run_until(context, lambda: uart.received == path.read_bytes())
        chardev.close()


def test_the_blocking_mode_of_the_output_is_restored(wires: Wires, context: Context) -> None:
    wires.chardev.start(context, FakeUart())
    assert not os.get_blocking(wires.output_fd)
    wires.chardev.close()
    assert os.get_blocking(wires.output_fd)


def test_stdio_can_be_used_once(wires: Wires) -> None:
    with pytest.raises(ChardevError, match="multiple"):
        open_chardev("stdio", "serial1")


@pytest.mark.parametrize("signals", [True, False])
def test_the_terminal_is_raw_while_running_and_restored_after(
    context: Context, signals: bool
) -> None:
    import termios

    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    chardev = StdioChardev("serial0", signals=signals, input_fd=slave, output_fd=slave)
    chardev.start(context, FakeUart())
    during = termios.tcgetattr(slave)
    assert not during[3] & (termios.ECHO | termios.ICANON)
    assert bool(during[3] & termios.ISIG) is signals
    chardev.close()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_file_is_emptied_and_gets_the_output(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old contents")
    chardev = open_chardev(f"file:{path}", "serial0")
    assert isinstance(chardev, FileChardev)
    chardev.start(context, FakeUart())
    chardev.write(b"new")
    chardev.close()
    chardev.close()
    assert path.read_bytes() == b"new"


def test_pty_says_where_it_is_and_carries_both_ways(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    chardev = PtyChardev("serial0")
    uart = FakeUart()
    slave = os.open(chardev.name, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(slave)
    chardev.start(context, uart)
    assert capsys.readouterr().out == f"char device redirected to {chardev.name} (label serial0)\n"
    chardev.write(b"login: ")
    assert os.read(slave, 100) == b"login: "
    os.write(slave, b"root\n")
    run_until(context, lambda: uart.received == b"root\n")
    os.close(slave)
    context.loop.run_until_complete(asyncio.sleep(0.01))
    for _ in range(100):
        chardev.write(b"x" * 4096)  # dropped: nobody is there
    assert not chardev.full()
    again = os.open(chardev.name, os.O_RDWR | os.O_NOCTTY)
    os.write(again, b"back")
    run_until(context, lambda: uart.received == b"root\nback")
    os.close(again)
    chardev.close()


@pytest.mark.parametrize("spec", ["null", "none"])
def test_null_swallows(spec: str, context: Context) -> None:
    chardev: Chardev = open_chardev(spec, "serial0")
    assert isinstance(chardev, NullChardev)
    chardev.start(context, FakeUart())
    chardev.write(b"x" * 1_000_000)
    assert not chardev.full()


@pytest.mark.parametrize("spec", ["", "foo", "tcp:localhost", "file:", "stdio:x", "pty:3"])
def test_unknown_specifications_are_named(spec: str) -> None:
    with pytest.raises(ChardevError) as caught:
        open_chardev(spec, "serial0")
    assert f"'{spec}'" in str(caught.value)
    assert "serial0" in str(caught.value)


def test_a_file_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(ChardevError, match="could not open '/no/such/folder/x': No such file"):
        open_chardev("file:/no/such/folder/x", "serial0")
