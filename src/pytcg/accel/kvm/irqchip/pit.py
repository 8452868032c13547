"""The 8254 in the kernel (struct kvm_pit_state2); port 61h stays the board's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pytcg.accel.kvm.abi import struct
from pytcg.accel.kvm.irqchip.mirror import Mirror, StillClock
from pytcg.hw.core.i8254 import I8254, tick_time, ticks
from pytcg.hw.core.i8254_counter import Access, Counter, Mode

if TYPE_CHECKING:
    from pytcg.accel.kvm.device import KvmFile
    from pytcg.hw.clock import Clock

_HPET_LEGACY: Final = 1  # KVM_PIT_FLAGS_HPET_LEGACY
_NEVER: Final = 0xFF  # the mode of a counter that no control word was for
_SECOND_BYTE: Final = 4  # RW_STATE_WORD1


class KernelPit(Mirror[I8254]):
    """What is pushed begins its count anew, as the kernel has it."""

    def __init__(self, vm: KvmFile, clock: Clock) -> None:
        self._clock = StillClock(clock)
        super().__init__(I8254(self._clock))
        self._vm = vm
        self._legacy = False

    def fetch(self) -> I8254:
        told = self._vm.get("PIT2", "pit")
        ahead = self._clock.now() - time.monotonic_ns()
        for counter, channel in zip(self.model.counters, told.channels, strict=True):
            _take(counter, channel, ticks(max(channel.count_load_time + ahead, 0)))
        return self.model

    def push(self) -> None:
        told = struct("pit")
        told.flags = _HPET_LEGACY if self._legacy else 0
        behind, tick = time.monotonic_ns() - self._clock.now(), ticks(self._clock.now())
        for counter, channel in zip(self.model.counters, told.channels, strict=True):
            _tell(counter, channel, tick)
            channel.count_load_time = max(tick_time(counter.origin or 0) + behind, 0)
        self._vm.ioctl("SET_PIT2", told)
        self._forget_ticks()

    def _forget_ticks(self) -> None:
        """The kernel keeps ticks back until the last is acknowledged, and that one may be gone."""
        for wanted in (0, 1):
            control = struct("reinject")
            control.pit_reinject = wanted
            self._vm.ioctl("REINJECT_CONTROL", control)

    def set_gate(self, n: int, level: bool) -> None:
        """As the chip's."""
        if self.fetch().counters[n].gate != level:
            self.model.set_gate(n, level)
            self.push()

    def out_level(self, n: int) -> bool:
        """As the chip's."""
        return self.fetch().out_level(n)

    def replace_by_hpet(self, level: bool) -> None:
        """Whether the HPET has the timer's interrupt."""
        if level != self._legacy:
            self._legacy = level
            self.fetch()
            self.push()


def _take(counter: Counter, channel: Any, origin: int) -> None:
    counter.reset()
    counter.gate = bool(channel.gate)
    if channel.mode == _NEVER:
        return
    counter.mode, counter.bcd = Mode(channel.mode), bool(channel.bcd)
    counter.access = Access(channel.rw_mode & 3)
    counter.idle_out = counter.mode is not Mode.TERMINAL_COUNT
    counter.count, counter.origin = channel.count or counter.modulus, origin
    counter.next_high = channel.read_state == _SECOND_BYTE
    if channel.write_state == _SECOND_BYTE:
        counter.write_low = channel.write_latch
    if channel.count_latched:
        counter.latched = channel.latched_count
    if channel.status_latched:
        counter.status_latch = channel.status


def _tell(counter: Counter, channel: Any, tick: int) -> None:
    counter.settle(tick)
    never = counter.origin is None and counter.mode is Mode.TERMINAL_COUNT
    channel.mode = _NEVER if never else counter.mode
    channel.bcd, channel.gate = int(counter.bcd), int(counter.gate)
    count = counter.pending or counter.count  # KVM loads it whatever GATE is
    channel.count, channel.rw_mode = count or counter.modulus, counter.access
    channel.read_state = _SECOND_BYTE if counter.next_high else max(counter.access, 1)
    channel.write_state = max(counter.access, 1)
    if counter.write_low is not None:
        channel.write_state, channel.write_latch = _SECOND_BYTE, counter.write_low
    if counter.latched is not None:
        channel.count_latched = channel.read_state
        channel.latched_count = counter.latched
    if counter.status_latch is not None:
        channel.status_latched, channel.status = 1, counter.status_latch
