"""A machine under a debugger: the processor while it rests, and the server on a chardev."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
from typing import Any

from pytcg.chardev.base import Chardev, Context
from pytcg.exec.debugger import Point
from pytcg.gdbstub.session import Session
from pytcg.gdbstub.target import Signal, StopReport, TargetError
from pytcg.machine.descriptor import parse_descriptor
from pytcg.machine.runner import Debuggable, MachineError, RunState
from pytcg.machine.virtual import page_pieces, physical_address
from pytcg.monitor.machine import Machine
from pytcg.softmmu.ram import RamError

_ROOM = 65536
_REAL_SEGMENT = 0xFFFF
_SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs")

Monitor = Callable[[str], str]
"""Runs a line of the human monitor."""


class MachineRegisters(MutableMapping[str, int]):
    """The vCPU's registers, with CR8 where it is: in the local APIC."""

    def __init__(self, machine: Machine):
        self._machine = machine

    def __getitem__(self, name: str) -> int:
        if name == "cr8":
            return self._machine.board.cpu_bus.read_cr8()
        return self._machine.board.vcpu.regs[name]

    def __setitem__(self, name: str, value: int) -> None:
        regs = self._machine.board.vcpu.regs
        if name == "cr8":
            self._machine.board.cpu_bus.write_cr8(value)
        elif name in _SEGMENTS and regs["cr0"] & 1:
            self._load_segment(name, value)
        else:
            regs[name] = value

    def _load_segment(self, name: str, selector: int) -> None:
        """In protected mode a selector brings its descriptor."""
        regs = self._machine.board.vcpu.regs
        at = selector & 0xFFF8
        if at == 0:
            regs[name] = selector
            return
        table = "ldtr" if selector & 4 else "gdtr"
        if at + 7 > regs[f"{table}.limit"]:
            raise TargetError(f"no descriptor {selector:#x}")
        raw = read_linear(self._machine, regs[f"{table}.base"] + at, 8)
        parsed = parse_descriptor(int.from_bytes(raw, "little"))
        self._machine.board.vcpu.set_segment(name, selector, *parsed)

    def __delitem__(self, name: str) -> None:
        raise TypeError("registers can't be removed")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def debuggable(machine: Machine) -> Debuggable:
    """The machine's processor for debuggers; TargetError where the accelerator has none."""
    if machine.board.vcpu.debug is None:
        raise TargetError("this accelerator has no breakpoints")
    return machine.board.vcpu.debug


def read_linear(machine: Machine, address: int, size: int) -> bytes:
    """Guest memory by linear address; TargetError where no page is."""
    return b"".join(read_physical(machine, _physical(machine, at), part)
                    for at, part in page_pieces(address, size))  # fmt: skip


def _physical(machine: Machine, linear: int) -> int:
    board = machine.board
    found = physical_address(board.memory, board.vcpu.regs, linear & (1 << 64) - 1)
    if found is None:
        raise TargetError(f"no page at {linear:#x}")
    return found


def read_physical(machine: Machine, address: int, size: int) -> bytes:
    """RAM and ROM as it is, devices' registers as the processor would read them."""
    found = b""
    for at, part in page_pieces(address, size):
        try:
            found += machine.board.memory.read(at, part)
        except RamError:
            found += b"".join(machine.board.cpu_bus.read_mmio(a, n).to_bytes(n, "little")
                              for a, n in _units(at, part))  # fmt: skip
    return found


def _units(address: int, size: int) -> Iterator[tuple[int, int]]:
    """A device's accesses: whole and aligned, four bytes at most."""
    end = address + size
    while address < end:
        unit = 4
        while address % unit or address + unit > end:
            unit //= 2
        yield address, unit
        address += unit


def write_physical(machine: Machine, address: int, data: bytes) -> None:
    """RAM and ROM are changed, devices get the store."""
    done = 0
    for at, part in page_pieces(address, len(data)):
        piece = data[done : done + part]
        done += part
        try:
            machine.board.memory.write(at, piece)
        except RamError:
            for where, unit in _units(at, part):
                value = int.from_bytes(piece[where - at : where - at + unit], "little")
                machine.board.cpu_bus.write_mmio(where, unit, value)


class MachineTarget:
    """`Target` of a machine."""

    reversible = False

    def __init__(self, machine: Machine, monitor: Monitor):
        self._machine = machine
        self._runner = machine.runner
        self.registers = MachineRegisters(machine)
        self.monitor = monitor
        self._processor = debuggable(machine)
        self.wide = self._processor.has("lm")
        self.has_ymm = self._processor.has("avx")

    @property
    def long_code(self) -> bool:
        """Whether CS is of 64-bit code, in long mode."""
        regs = self._machine.board.vcpu.regs
        return bool(regs["efer"] & 1 << 10 and regs["cs.attr"] & 1 << 13)

    def read(self, address: int, size: int, *, physical: bool) -> bytes:
        """Memory; TargetError."""
        return (read_physical if physical else read_linear)(self._machine, address, size)

    def write(self, address: int, data: bytes, *, physical: bool) -> None:
        """All or nothing, as far as pages are concerned; TargetError."""
        pieces = list(page_pieces(address, len(data)))
        places = [at if physical else _physical(self._machine, at) for at, _ in pieces]
        done = 0
        for place, (_, part) in zip(places, pieces, strict=True):
            write_physical(self._machine, place, data[done : done + part])
            done += part

    def insert(self, point: Point) -> None:
        """Set a point."""
        self._processor.debugger.insert(point)

    def remove(self, point: Point) -> bool:
        """Take one away."""
        return self._processor.debugger.remove(point)

    def clear(self) -> None:
        """Take all away: the processor may run, so it has to rest for it."""
        with self._runner.at_rest():
            self._processor.debugger.clear()

    def resume(self, *, step: bool, back: bool = False) -> None:
        """Run, or run one instruction."""
        if self._runner.state is RunState.SHUTDOWN:
            raise TargetError("the machine has ended")
        self._processor.debugger.hit = None
        if step:
            self._runner.step()
        else:
            self._runner.resume()

    def interrupt(self) -> None:
        """Stop it."""
        self._runner.pause()

    def kill(self) -> None:
        """End the emulator, as QEMU does."""
        print("pytcg-system-x86_64: QEMU: Terminated via GDBstub", file=sys.stderr, flush=True)
        self._runner.quit()

    def detached(self) -> None:
        """Let the guest run."""
        self._runner.resume()


class GdbServer:
    """The front-end of the chardev that a debugger is on. All in the main loop."""

    def __init__(self, machine: Machine, chardev: Chardev, monitor: Monitor):
        self._machine = machine
        self._chardev = chardev
        self._monitor = monitor
        self._context: Context | None = None
        self.session: Session | None = None
        chardev.on_open = self._opened
        chardev.on_close = self._closed

    def start(self, context: Context) -> None:
        """Begin to serve."""
        self._context = context
        self._machine.runner.on_event.append(self._event)
        self._machine.chardevs.connect(self._chardev, self)

    def stop(self) -> None:
        """Serve no longer: another takes its place."""
        self._machine.runner.on_event.remove(self._event)
        self._leave()
        self._chardev.close()

    def _opened(self) -> None:
        self._machine.runner.pause()
        self.session = Session(MachineTarget(self._machine, self._monitor), self._send)

    def _closed(self) -> None:
        assert self._context is not None
        self._context.loop.call_soon(self._leave)  # without the device lock

    def _leave(self) -> None:
        """The peer is gone. Its points go; a guest that stands still waits for somebody else."""
        session, self.session = self.session, None
        if session is not None and not session.closed:
            session.closed = True
            self._guarded(session.target.clear)

    def _guarded(self, act: Callable[[], None]) -> None:
        with suppress(MachineError):  # it is ending
            act()

    # The character device's side -----------------------------------------------------------------

    def can_receive(self) -> int:
        """As much as comes."""
        return _ROOM

    def receive(self, data: bytes) -> int:
        """Bytes of the debugger."""
        assert self._context is not None
        self._context.loop.call_soon(self._feed, data)
        return len(data)

    def receive_break(self) -> None:
        """Nothing."""

    def _feed(self, data: bytes) -> None:
        session = self.session
        if session is None:
            return
        if session.running:
            session.feed(data)
            return
        with suppress(MachineError), self._machine.runner.at_rest():
            session.feed(data)
        if session.closed:
            self.session = None

    def _send(self, data: bytes) -> None:
        assert self._context is not None
        with self._context.lock:
            self._chardev.write(data)

    # The machine's side --------------------------------------------------------------------------

    def _event(self, name: str, data: dict[str, Any]) -> None:
        if self.session is None:
            return
        if name == "STOP":
            self.session.stopped(self._report())
        elif name == "SHUTDOWN":
            self.session.exited(self._machine.runner.status)

    def _report(self) -> StopReport:
        hit = debuggable(self._machine).debugger.hit
        if hit is not None:
            return StopReport(Signal.TRAP, hit.access, hit.address)
        debug = self._machine.runner.state is RunState.DEBUG
        return StopReport(Signal.TRAP if debug else Signal.INT)
