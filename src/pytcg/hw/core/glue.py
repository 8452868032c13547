"""The PC's odd ports, each a chip of its own: 61h, 92h, CF9h, E9h and the debug exit."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag

from pytcg.hw.bits import register_bits
from pytcg.hw.clock import Clock
from pytcg.hw.line import Line
from pytcg.hw.state import State, load, save

REFRESH_NS = 15_085
"""Half a cycle of port 61h's refresh bit: a refresh request each 15.085 us (18 PIT clocks)."""


@register_bits
class PortB(IntFlag):
    """System control port B (61h) on the AT; the other bits read 0 (no parity errors)."""

    TIMER2_GATE = 0x01
    SPEAKER_DATA = 0x02
    REFRESH = 0x10
    TIMER2_OUT = 0x20


class SystemControlPortB:
    """Port 61h: gate and output of PIT counter 2, the speaker's AND gate, the refresh toggle."""

    def __init__(
        self,
        clock: Clock,
        set_gate: Callable[[bool], None],
        timer2_out: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._set_gate = set_gate
        self._timer2_out = timer2_out
        self.latch = 0

    def reset(self) -> None:
        self.write(0, 0)

    def read(self, reg: int) -> int:
        value = self.latch
        if self._clock.now() // REFRESH_NS & 1:
            value |= PortB.REFRESH
        return value | PortB.TIMER2_OUT if self._timer2_out() else value

    def write(self, reg: int, value: int) -> None:
        self.latch = value & 0x0F  # bits 2 and 3 are the parity masks: stored, without effect
        self._sync()

    def state(self) -> State:
        return save(self, 1, ("latch",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("latch",))
        self._sync()

    def _sync(self) -> None:
        self._set_gate(bool(self.latch & PortB.TIMER2_GATE))


class CoprocessorError:
    """Port F0h: the AT's latch that makes IRQ 13 of the processor's FERR#; a write clears it."""

    def __init__(self) -> None:
        self.irq = Line()
        self.latch = 0

    def reset(self) -> None:
        self.write(0, 0)

    def error(self) -> None:
        """FERR# is asserted."""
        self.latch = 1
        self._sync()

    def read(self, reg: int) -> int:
        return 0xFF

    def write(self, reg: int, value: int) -> None:
        self.latch = 0
        self._sync()

    def state(self) -> State:
        return save(self, 1, ("latch",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("latch",))
        self._sync()

    def _sync(self) -> None:
        self.irq.set(bool(self.latch))


@register_bits
class PortA(IntFlag):
    """System control port A (92h)."""

    FAST_RESET = 0x01
    A20 = 0x02


class SystemControlPortA:
    """Port 92h: the fast A20 gate and CPU reset of the PS/2.

    The last word about A20 counts, be it this port's or the keyboard controller's.
    """

    def __init__(self, on_reset: Callable[[], None], *, a20: bool = True) -> None:
        self.a20 = Line(level=a20)
        self._on_reset = on_reset
        self._at_reset = PortA.A20 if a20 else PortA(0)
        self.latch = int(self._at_reset)

    def reset(self) -> None:
        self.latch = int(self._at_reset)
        self._sync()

    def read(self, reg: int) -> int:
        return self.latch

    def write(self, reg: int, value: int) -> None:
        rising = value & ~self.latch
        self.latch = value & (PortA.FAST_RESET | PortA.A20)
        self.a20.drive(bool(self.latch & PortA.A20))
        if rising & PortA.FAST_RESET:
            self._on_reset()

    def state(self) -> State:
        return save(self, 1, ("latch",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("latch",))
        self._sync()

    def _sync(self) -> None:
        self.a20.set(bool(self.latch & PortA.A20))


@register_bits
class Rcr(IntFlag):
    """Reset control register (PIIX3/ICH9, I/O port CF9h)."""

    SYS_RST = 0x02
    RST_CPU = 0x04
    FULL_RST = 0x08


class ResetControl:
    """Port CF9h: RST_CPU going from 0 to 1 resets; SYS_RST says whether the whole system."""

    def __init__(self, on_reset: Callable[[], None]) -> None:
        self._on_reset = on_reset
        self.latch = 0

    def reset(self) -> None:
        self.latch = 0

    def read(self, reg: int) -> int:
        return self.latch

    def write(self, reg: int, value: int) -> None:
        rising = value & ~self.latch
        # RST_CPU stays readable until the reset it starts has cleared the register.
        self.latch = value & (Rcr.SYS_RST | Rcr.RST_CPU | Rcr.FULL_RST)
        if rising & Rcr.RST_CPU:
            self._on_reset()

    def state(self) -> State:
        return save(self, 1, ("latch",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("latch",))


class DebugExit:
    """QEMU's isa-debug-exit: a write ends the machine with exit status (value << 1) | 1."""

    def __init__(self, on_exit: Callable[[int], None]) -> None:
        self._on_exit = on_exit

    def reset(self) -> None:
        """Nothing to forget."""

    def read(self, reg: int) -> int:
        return 0

    def write(self, reg: int, value: int) -> None:
        # As the process's status the value is cut to 8 bits by the host.
        self._on_exit(value << 1 | 1)

    def state(self) -> State:
        return save(self, 1, ())

    def restore(self, state: State) -> None:
        load(self, state, 1, ())


class DebugConsole:
    """Bochs' port E9h: bytes written go out, reading its own number tells that it is there."""

    def __init__(self, transmit: Callable[[bytes], None], *, readback: int = 0xE9) -> None:
        self._transmit = transmit
        self._readback = readback

    def reset(self) -> None:
        """Nothing to forget."""

    def read(self, reg: int) -> int:
        return self._readback

    def write(self, reg: int, value: int) -> None:
        self._transmit(bytes([value & 0xFF]))

    def state(self) -> State:
        return save(self, 1, ())

    def restore(self, state: State) -> None:
        load(self, state, 1, ())
