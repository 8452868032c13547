"""No sequence of register accesses may break a chip: a guest can write anything anywhere."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable

import pytest

from pytcg.hw.clock import FakeClock
from pytcg.hw.core.acpi_pm import AcpiPm
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus, Trigger
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.i8259 import I8259Pair
from pytcg.hw.core.ioapic import IoApic
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.hw.core.uart16550 import Uart16550
from pytcg.hw.input.i8042 import I8042
from pytcg.hw.line import Line
from pytcg.hw.state import Chip

Step = Callable[[random.Random], object]
ACCESSES = 4000


def nothing(*_: object) -> None:
    pass


def plain(read: Callable[[int], int], write: Callable[[int, int], None], registers: int,
          bits: int = 8) -> list[Step]:  # fmt: skip
    return [
        lambda rng: read(rng.randrange(registers)),
        lambda rng: write(rng.randrange(registers), rng.getrandbits(bits)),
    ]


def pic(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    pair = I8259Pair()
    steps = plain(pair.master.read, pair.master.write, 3)
    steps += plain(pair.slave.read, pair.slave.write, 3)
    steps.append(lambda rng: pair.set_irq(rng.choice([0, 1, 3, 9, 15]), rng.random() < 0.5))
    steps.append(lambda rng: pair.acknowledge())
    return pair, steps, [pair.intr]


def pit(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    chip = I8254(clock)
    for line in chip.out:
        line.connect(nothing)
    steps = plain(chip.read, chip.write, 4)
    steps.append(lambda rng: chip.set_gate(rng.randrange(3), rng.random() < 0.5))
    steps.append(lambda rng: chip.out_level(rng.randrange(3)))
    return chip, steps, chip.out


def rtc(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    chip = Mc146818(clock, epoch=0)

    def access(rng: random.Random) -> None:
        chip.write(0, rng.choice([*range(14), 0x32, rng.getrandbits(8)]))
        chip.write(1, rng.getrandbits(8))
        chip.read(1)

    return chip, [access], [chip.irq]


def uart(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    rooms = random.Random(1)
    chip = Uart16550(clock, can_transmit=lambda: rooms.random() < 0.5)
    steps = plain(chip.read, chip.write, 8)
    steps.append(lambda rng: chip.receive(rng.randbytes(rng.randrange(20))))
    steps.append(lambda rng: chip.receive_break())
    steps.append(lambda rng: chip.drain())
    return chip, steps, [chip.irq]


def lapic(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    bus = ApicBus()
    chip = LocalApic(clock, 0, bus.send_ipi, tsc=clock.now, tsc_hz=10**9)
    bus.attach(chip)

    def msr(rng: random.Random) -> None:
        index = rng.choice([0x1B, 0x6E0, 0x800 + rng.randrange(0x100)])
        with contextlib.suppress(KeyError, ValueError):  # #GP
            value = rng.choice([rng.getrandbits(64), rng.getrandbits(16), 0xFEE00900, 0xFEE00D00])
            chip.write_msr(index, value)
            chip.read_msr(index)

    steps = plain(chip.read, chip.write, 0x100, 32)
    steps += plain(chip.read, chip.write, 0x40, 18)
    steps.append(lambda rng: chip.deliver(rng.getrandbits(8), Trigger(rng.getrandbits(1))))
    steps.append(lambda rng: chip.set_lint(rng.getrandbits(1), rng.random() < 0.5))
    steps.append(lambda rng: chip.acknowledge())
    steps.append(lambda rng: chip.write_cr8(rng.getrandbits(4)))
    steps.append(msr)
    return chip, steps, [chip.intr]


def ioapic(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    chip = IoApic(nothing)
    steps = plain(chip.read, chip.write, 6, 32)
    steps.append(lambda rng: chip.write(0, rng.randrange(0x48)))
    steps.append(lambda rng: chip.set_irq(rng.randrange(24), rng.random() < 0.5))
    return chip, steps, []


def pm(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    chip = AcpiPm(clock, nothing)
    return chip, plain(chip.read, chip.write, 0x80), [chip.sci]


def kbc(clock: FakeClock) -> tuple[Chip, list[Step], list[Line]]:
    chip = I8042(nothing)
    steps = plain(chip.read, chip.write, 2)
    steps.append(lambda rng: chip.keyboard.key(rng.randbytes(2)))
    return chip, steps, [chip.irq1, chip.irq12, chip.a20]


@pytest.mark.parametrize("make", [pic, pit, rtc, uart, lapic, ioapic, pm, kbc])
def test_random_accesses(
    make: Callable[[FakeClock], tuple[Chip, list[Step], list[Line]]],
) -> None:
    """Afterwards the state still saves, and a restored chip drives the same lines."""
    rng, clock = random.Random(make.__name__), FakeClock()
    chip, steps, lines = make(clock)
    for _ in range(ACCESSES):
        result = rng.choice(steps)(rng)
        assert result is None or (isinstance(result, int) and result >= -1)
        clock.advance(rng.choice([0, 100, 30_000]))
    chip.restore(json.loads(json.dumps(chip.state())))
    copy, _, copied = make(clock)
    copy.restore(chip.state())
    assert [line.level for line in copied] == [line.level for line in lines]
