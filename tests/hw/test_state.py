"""Saved state: every chip, in the middle of its work, survives a trip through JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hw.test_fw_cfg import Memory
from pytcg.hw.clock import FakeClock
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus, Trigger
from pytcg.hw.core.apic_regs import Reg
from pytcg.hw.core.glue import (
    CoprocessorError,
    DebugConsole,
    DebugExit,
    ResetControl,
    SystemControlPortA,
    SystemControlPortB,
)
from pytcg.hw.core.hpet import Hpet
from pytcg.hw.core.i8237 import I8237
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.i8259 import I8259, I8259Pair
from pytcg.hw.core.ioapic import IoApic
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.hw.core.uart16550 import Uart16550
from pytcg.hw.input.i8042 import I8042
from pytcg.hw.input.ps2_keyboard import Ps2Keyboard
from pytcg.hw.line import Line
from pytcg.hw.state import Chip, State, StateError


@dataclass
class Case:
    """How to make a chip, how to bring it into an interesting state, and its lines."""

    make: Callable[[FakeClock], Chip]
    use: Callable[[Chip], None]
    lines: list[str] = field(default_factory=list)


def nothing(*_: object) -> None:
    pass


def writes(*pairs: tuple[int, int]) -> Callable[[Chip], None]:
    def use(chip: Chip) -> None:
        for reg, value in pairs:
            chip.write(reg, value)  # type: ignore[attr-defined]

    return use


def use_pair(chip: Chip) -> None:
    assert isinstance(chip, I8259Pair)
    for half, base in ((chip.master, 0x30), (chip.slave, 0x38)):
        writes((0, 0x11), (1, base), (1, 4), (1, 1))(half)
    for irq in (3, 9, 12):
        chip.set_irq(irq, True)
    chip.acknowledge()


def use_pit(chip: Chip) -> None:
    assert isinstance(chip, I8254)
    chip.out[0].connect(nothing)
    writes((3, 0x34), (0, 0x34), (0, 0x12), (0, 0x78), (0, 0x56), (3, 0x00))(chip)
    writes((3, 0xB0), (2, 0x99))(chip)
    chip.read(0)


def use_uart(chip: Chip) -> None:
    assert isinstance(chip, Uart16550)
    writes((3, 3), (2, 0x87), (1, 7), (4, 0x0B))(chip)
    chip.receive(b"abc")
    chip.receive_break()


def use_apic(chip: Chip) -> None:
    assert isinstance(chip, LocalApic)
    writes((Reg.SVR, 0x1FF), (Reg.LVT_TIMER, 0x2_00EC), (Reg.INITIAL_COUNT, 50_000))(chip)
    chip.deliver(0x55, Trigger.LEVEL)
    chip.acknowledge()
    chip.deliver(0x77, Trigger.EDGE)


def use_ioapic(chip: Chip) -> None:
    assert isinstance(chip, IoApic)
    writes((0, 0x14), (1, 0x8051))(chip)
    chip.set_irq(2, True)


def use_hpet(chip: Chip) -> None:
    assert isinstance(chip, Hpet)
    chip.write(0x100, 8, 0x2804)
    chip.write(0x108, 8, 5_000)
    chip.write(0x010, 8, 1)


def use_pm(chip: Chip) -> None:
    assert isinstance(chip, AcpiPm)
    chip.set_acpi_mode(enabled=True)
    chip.write(2, 0x101, 2)
    chip.raise_gpe(5)
    chip.power_button()


def use_kbc(chip: Chip) -> None:
    assert isinstance(chip, I8042)
    writes((1, 0x60), (0, 0x61), (0, 0xF2), (1, 0xAA), (1, 0xD1))(chip)


def use_keyboard(chip: Chip) -> None:
    assert isinstance(chip, Ps2Keyboard)
    chip.write(0xED)
    chip.key(b"\x1c")


def make_apic(clock: FakeClock) -> LocalApic:
    return LocalApic(clock, 2, ApicBus().send_ipi, tsc=clock.now, tsc_hz=10**9)


CASES = {
    "I8259": Case(lambda clock: I8259(), writes((0, 0x11), (1, 0x20)), ["intr"]),
    "I8259Pair": Case(lambda clock: I8259Pair(), use_pair, ["intr"]),
    "I8254": Case(I8254, use_pit),
    "Mc146818": Case(
        lambda clock: Mc146818(clock, epoch=10**9),
        writes((0, 0x0B), (1, 0x72), (0, 0x05), (1, 0x12), (0, 0x04), (1, 0x11)), ["irq"],
    ),
    "Uart16550": Case(Uart16550, use_uart, ["irq", "out2", "rts"]),
    "LocalApic": Case(make_apic, use_apic, ["intr"]),
    "IoApic": Case(lambda clock: IoApic(nothing), use_ioapic),
    "AcpiPm": Case(lambda clock: AcpiPm(clock, nothing), use_pm, ["sci"]),
    "ApmControl": Case(lambda clock: ApmControl(AcpiPm(clock, nothing), enable=2, disable=3),
                       writes((0, 9), (1, 8))),
    "I8042": Case(lambda clock: I8042(nothing), use_kbc, ["irq1", "a20"]),
    "Ps2Keyboard": Case(lambda clock: Ps2Keyboard(), use_keyboard),
    "SystemControlPortB": Case(
        lambda clock: SystemControlPortB(clock, nothing, lambda: False), writes((0, 3))
    ),
    "SystemControlPortA": Case(lambda clock: SystemControlPortA(nothing), writes((0, 0)), ["a20"]),
    "CoprocessorError": Case(lambda clock: CoprocessorError(), lambda chip: chip.error(), ["irq"]),
    "ResetControl": Case(lambda clock: ResetControl(nothing), writes((0, 2))),
    "DebugExit": Case(lambda clock: DebugExit(nothing), nothing),
    "DebugConsole": Case(lambda clock: DebugConsole(nothing), nothing),
    "I8237": Case(lambda clock: I8237(Memory(), 1), writes((4, 66), (4, 1), (11, 0x46), (10, 2))),
    "Hpet": Case(lambda clock: Hpet(clock), use_hpet),
}  # fmt: skip


def levels(chip: Chip, names: list[str]) -> dict[str, bool]:
    lines: dict[str, Line] = {name: getattr(chip, name) for name in names}
    return {name: line.level for name, line in lines.items()}


@pytest.mark.parametrize("name", CASES)
def test_state_round_trip(name: str) -> None:
    case, clock = CASES[name], FakeClock()
    original = case.make(clock)
    case.use(original)
    clock.advance(10_000)
    saved: State = json.loads(json.dumps(original.state()))
    assert (saved["chip"], saved["version"]) == (name, 1)
    copy = case.make(clock)
    copy.restore(saved)
    assert copy.state() == original.state()
    assert levels(copy, case.lines) == levels(original, case.lines)
    clock.advance(2_000_000_000)
    assert levels(copy, case.lines) == levels(original, case.lines)


KEPT_BY_RESET = {
    "I8259Pair": {"inputs", "irr"},  # what the input pins carry
    "Mc146818": {"cmos", "base_ns", "weekday_skew", "last_update", "last_period"},  # battery-backed
    "Uart16550": {"divisor", "scr"},
    "IoApic": {"inputs"},
}


def without(state: State, names: set[str]) -> State:
    return {
        key: without(value, names) if isinstance(value, dict) else value
        for key, value in state.items()
        if key not in names
    }


@pytest.mark.parametrize("name", CASES)
def test_reset_is_as_power_on_but_for_what_a_chip_keeps(name: str) -> None:
    case, clock, kept = CASES[name], FakeClock(), KEPT_BY_RESET.get(name, set())
    used, fresh = case.make(clock), case.make(clock)
    case.use(used)
    used.reset()
    fresh.reset()
    assert without(used.state(), kept) == without(fresh.state(), kept)


@pytest.mark.parametrize("name", CASES)
def test_foreign_states_are_refused_whole(name: str) -> None:
    chip = CASES[name].make(FakeClock())
    saved = chip.state()
    for bad in (saved | {"chip": "8088"}, saved | {"version": 2}, {}):
        with pytest.raises(StateError):
            chip.restore(bad)
    assert chip.state() == saved


def test_a_lacking_field_is_named() -> None:
    chip = ResetControl(nothing)
    with pytest.raises(StateError, match="'latch'"):
        chip.restore({"chip": "ResetControl", "version": 1})


def test_restored_timer_goes_on_where_it_was() -> None:
    clock = FakeClock()
    original = make_apic(clock)
    use_apic(original)
    clock.advance(60_000)
    copy = make_apic(clock)
    copy.restore(original.state())
    assert copy.read(Reg.CURRENT_COUNT) == original.read(Reg.CURRENT_COUNT) > 0
