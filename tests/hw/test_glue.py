"""Ports 61h, 80h, 92h, CF9h, E9h and the debug exit."""

from __future__ import annotations

from pytcg.hw.clock import FakeClock
from pytcg.hw.core.glue import (
    DebugConsole,
    DebugExit,
    ResetControl,
    SystemControlPortA,
    SystemControlPortB,
)


def test_port_61h_gates_the_timer_and_shows_its_output() -> None:
    gates, out = list[bool](), [False]
    port = SystemControlPortB(FakeClock(), gates.append, lambda: out[0])
    port.write(0, 0x03)
    assert gates == [True]
    assert port.read(0) == 0x03
    out[0] = True
    assert port.read(0) == 0x23
    port.write(0, 0xF0)
    assert gates == [True, False]
    assert port.read(0) == 0x20


def test_refresh_bit_toggles() -> None:
    clock = FakeClock()
    port = SystemControlPortB(clock, lambda level: None, lambda: False)
    seen = []
    for _ in range(4):
        seen.append(port.read(0) >> 4 & 1)
        clock.advance(15_085)
    assert seen == [0, 1, 0, 1]


def test_port_92h_a20_and_fast_reset() -> None:
    resets = list[str]()
    port = SystemControlPortA(lambda: resets.append("reset"))
    assert port.read(0) == 0x02
    port.write(0, 0x00)
    assert not port.a20.level
    port.write(0, 0x03)
    assert port.a20.level
    assert resets == ["reset"]
    port.write(0, 0x03)  # no rising edge
    assert resets == ["reset"]
    port.reset()
    assert port.read(0) == 0x02


def test_cf9_resets_on_the_rising_edge_of_rst_cpu() -> None:
    resets = list[str]()
    port = ResetControl(lambda: resets.append("reset"))
    port.write(0, 0x02)
    assert resets == []
    assert port.read(0) == 0x02
    port.write(0, 0x06)
    assert resets == ["reset"]
    port.reset()
    assert port.read(0) == 0


def test_debug_exit_makes_the_status_odd() -> None:
    codes = list[int]()
    port = DebugExit(codes.append)
    for value in (0, 1, 0x31):
        port.write(0, value)
    assert codes == [1, 3, 0x63]
    assert port.read(0) == 0


def test_debug_console_sends_and_identifies_itself() -> None:
    sent = bytearray()
    port = DebugConsole(sent.extend)
    for byte in b"hi":
        port.write(0, byte)
    assert sent == b"hi"
    assert port.read(0) == 0xE9
