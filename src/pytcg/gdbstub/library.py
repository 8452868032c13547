"""A library processor under a debugger: `Cpu.serve_gdb`."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from pytcg.errors import CpuError
from pytcg.exec.debugger import Point
from pytcg.gdbstub.history import History
from pytcg.gdbstub.session import Session
from pytcg.gdbstub.target import Signal, StopReport, TargetError
from pytcg.machine.virtual import page_pieces

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.library.stop import Stop

_SIGNALS = {0: Signal.FPE, 1: Signal.TRAP, 3: Signal.TRAP, 4: Signal.SEGV, 5: Signal.SEGV,
            6: Signal.ILL, 7: Signal.FPE, 11: Signal.SEGV, 12: Signal.SEGV, 13: Signal.SEGV,
            14: Signal.SEGV, 16: Signal.FPE, 17: Signal.BUS, 19: Signal.FPE}  # fmt: skip
"""Of exceptions, as Linux has them; others are SIGUSR1."""
_AGAIN = 0.005  # seconds until a run that had only begun is asked again to stop
_HELP = "info regions|instructions|registers\nhelp\n"


class Listening(NamedTuple):
    """Where the server is: a path, or a host and port."""

    path: str
    host: str
    port: int


class _Request(NamedTuple):
    step: bool
    back: bool


class CpuTarget:
    """`Target` of a `Cpu`."""

    def __init__(self, cpu: Cpu, *, record: bool):
        self._cpu = cpu
        self._debugger = cpu.attach_debugger()
        self._history = History(cpu) if record else None
        self.wide = cpu.mode == "long"
        self.has_ymm = cpu.has("avx")
        self.reversible = record
        self.request: _Request | None = None
        self.killed = False

    @property
    def registers(self) -> MutableMapping[str, int]:
        """All; a write is a turn of history."""
        return _Registers(self._cpu, self._changed)

    @property
    def long_code(self) -> bool:
        """Whether 64-bit code runs."""
        return self._cpu.code_bits == 64

    def _changed(self) -> None:
        if self._history is not None:
            self._history.diverge()

    def read(self, address: int, size: int, *, physical: bool) -> bytes:
        """Memory; TargetError where there is none."""
        try:
            places = self._places(address, size, physical=physical)
            return b"".join(self._cpu.read(at, part) for at, part in places)
        except CpuError as error:
            raise TargetError(str(error)) from error

    def write(self, address: int, data: bytes, *, physical: bool) -> None:
        """Put bytes into memory; TargetError."""
        places = self._places(address, len(data), physical=physical)
        self._changed()
        done = 0
        try:
            for at, part in places:
                self._cpu.write(at, data[done : done + part])
                done += part
        except CpuError as error:
            raise TargetError(str(error)) from error

    def _places(self, address: int, size: int, *, physical: bool) -> list[tuple[int, int]]:
        """(physical address, size) of a range's parts."""
        if physical or not self._cpu.regs["cr0"] >> 31:
            return [(address, size)]
        found = []
        for at, part in page_pieces(address, size):
            place = self._cpu.translate(at)
            if place is None:
                raise TargetError(f"no page at {at:#x}")
            found.append((place, part))
        return found

    def insert(self, point: Point) -> None:
        """Set a point."""
        self._debugger.insert(point)

    def remove(self, point: Point) -> bool:
        """Take one away."""
        return self._debugger.remove(point)

    def clear(self) -> None:
        """Take all away."""
        self._debugger.clear()

    def resume(self, *, step: bool, back: bool = False) -> None:
        """`serve` runs it, in its own thread."""
        self.request = _Request(step, back)

    def interrupt(self) -> None:
        """Stop the run; from the reader's thread."""
        self._cpu.stop()

    def kill(self) -> None:
        """There is nothing to end but the session."""
        self.killed = True

    def detached(self) -> None:
        """Whoever called `serve_gdb` goes on."""

    def monitor(self, line: str) -> str:
        """``info …``."""
        words = line.split()
        if words == ["info", "registers"]:
            return "".join(f"{name:16}{self._cpu.regs[name]:#x}\n" for name in self._cpu.regs)
        if words == ["info", "regions"]:
            return "".join(f"{region}\n" for region in self._cpu.regions)
        if words == ["info", "instructions"]:
            return f"{self._cpu.instructions}\n"
        return _HELP if words == ["help"] else f"unknown command: '{line.strip()}'\n"

    def run(self, request: _Request) -> StopReport:
        """Do what the debugger asked for."""
        if self._history is not None:
            if request.back:
                return self._history.back(step=request.step, debugger=self._debugger)
            return report_of(self._history.forward(step=request.step))
        return report_of(self._cpu.run(max_insns=1 if request.step else None))


class _Registers(MutableMapping[str, int]):
    """A processor's registers, with a call before each change."""

    def __init__(self, cpu: Cpu, changing: Callable[[], None]):
        self._regs = cpu.regs
        self._changing = changing

    def __getitem__(self, name: str) -> int:
        return self._regs[name]

    def __setitem__(self, name: str, value: int) -> None:
        self._changing()
        self._regs[name] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError("registers can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(self._regs)

    def __len__(self) -> int:
        return len(self._regs)


def report_of(stop: Stop) -> StopReport:
    """What a run's end is to a debugger."""
    if stop.kind == "watchpoint":
        assert stop.access is not None and stop.address is not None
        return StopReport(Signal.TRAP, stop.access, stop.address)
    if stop.kind == "exception":
        return StopReport(_SIGNALS.get(stop.vector or 0, Signal.USR1))
    if stop.kind == "stop":
        return StopReport(Signal.INT)
    return StopReport(Signal.ABRT if stop.kind == "shutdown" else Signal.TRAP)


def serve(cpu: Cpu, port: int | str, host: str, *, record: bool,
          started: Callable[[Listening], object] | None) -> None:  # fmt: skip
    """Listen, and serve the first debugger that comes until it goes."""
    with _listen(port, host) as listener:
        if started is not None:
            started(_place(listener))
        peer, _ = listener.accept()
    if isinstance(port, str):
        os.unlink(port)
    with peer:
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Connection(cpu, peer, record=record).serve()


def _listen(port: int | str, host: str) -> socket.socket:
    if isinstance(port, int):
        return socket.create_server((host, port))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(port)
    listener.listen(1)
    return listener


def _place(listener: socket.socket) -> Listening:
    if listener.family == socket.AF_UNIX:
        return Listening(str(listener.getsockname()), "", 0)
    host, port = listener.getsockname()[:2]
    return Listening("", host, port)


class _Connection:
    """A debugger, its bytes read by a thread so that it can break into a run."""

    def __init__(self, cpu: Cpu, peer: socket.socket, *, record: bool):
        self._peer = peer
        self._bytes: SimpleQueue[bytes] = SimpleQueue()
        self._target = CpuTarget(cpu, record=record)
        self._session = Session(self._target, self._send)
        self._given = self._served = 0  # pieces of input
        self._over = False

    def serve(self) -> None:
        """Until it goes."""
        reader = threading.Thread(target=self._read, name="gdb", daemon=True)
        reader.start()
        try:
            while not self._session.closed:
                data = self._bytes.get()
                if not data:
                    break
                self._session.feed(data)
                self._run()
                self._served += 1
        finally:
            self._over = True
            self._session.leave()
            self._hang_up()
            reader.join()

    def _run(self) -> None:
        while self._target.request is not None and not self._session.closed:
            request, self._target.request = self._target.request, None
            self._session.stopped(self._target.run(request))

    def _send(self, data: bytes) -> None:
        try:
            self._peer.sendall(data)
        except OSError:
            self._bytes.put(b"")  # it is gone

    def _read(self) -> None:
        while True:
            try:
                data = self._peer.recv(65536)
            except OSError:
                data = b""
            if not data:
                self._break_in()
                self._bytes.put(b"")
                return
            wanted = data.removesuffix(b"\x03")
            if wanted:
                self._given += 1
                self._bytes.put(wanted)
            if wanted != data:
                self._break_in()

    def _break_in(self) -> None:
        """End the run that is under way, or comes with what was read already."""
        while self._served < self._given and not self._over:
            if self._session.running:
                self._target.interrupt()
            time.sleep(_AGAIN)

    def _hang_up(self) -> None:
        with suppress(OSError):  # it is gone already
            self._peer.shutdown(socket.SHUT_RDWR)
