"""High precision event timers (IA-PC HPET specification 1.0a): a 100 MHz counter, three timers.

The counter is computed from the virtual clock when it is read. A timer keeps the tick at which it
fires next; a comparator that lies behind the counter fires at once, as QEMU's does, so that an
event set a moment too late is not one counter's round away.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, IntFlag
from typing import Final

from pytcg.hw.bits import register_bits
from pytcg.hw.clock import Clock, Deadline
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

TICK_NS: Final = 10
FEMTOSECONDS: Final = TICK_NS * 1_000_000
TIMERS: Final = 3
BLOCK_ID: Final = 0x8086A201  # Intel, legacy routing, 64 bits, three timers, revision 1
LEGACY_PINS: Final = (2, 8)  # of timers 0 and 1: the PIT's and the RTC's pins of the I/O APIC
PINS: Final = (2, 8, *range(16, 24))
MASK_64: Final = (1 << 64) - 1
MASK_32: Final = (1 << 32) - 1


class Reg(IntEnum):
    """64-bit registers; a timer's three lie 20h apart."""

    CAPABILITIES = 0x000
    CONFIG = 0x010
    STATUS = 0x020
    COUNTER = 0x0F0
    TIMERS = 0x100


@register_bits
class Config(IntFlag):
    """General configuration."""

    ENABLE = 1
    LEGACY = 2


@register_bits
class TimerConfig(IntFlag):
    """A timer's configuration; its route is bits 9 to 13, the possible ones bits 32 to 63."""

    LEVEL = 1 << 1
    ENABLE = 1 << 2
    PERIODIC = 1 << 3
    PERIODIC_CAP = 1 << 4
    SIZE_CAP = 1 << 5
    VALUE_SET = 1 << 6
    MODE_32 = 1 << 8


ROUTE_SHIFT: Final = 9
WRITABLE: Final[int] = (TimerConfig.LEVEL | TimerConfig.ENABLE | TimerConfig.PERIODIC
                   | TimerConfig.VALUE_SET | TimerConfig.MODE_32 | 0x1F << ROUTE_SHIFT)  # fmt: skip
FIXED: Final[int] = (TimerConfig.PERIODIC_CAP | TimerConfig.SIZE_CAP
                | sum(1 << pin for pin in PINS) << 32)  # fmt: skip


class Hpet:
    """`pins[n]` drives pin n of the I/O APIC; `legacy` is high while it replaces PIT and RTC."""

    _FIELDS = ("config", "status", "offset", "halted_at", "configs", "comparators", "periods",
               "fires")  # fmt: skip

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer = Deadline(clock, self._sync)
        self.pins = {pin: Line() for pin in PINS}
        self.legacy = Line()
        self._clear()

    def _clear(self) -> None:
        self.config = self.status = 0
        self.offset = 0  # ticks of the clock at counter 0, while it runs
        self.halted_at = 0
        self.configs = [0] * TIMERS
        self.comparators = [MASK_64] * TIMERS
        self.periods = [0] * TIMERS
        self.fires = [-1] * TIMERS  # in ticks of the clock; -1: never

    def reset(self) -> None:
        self._clear()
        self._sync()

    # --- registers -----------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """A load of 1 to 8 bytes."""
        self._sync()
        return self._register(offset & ~7) >> 8 * (offset & 7) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """A store: the other bytes of the register keep their values."""
        self._collect()
        reg, shift = offset & ~7, 8 * (offset & 7)
        mask = (1 << 8 * size) - 1 << shift & MASK_64
        if reg == Reg.STATUS:
            self.status &= ~(value << shift)
        else:
            self._store(reg, self._register(reg) & ~mask | value << shift & mask, mask)
        self._sync()

    def _register(self, reg: int) -> int:
        match reg:
            case Reg.CAPABILITIES:
                return FEMTOSECONDS << 32 | BLOCK_ID
            case Reg.CONFIG:
                return self.config
            case Reg.STATUS:
                return self.status
            case Reg.COUNTER:
                return self.counter()
        number, kind = divmod(reg - Reg.TIMERS, 0x20)
        if not 0 <= number < TIMERS:
            return 0
        if kind == 0:
            return self.configs[number] | FIXED
        return self.comparators[number] if kind == 8 else 0

    def _store(self, reg: int, value: int, mask: int) -> None:
        if reg == Reg.CONFIG:
            self._configure(value & (Config.ENABLE | Config.LEGACY))
        elif reg == Reg.COUNTER:
            if not self.config & Config.ENABLE:
                self.halted_at = value
        else:
            number, kind = divmod(reg - Reg.TIMERS, 0x20)
            if 0 <= number < TIMERS and kind == 0:
                self._configure_timer(number, value & WRITABLE)
            elif 0 <= number < TIMERS and kind == 8:
                self._compare(number, value, mask)

    def _configure(self, value: int) -> None:
        now, was = self._ticks(), self.config
        self.config = value
        if value & ~was & Config.ENABLE:
            self.offset = now - self.halted_at
        elif was & ~value & Config.ENABLE:
            self.halted_at = now - self.offset & MASK_64
        self._schedule(range(TIMERS))

    def _configure_timer(self, number: int, value: int) -> None:
        self.configs[number] = value
        if value & TimerConfig.MODE_32:
            self.comparators[number] &= MASK_32
            self.periods[number] &= MASK_32
        self._schedule([number])

    def _compare(self, number: int, value: int, mask: int) -> None:
        """A periodic timer's store sets the period, and with VAL_SET first the comparator."""
        config = self.configs[number]
        if config & TimerConfig.MODE_32:
            value &= MASK_32
        if not config & TimerConfig.PERIODIC or config & TimerConfig.VALUE_SET:
            self.comparators[number] = value
        if config & TimerConfig.PERIODIC:
            period = self.periods[number] & ~mask | value & mask
            self.periods[number] = period & (MASK_32 if config & TimerConfig.MODE_32 else MASK_64)
            self.configs[number] &= ~TimerConfig.VALUE_SET
        self._schedule([number], fresh=True)

    # --- time ----------------------------------------------------------------------------------

    def _ticks(self) -> int:
        return self._clock.now() // TICK_NS

    def counter(self) -> int:
        """The main counter."""
        if not self.config & Config.ENABLE:
            return self.halted_at
        return self._ticks() - self.offset & MASK_64

    def _schedule(self, numbers: Iterable[int], *, fresh: bool = False) -> None:
        """When the timers fire next; a fresh comparator that is passed already fires now."""
        for number in numbers:
            if not self.config & Config.ENABLE:
                self.fires[number] = -1
                continue
            mask = MASK_32 if self.configs[number] & TimerConfig.MODE_32 else MASK_64
            ahead = self.comparators[number] - self.counter() & mask
            if fresh and ahead > mask >> 1:
                ahead = 0
            self.fires[number] = self._ticks() + ahead

    def _collect(self) -> None:
        """Everything that happened up to now."""
        now = self._ticks()
        for number in range(TIMERS):
            if 0 <= self.fires[number] <= now:
                self._fire(number, now)

    def _fire(self, number: int, now: int) -> None:
        config, period = self.configs[number], self.periods[number]
        if config & TimerConfig.PERIODIC and period:
            steps = (now - self.fires[number]) // period + 1
            mask = MASK_32 if config & TimerConfig.MODE_32 else MASK_64
            self.comparators[number] = self.comparators[number] + steps * period & mask
            self.fires[number] += steps * period
        else:
            self.fires[number] = -1  # until the counter comes round, which nobody waits for
        if config & TimerConfig.LEVEL:
            self.status |= 1 << number
        elif config & TimerConfig.ENABLE and (line := self._line(number)) is not None:
            line.pulse()

    def _line(self, number: int) -> Line | None:
        if self.config & Config.LEGACY and number < len(LEGACY_PINS):
            return self.pins[LEGACY_PINS[number]]
        return self.pins.get(self.configs[number] >> ROUTE_SHIFT & 0x1F)

    def _sync(self) -> None:
        self._collect()
        self.legacy.set(bool(self.config & Config.LEGACY))
        level_pins: dict[Line, bool] = {}
        for number, config in enumerate(self.configs):
            line = self._line(number)
            if config & TimerConfig.LEVEL and line is not None:
                wanted = bool(config & TimerConfig.ENABLE and self.status >> number & 1)
                level_pins[line] = level_pins.get(line, False) or wanted
        for line in self.pins.values():
            if line in level_pins:
                line.set(level_pins[line])
        waiting = [fires for number, fires in enumerate(self.fires)
                   if fires >= 0 and self.configs[number] & TimerConfig.ENABLE]  # fmt: skip
        self._timer.set(min(waiting) * TICK_NS if waiting else None)

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()
