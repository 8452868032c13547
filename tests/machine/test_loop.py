"""The main loop, the host clock and the vCPU thread, with guests written in Python."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from machine.fakes import FakeVcpu, board_memory
from pytcg.exec.bus import ExitReason
from pytcg.machine.board.debug import attach_debug_exit
from pytcg.machine.loop import STALE_LIMIT, HostClock, LoopAlarm, MainLoop
from pytcg.machine.pc import Pc, PcConfig
from pytcg.machine.runner import MachineError, Runner

MS = 1_000_000


@pytest.fixture
def loop() -> Iterator[MainLoop]:
    result = MainLoop()
    yield result
    result.close()


def machine(loop: MainLoop, program: Callable[[FakeVcpu], ExitReason]) -> Pc:
    config = PcConfig(64 << 20)
    memory = board_memory(config.ram_size)
    board = Pc(config, loop.clock, loop.lock, memory, lambda bus: FakeVcpu(bus, program))
    attach_debug_exit(board.backplane, 0xF4, 4)
    board.boot = lambda vcpu: None
    return board


def out(port: int, value: int) -> Callable[[FakeVcpu], ExitReason]:
    """A guest that writes one byte to a port and halts."""

    def program(vcpu: FakeVcpu) -> ExitReason:
        vcpu.bus.write_port(port, 1, value)
        return vcpu.wait()

    return program


def test_timers_fire_in_order_of_their_deadlines(loop: MainLoop) -> None:
    fired: list[str] = []

    def last() -> None:
        fired.append("late")
        loop.stop()

    late = loop.clock.timer(last)
    early = loop.clock.timer(lambda: fired.append("early"))
    never = loop.clock.timer(lambda: fired.append("never"))
    now = loop.clock.now()
    late.arm(now + 6 * MS)
    never.arm(now + 4 * MS)
    early.arm(now + 9 * MS)
    early.arm(now + 2 * MS)
    never.cancel()
    loop.run()
    assert fired == ["early", "late"]
    assert loop.clock.now() >= now + 6 * MS


def test_a_timer_armed_by_another_thread_wakes_the_loop(loop: MainLoop) -> None:
    timer = loop.clock.timer(loop.stop)

    def arm() -> None:
        with loop.lock:
            timer.arm(loop.clock.now() + MS)

    thread = threading.Timer(0.01, arm)
    thread.start()
    loop.run()
    thread.join()
    assert not timer.armed


def test_deadlines_replaced_before_they_come_do_not_pile_up(loop: MainLoop) -> None:
    timer, other = loop.clock.timer(loop.stop), loop.clock.timer(lambda: None)
    other.arm(1 << 62)
    for n in range(10_000):
        timer.arm((1 << 61) - n)
    assert len(loop.clock._heap) <= STALE_LIMIT
    assert timer.armed and other.armed
    timer.arm(0)
    loop.run()


def test_a_deadline_in_the_past_fires_at_once(loop: MainLoop) -> None:
    loop.clock.timer(loop.stop).arm(0)
    loop.run()


def test_the_portable_alarm_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytcg.machine.loop.make_alarm", LoopAlarm)
    loop = asyncio.new_event_loop()
    clock = HostClock(loop, threading.RLock())
    clock.timer(loop.stop).arm(clock.now() + 5 * MS)
    clock.timer(lambda: None).arm(clock.now() + 2 * MS)
    loop.run_forever()
    assert clock.now() >= 5 * MS
    clock.close()
    loop.close()


def test_an_exception_in_a_timer_surfaces_from_run(loop: MainLoop) -> None:
    def broken() -> None:
        raise ZeroDivisionError("in a device")

    loop.clock.timer(broken).arm(0)
    with pytest.raises(ZeroDivisionError, match="in a device"):
        loop.run()


def test_power_off_exits_with_status_0(loop: MainLoop) -> None:
    board = machine(loop, out(0x605, 1 << 5))
    assert Runner(board, loop).run() == 0


def test_debug_exit_is_the_status(loop: MainLoop) -> None:
    assert Runner(machine(loop, out(0xF4, 3)), loop).run() == 7


def test_reset_boots_again_and_the_guest_goes_on(loop: MainLoop) -> None:
    runs: list[int] = []

    def program(vcpu: FakeVcpu) -> ExitReason:
        runs.append(vcpu.resets)
        port, value = (0x64, 0xFE) if len(runs) < 3 else (0xF4, 0)
        return out(port, value)(vcpu)

    assert Runner(machine(loop, program), loop).run() == 1
    assert runs == [1, 2, 3]


@pytest.mark.parametrize("no_reboot", [True, False])
def test_a_triple_fault_resets_or_ends(loop: MainLoop, no_reboot: bool) -> None:
    runs: list[int] = []

    def program(vcpu: FakeVcpu) -> ExitReason:
        runs.append(vcpu.resets)
        return ExitReason.TRIPLE_FAULT if len(runs) == 1 else out(0xF4, 0)(vcpu)

    status = Runner(machine(loop, program), loop, no_reboot=no_reboot).run()
    assert (status, len(runs)) == ((0, 1) if no_reboot else (1, 2))


def test_an_exception_in_the_vcpu_thread_surfaces_in_the_main_thread(loop: MainLoop) -> None:
    def program(vcpu: FakeVcpu) -> ExitReason:
        raise OverflowError("in a port handler")

    with pytest.raises(OverflowError, match="in a port handler"):
        Runner(machine(loop, program), loop).run()


def test_an_unexpected_exit_names_its_reason(loop: MainLoop) -> None:
    board = machine(loop, lambda vcpu: ExitReason.EXCEPTION)
    with pytest.raises(MachineError, match="exception"):
        Runner(board, loop).run()


def test_stopping_the_loop_stops_the_vcpu(loop: MainLoop) -> None:
    board, before = machine(loop, FakeVcpu.wait), threading.enumerate()
    loop.clock.timer(loop.stop).arm(0)
    assert Runner(board, loop).run() == 0
    assert all(thread.name != "vcpu0" for thread in threading.enumerate() if thread not in before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_the_run(loop: MainLoop, number: signal.Signals) -> None:
    loop.clock.timer(lambda: os.kill(os.getpid(), number)).arm(0)
    assert Runner(machine(loop, FakeVcpu.wait), loop).run() == 0
    assert loop.signal == number


def test_device_timers_run_while_the_guest_waits(loop: MainLoop) -> None:
    def program(vcpu: FakeVcpu) -> ExitReason:
        vcpu.bus.write_port(0x21, 1, 0xFE)
        for port, value in ((0x43, 0x34), (0x40, 0x00), (0x40, 0x10)):
            vcpu.bus.write_port(port, 1, value)
        end = time.monotonic() + 5
        while not vcpu.intr and time.monotonic() < end:
            time.sleep(0.001)
        assert vcpu.bus.acknowledge_interrupt() == 0x08
        return out(0xF4, 0)(vcpu)

    assert Runner(machine(loop, program), loop).run() == 1


def test_a_signal_at_the_first_sign_of_life_is_an_orderly_end(loop: MainLoop) -> None:
    loop.run(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert loop.signal == signal.SIGTERM
