"""The logic between chips: gates that are not worth a chip of their own."""

from __future__ import annotations

from collections.abc import Callable

from pytcg.hw.line import Line


class OrGate:
    """High while any input is: an interrupt request that several chips share."""

    def __init__(self) -> None:
        self.out = Line()
        self._high: set[int] = set()
        self._inputs = 0

    def input(self) -> Callable[[bool], None]:
        """A new input, low."""
        number = self._inputs
        self._inputs += 1

        def drive(level: bool) -> None:
            (self._high.add if level else self._high.discard)(number)
            self.out.set(bool(self._high))

        return drive


def unless(line: Line, off: Line) -> Line:
    """What a line drives while another one is low: HPET's legacy routing cuts PIT and RTC off."""
    out = Line()

    def drive(_: bool) -> None:
        out.set(line.level and not off.level)

    line.connect(drive)
    off.connect(drive)
    return out


def and_gate(first: Line, second: Line) -> Line:
    """High while both are: a UART's interrupt, which the PC gates with OUT2."""
    out = Line()

    def drive(_: bool) -> None:
        out.set(first.level and second.level)

    first.connect(drive)
    second.connect(drive)
    return out
