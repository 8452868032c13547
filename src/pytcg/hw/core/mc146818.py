"""Motorola MC146818A real-time clock with the PC's 128 bytes of CMOS memory.

The time of day is an offset to the virtual clock, decoded when read. Update-ended, alarm and
periodic events are found by comparing the present with the moment of the last look, so none is
lost and a timer runs only for events whose interrupt is enabled. Section names are the datasheet's
(Motorola ADI1204). In place of undefined time bytes during an update, the old ones are read.
"""

from __future__ import annotations

import calendar
import time
from enum import IntEnum, IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.clock import NS_PER_SECOND, Clock, Deadline
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

UIP_WINDOW_NS = 244_000 + 1_984_000
"""t(BUC) + t(UC) at 32.768 kHz: how long before the new time UIP warns."""
CRYSTAL = 32_768
DONT_CARE = 0xC0


class Reg(IntEnum):
    """CMOS addresses with a meaning to the chip or to every PC BIOS."""

    SECONDS = 0
    SECONDS_ALARM = 1
    MINUTES = 2
    MINUTES_ALARM = 3
    HOURS = 4
    HOURS_ALARM = 5
    DAY_OF_WEEK = 6
    DAY_OF_MONTH = 7
    MONTH = 8
    YEAR = 9
    A = 10
    B = 11
    C = 12
    D = 13
    BASE_MEMORY = 0x15
    EXTENDED_MEMORY = 0x17
    CHECKSUM = 0x2E
    EXTENDED_MEMORY_POST = 0x30
    CENTURY = 0x32
    MEMORY_ABOVE_16M = 0x34
    MEMORY_ABOVE_4G = 0x5B


CALENDAR = {
    Reg.SECONDS, Reg.MINUTES, Reg.HOURS, Reg.DAY_OF_WEEK, Reg.DAY_OF_MONTH, Reg.MONTH, Reg.YEAR,
    Reg.CENTURY,
}  # fmt: skip


@register_bits
class RegB(IntFlag):
    """Register B: modes and interrupt enables."""

    DSE = 0x01
    HOURS_24 = 0x02
    DM = 0x04
    SQWE = 0x08
    UIE = 0x10
    AIE = 0x20
    PIE = 0x40
    SET = 0x80


@register_bits
class RegC(IntFlag):
    """Register C: interrupt flags; UF, AF and PF sit below their enables' bits in B."""

    NONE = 0
    UF = 0x10
    AF = 0x20
    PF = 0x40
    IRQF = 0x80


UIP = 0x80
DIVIDER_RESET = 0x60
VRT = 0x80
PM = 0x80


class Mc146818:
    """The chip as a PC wires it. Registers: 0 = address latch (port 70h), 1 = data (71h)."""

    _FIELDS = ("index", "cmos", "flags", "base_ns", "weekday_skew", "last_update", "last_period")

    def __init__(self, clock: Clock, *, epoch: int) -> None:
        """epoch: the wall-clock time at power-on, in Unix seconds of the zone the guest uses."""
        self._clock = clock
        self._timer = Deadline(clock, self._sync)
        self.irq = Line()
        self.cmos = bytearray(128)
        self.cmos[Reg.A] = 0x26
        self.cmos[Reg.B] = RegB.HOURS_24
        self.base_ns = epoch * NS_PER_SECOND
        self.weekday_skew = 0
        self.index = 0
        self.flags = RegC.NONE
        self._look()
        self._encode_time()

    def reset(self) -> None:
        """RESET pin: interrupt enables and flags go, time and memory stay."""
        self.cmos[Reg.B] &= ~(RegB.PIE | RegB.AIE | RegB.UIE | RegB.SQWE)
        self.index = 0
        self._collect()
        self.flags = RegC.NONE
        self._sync()

    def read(self, reg: int) -> int:
        if reg == 0:
            return 0xFF  # the address latch is write-only
        self._collect()
        value = self._read_cmos(self.index)
        self._sync()
        return value

    def write(self, reg: int, value: int) -> None:
        if reg == 0:
            self.index = value & 0x7F  # bit 7 is the board's NMI mask
            return
        self._collect()
        self._write_cmos(self.index, value & 0xFF)
        self._sync()

    def set_memory_size(self, below_4g: int, above_4g: int = 0) -> None:
        """Tell the BIOS, in its CMOS bytes, of RAM sizes in bytes (below_4g from address 0)."""
        self._store(Reg.BASE_MEMORY, 640, 2)
        extended = min(max(below_4g - (1 << 20), 0) >> 10, 0xFFFF)
        self._store(Reg.EXTENDED_MEMORY, extended, 2)
        self._store(Reg.EXTENDED_MEMORY_POST, extended, 2)
        above_16m = min(max(below_4g - (16 << 20), 0) >> 16, 0xFFFF)
        self._store(Reg.MEMORY_ABOVE_16M, above_16m, 2)
        self._store(Reg.MEMORY_ABOVE_4G, min(above_4g >> 16, 0xFF_FFFF), 3)

    def set_cmos(self, index: int, value: int) -> None:
        """Preset a byte of CMOS memory and renew the checksum of bytes 10h-2Dh."""
        self.cmos[index] = value
        total = sum(self.cmos[0x10:0x2E]) & 0xFFFF
        self.cmos[Reg.CHECKSUM : Reg.CHECKSUM + 2] = total.to_bytes(2, "big")

    def state(self) -> State:
        return save(self, 1, self._FIELDS)

    def restore(self, state: State) -> None:
        load(self, state, 1, self._FIELDS)
        self._sync()

    # --- registers -----------------------------------------------------------------------------

    def _store(self, index: int, value: int, size: int) -> None:
        for offset, byte in enumerate(value.to_bytes(size, "little")):
            self.set_cmos(index + offset, byte)

    def _read_cmos(self, index: int) -> int:
        if index in CALENDAR and self._running():
            self._encode_time()
        if index == Reg.A:
            return self.cmos[Reg.A] | (UIP if self._update_in_progress() else 0)
        if index == Reg.C:
            value = self.flags | (RegC.IRQF if self._interrupting() else 0)
            self.flags = RegC.NONE
            self.irq.set(False)  # an event right after this one is an edge of its own
            return value
        return VRT if index == Reg.D else self.cmos[index]

    def _write_cmos(self, index: int, value: int) -> None:
        if index in (Reg.C, Reg.D):
            return
        if index not in CALENDAR and index not in (Reg.A, Reg.B):
            self.cmos[index] = value
            return
        was_running = self._running()
        if was_running:
            self._encode_time()
        if index == Reg.A:
            self._write_a(value)
        elif index == Reg.B:
            # "SET ... UIE is cleared when SET goes high."
            self.cmos[Reg.B] = value & ~RegB.UIE if value & RegB.SET else value
        else:
            self.cmos[index] = value
        if self._running() and (index in CALENDAR or not was_running):
            self._decode_time()
        self._look()

    def _write_a(self, value: int) -> None:
        if self._divider_held() and value & DIVIDER_RESET != DIVIDER_RESET:
            # "The first update cycle begins one-half second" after the divider's release.
            self._set_phase(NS_PER_SECOND // 2)
        self.cmos[Reg.A] = value & 0x7F

    def _divider_held(self) -> bool:
        return self.cmos[Reg.A] & DIVIDER_RESET == DIVIDER_RESET

    def _running(self) -> bool:
        return not self.cmos[Reg.B] & RegB.SET and not self._divider_held()

    def _update_in_progress(self) -> bool:
        left = NS_PER_SECOND - self._wall() % NS_PER_SECOND
        return self._running() and left <= UIP_WINDOW_NS

    # --- time of day ---------------------------------------------------------------------------

    def _wall(self) -> int:
        return self.base_ns + self._clock.now()

    def _set_phase(self, ns: int) -> None:
        self.base_ns += ns - self._wall() % NS_PER_SECOND

    def _to_register(self, value: int) -> int:
        return value if self.cmos[Reg.B] & RegB.DM else value // 10 << 4 | value % 10

    def _from_register(self, value: int) -> int:
        return value if self.cmos[Reg.B] & RegB.DM else (value >> 4) * 10 + (value & 15)

    def _encode_time(self) -> None:
        """Put the present time into the ten time bytes and the century."""
        now = time.gmtime(self._wall() // NS_PER_SECOND)
        values = {
            Reg.SECONDS: now.tm_sec, Reg.MINUTES: now.tm_min,
            Reg.DAY_OF_WEEK: (now.tm_wday + 1 + self.weekday_skew) % 7 + 1,
            Reg.DAY_OF_MONTH: now.tm_mday, Reg.MONTH: now.tm_mon,
            Reg.YEAR: now.tm_year % 100, Reg.CENTURY: now.tm_year // 100,
        }  # fmt: skip
        for reg, value in values.items():
            self.cmos[reg] = self._to_register(value)
        self.cmos[Reg.HOURS] = self._encode_hour(now.tm_hour)

    def _encode_hour(self, hour: int) -> int:
        if self.cmos[Reg.B] & RegB.HOURS_24:
            return self._to_register(hour)
        return self._to_register((hour + 11) % 12 + 1) | (PM if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        if self.cmos[Reg.B] & RegB.HOURS_24:
            return self._from_register(value)
        return self._from_register(value & 0x7F) % 12 + (12 if value & PM else 0)

    def _decode_time(self) -> None:
        """Take the time bytes as the present second; the fraction of the second goes on."""
        get = {reg: self._from_register(self.cmos[reg]) for reg in CALENDAR}
        # The chip counts on from nonsense; a month or year outside the calendar is bounded.
        year = min(max(get[Reg.CENTURY] * 100 + get[Reg.YEAR], 1), 9998)
        month = min(max(get[Reg.MONTH], 1), 12)
        day, hour = get[Reg.DAY_OF_MONTH], self._decode_hour(self.cmos[Reg.HOURS])
        fields = (year, month, day, hour, get[Reg.MINUTES], get[Reg.SECONDS])
        seconds = calendar.timegm(fields)
        self.base_ns += seconds * NS_PER_SECOND - self._wall() // NS_PER_SECOND * NS_PER_SECOND
        weekday = time.gmtime(seconds).tm_wday + 1
        self.weekday_skew = (get[Reg.DAY_OF_WEEK] - 1 - weekday) % 7

    # --- interrupts ----------------------------------------------------------------------------

    def _period_ns(self) -> int:
        """Nanoseconds of the periodic interrupt times CRYSTAL; 0 = none ("Periodic Rate")."""
        rate = self.cmos[Reg.A] & 15
        if not rate or self._divider_held():
            return 0
        return (1 << (rate + 7 if rate < 3 else rate) - 1) * NS_PER_SECOND

    def _period(self) -> int:
        period = self._period_ns()
        return self._wall() * CRYSTAL // period if period else 0

    def _look(self) -> None:
        """Forget what happened up to now: the present is the last look."""
        self.last_update = self._wall() // NS_PER_SECOND
        self.last_period = self._period()

    def _collect(self) -> None:
        """Set the flags of everything that happened since the last look."""
        second = self._wall() // NS_PER_SECOND
        if self._running() and second > self.last_update:
            self.flags |= RegC.UF
            alarm = self._next_alarm(self.last_update)
            if alarm is not None and alarm <= second:
                self.flags |= RegC.AF
        if self._period() > self.last_period:
            self.flags |= RegC.PF
        self._look()

    def _next_alarm(self, after: int) -> int | None:
        """First second later than `after` that the alarm bytes match."""
        alarm = [self.cmos[reg] for reg in (Reg.SECONDS_ALARM, Reg.MINUTES_ALARM)]
        second, minute = (
            None if value >= DONT_CARE else self._from_register(value) for value in alarm
        )
        byte = self.cmos[Reg.HOURS_ALARM]
        hour = None if byte >= DONT_CARE else self._decode_hour(byte)
        if (second or 0) > 59 or (minute or 0) > 59 or (hour or 0) > 23:
            return None
        moment = after + 1
        if second is not None:
            moment += (second - moment) % 60
        while minute is not None and moment // 60 % 60 != minute:
            moment = _skip(moment, 60, second)
        while hour is not None and moment // 3600 % 24 != hour:
            moment = _skip(moment, 3600, second, minute)
        return moment

    def _interrupting(self) -> bool:
        return bool(self.flags & self.cmos[Reg.B] & (RegC.UF | RegC.AF | RegC.PF))

    def _next_event(self) -> int | None:
        """Wall time in ns of the next event whose interrupt is enabled."""
        enables, events = RegB(self.cmos[Reg.B]), []
        if self._running() and enables & RegB.UIE:
            events.append((self.last_update + 1) * NS_PER_SECOND)
        if self._running() and enables & RegB.AIE:
            alarm = self._next_alarm(self.last_update)
            if alarm is not None:
                events.append(alarm * NS_PER_SECOND)
        period = self._period_ns()
        if period and enables & RegB.PIE:
            events.append(-(-(self.last_period + 1) * period // CRYSTAL))
        return min(events, default=None)

    def _sync(self) -> None:
        self._collect()
        self.irq.set(self._interrupting())
        event = self._next_event()
        # While IRQF stands no further edge can come: reading C arms the timer again.
        waits = event is not None and not self._interrupting()
        self._timer.set(event - self.base_ns if event is not None and waits else None)


def _skip(moment: int, unit: int, second: int | None, minute: int | None = None) -> int:
    """The start of the next unit, moved on to the alarm's second and minute within it."""
    moment += unit - moment % unit
    return moment + (second or 0) + 60 * (minute or 0)
