"""A wire that a chip drives: interrupt requests, OUT pins, A20."""

from __future__ import annotations

from collections.abc import Callable


class Line:
    """One output; True means asserted, whatever the voltage on a real board."""

    def __init__(self, *, level: bool = False) -> None:
        self.level = level
        self._sinks: list[Callable[[bool], None]] = []

    @property
    def connected(self) -> bool:
        return bool(self._sinks)

    def connect(self, sink: Callable[[bool], None]) -> None:
        """Add a sink; it is called at once with the present level, then on every change."""
        self._sinks.append(sink)
        sink(self.level)

    def set(self, level: bool) -> None:
        """Drive the line; the sinks hear of changes only."""
        if level != self.level:
            self.level = level
            for sink in self._sinks:
                sink(level)

    def drive(self, level: bool) -> None:
        """Tell the sinks even if nothing changed, where another line has the same sink."""
        self.level = level
        for sink in self._sinks:
            sink(level)

    def pulse(self) -> None:
        """End asserted with a fresh rising edge, for inputs that look at edges."""
        self.set(False)
        self.set(True)
