"""`-accel qtest`: a client that drives the devices of a machine whose processor never runs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytcg.cli.system.accel_option import add_accelerators
from pytcg.cli.system.option_values import Options
from pytcg.machine.loop import MainLoop
from pytcg.machine.qtest.clock import SteppedClock

Say = Callable[[str], str]
SECONDS = 120


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Say]:
    """Sends a line and returns all that comes until its answer."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "qtest"))
    server.listen(1)
    server.settimeout(SECONDS)
    machine = subprocess.Popen(
        [sys.executable, "-m", "pytcg.cli.system", "-nodefaults", "-display", "none",
         "-accel", "qtest", "-qtest", f"unix:path={tmp_path}/qtest", "-qtest-log", "none"])
    connection, _ = server.accept()
    connection.settimeout(SECONDS)
    stream: Any = connection.makefile("rw")

    def ask(line: str) -> str:
        stream.write(line + "\n")
        stream.flush()
        told = ""
        while not told.rpartition("\n")[2].startswith(("OK", "FAIL", "ERR")):
            told += ("\n" if told else "") + stream.readline().rstrip("\n")
        return told

    yield ask
    machine.terminate()
    assert machine.wait(SECONDS) == 0
    stream.close()
    connection.close()
    server.close()


def test_ports_memory_the_clock_and_interrupts_are_a_test_s(say: Say) -> None:
    assert say("endianness") == "OK little"
    assert say("outl 0xcf8 0x80000000") == "OK" and say("inl 0xcfc") == "OK 0x12378086"
    assert say("writel 0x100000 0x12345678") == "OK"
    assert say("readq 0x100000") == "OK 0x0000000012345678"
    assert say("read 0x100000 4") == "OK 0x78563412"
    assert say("write 0x100002 3 0xaabb") == "OK"  # what is not given is zero
    assert say("b64read 0x100000 5") == "OK eFaquwA="
    assert say("memset 0x100000 16 0xff") == "OK"
    assert say("readw 0x10000e") == "OK 0x000000000000ffff"
    assert say("readl 0xfee00030") == "OK 0x0000000000050014"  # a local APIC's version
    assert say("clock_step 1000") == "OK 1000" and say("clock_set 500") == "OK 1000"
    assert say("irq_intercept_in ioapic") == "OK"
    for line in ("outb 0x43 0x34", "outb 0x40 0x9c", "outb 0x40 0x2e"):  # the PIT, 10 ms
        assert say(line) == "OK"
    assert say("clock_step 25000000") == "IRQ raise 0\nIRQ lower 0\nIRQ raise 0\nOK 25001000"
    assert say("irq_intercept_out nobody") == "FAIL Unknown device"
    assert say("fly") == "FAIL Unknown command 'fly'"
    assert say("outb") == say("outb 1 x") == "ERR invalid arguments of 'outb'"
    assert say("write 0 1 x") == "ERR invalid argument size"


def test_a_stepped_clock_fires_timers_at_their_own_times() -> None:
    loop = MainLoop(SteppedClock)
    clock = loop.clock
    assert isinstance(clock, SteppedClock)
    fired: list[int] = []

    def fire() -> None:
        fired.append(clock.now())
        if len(fired) < 3:
            timer.arm(clock.now() + 10)

    timer = clock.timer(fire)
    timer.arm(10)
    timer.arm(20)  # takes the other's place
    assert clock.next_deadline() == 20
    clock.advance(35)
    assert (fired, clock.now(), clock.next_deadline()) == ([20, 30], 35, 40)
    clock.advance(30)
    assert clock.now() == 35
    loop.close()


def test_the_accelerator_has_a_name() -> None:
    options = Options()
    add_accelerators(options, "qtest")
    assert options.accelerators == ["qtest"]
