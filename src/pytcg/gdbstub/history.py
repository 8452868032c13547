"""Going backwards: snapshots along the way, and runs from one of them to an instruction count.

A processor of the library does the same again from the same state, but for what it is told by
ports, MMIO and the like: their answers are kept (`Journal`) and given once more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytcg.gdbstub.target import Signal, StopReport
from pytcg.library.bus import Journal

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.exec.debugger import Debugger, Hit
    from pytcg.library.snapshot import Snapshot
    from pytcg.library.stop import Stop

_INTERVAL = 200_000
"""Instructions between snapshots, at least; there are to be no more than some hundreds."""
_SNAPSHOTS = 200


@dataclass(frozen=True)
class _Mark:
    """A snapshot, and how much had happened by then."""

    count: int
    inputs: int
    snapshot: Snapshot


class History:
    """The past of one processor, from when this is made."""

    def __init__(self, cpu: Cpu):
        self._cpu = cpu
        self._journal = cpu.bus.journal = Journal()
        self._count = 0  # instructions since the beginning
        self._marks: list[_Mark] = []
        self._fresh = True  # nothing has been run since a change
        self._mark()

    def diverge(self) -> None:
        """Something is about to be changed by hand: another future begins here."""
        self._fresh = True
        self._journal.cut()
        while self._marks and self._marks[-1].count > self._count:
            self._marks.pop()

    def _mark(self) -> None:
        self._marks.append(_Mark(self._count, self._journal.position, self._cpu.snapshot()))
        self._fresh = False

    # Forwards ----------------------------------------------------------------------------------

    def forward(self, *, step: bool) -> Stop:
        """Run, or one instruction."""
        if self._fresh:
            self._mark()
        if step:
            return self._run(1)
        while True:
            interval = max(_INTERVAL, self._count // _SNAPSHOTS)
            stop = self._run(interval)
            if stop.kind != "limit" or self._cpu.stopping:
                return stop
            if self._count - self._marks[-1].count >= interval:
                self._mark()

    def _run(self, most: int) -> Stop:
        before = self._cpu.instructions
        stop = self._cpu.run(max_insns=most)
        self._count += self._cpu.instructions - before
        return stop

    # Backwards ---------------------------------------------------------------------------------

    def back(self, *, step: bool, debugger: Debugger) -> StopReport:
        """One instruction back, or to the last point that was met."""
        if self._count <= self._marks[0].count:
            return self._beginning()
        if step:
            with debugger.disarmed():
                self._go(self._count - 1)
            return StopReport()
        end = self._count
        while end > self._marks[0].count:
            mark = self._before(end)
            found = self._last_hit(mark, end, debugger)
            if found is not None:
                count, hit = found
                with debugger.disarmed():
                    self._go(count)
                return StopReport(Signal.TRAP, hit.access, hit.address)
            end = mark.count
        return self._beginning()

    def _beginning(self) -> StopReport:
        self._restore(self._marks[0])
        return StopReport(history="begin")

    def _before(self, count: int) -> _Mark:
        """The last snapshot of a smaller count."""
        return next(mark for mark in reversed(self._marks) if mark.count < count)

    def _last_hit(self, mark: _Mark, end: int, debugger: Debugger) -> tuple[int, Hit] | None:
        """Where, between a snapshot and a count, a point was met last.

        A watched access is undone too: the place is before its instruction.
        """
        self._restore(mark)
        debugger.forget()
        found = None
        while self._count < end:
            before = self._count
            self._run(end - self._count)
            hit = debugger.hit
            if hit is not None and hit.access and self._count <= end:
                found = self._count - 1, hit
            elif hit is not None and self._count < end:
                found = self._count, hit
            elif self._count == before:
                break  # it goes no further
        return found

    def _go(self, count: int) -> None:
        """To a count in the past."""
        mark = next(mark for mark in reversed(self._marks) if mark.count <= count)
        self._restore(mark)
        while self._count < count:
            before = self._count
            self._run(count - self._count)
            if self._count == before:
                break

    def _restore(self, mark: _Mark) -> None:
        self._cpu.restore(mark.snapshot)
        self._journal.position = mark.inputs
        self._count = mark.count

