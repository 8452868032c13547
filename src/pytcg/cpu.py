"""`Cpu`: one x86 processor and some memory, for running and testing pieces of guest code."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

from pytcg.exec.exits import Exit
from pytcg.log import Log
from pytcg.softmmu.address_map import AddressMap
from pytcg.softmmu.ram import RamError, RamWindow

_WINDOW = 16 << 30
_SLICE = 20_000_000  # instructions: well under a second on the threaded engine
_MODES = ("real", "protected", "long")
_DATA, _CODE = 0x93, 0x9B
_BIG, _LONG = 0xC000, 0xA000


class CpuError(Exception):
    """A wrong use of the library: unknown mode or engine, unmapped or overlapping memory."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Why `Cpu.run` returned.

    ``kind`` is "hlt", "exception", "until", "limit" or "shutdown" (triple fault). For exceptions:
    the ``vector``, the ``error_code`` (None where there is none), the faulting linear ``address``
    (page faults only), and the ``rip`` of the instruction; for the others rip is where the
    processor would go on.
    """

    kind: str
    rip: int
    vector: int | None = None
    error_code: int | None = None
    address: int | None = None


class NoBus:
    """A processor alone: ports read all ones, there are no devices."""

    def read_port(self, port: int, size: int) -> int:
        return (1 << (8 * size)) - 1

    def write_port(self, port: int, size: int, value: int) -> None:
        pass

    def read_mmio(self, address: int, size: int) -> int:
        return (1 << (8 * size)) - 1

    def write_mmio(self, address: int, size: int, value: int) -> None:
        pass

    def acknowledge_interrupt(self) -> int:
        return -1

    def read_msr(self, index: int) -> int:
        raise KeyError(index)

    def write_msr(self, index: int, value: int) -> None:
        raise KeyError(index)

    def read_cr8(self) -> int:
        return 0

    def write_cr8(self, value: int) -> None:
        pass


class Cpu:
    """A processor in ``mode`` "real", "protected" (flat 32-bit) or "long" (flat 64-bit).

    In protected and long mode all segments are flat, CPL is 0 and linear addresses are physical
    ones; long mode begins with paging off, which hardware does not allow: load CR3 and CR0 for
    page tables of your own. ``engine`` is "auto" (threaded code whose hot
    blocks are compiled), "threaded", "jit" (every block is compiled before it runs) or "python".
    Accesses to unmapped memory are page faults. An exception without a handler (beyond the IDT's
    limit; in real mode a vector of 0:0) stops the run, unless ``stop_exceptions`` is false: then it
    is delivered as hardware does. ``log`` is a debug log, as that of the command line's ``-d``.
    """

    def __init__(self, mode: str = "long", engine: str = "auto", *, model: str = "max",
                 stop_exceptions: bool = True, log: Log | None = None):  # fmt: skip
        from pytcg.engines import attach_regions, make_engine
        from pytcg_x86.core.cpu import X86Cpu
        from pytcg_x86.system.cpuid import CpuModel

        if mode not in _MODES:
            raise CpuError(f"no mode {mode!r}: real, protected and long are the modes")
        try:
            made = make_engine(engine)
            parsed = CpuModel.parse(model)
        except ValueError as error:
            raise CpuError(str(error)) from None
        self.mode = mode
        self._stop_exceptions = stop_exceptions
        self.memory = AddressMap(RamWindow(_WINDOW))
        self._free = 0
        self._instructions = 0
        self._cpu = X86Cpu(made, self.memory, NoBus(), parsed)
        attach_regions(self._cpu, engine)
        self._paging: tuple[int, ...] = ()
        self._set_mode(mode)
        if log is not None:
            from pytcg_threaded.dump import dump_form

            self._cpu.attach_log(log, dump_form)

    def _set_mode(self, mode: str) -> None:
        cpu = self._cpu
        cpu.state.set("stop_exceptions", int(self._stop_exceptions))
        cpu.state.set("no_devices", 1)
        for name in ("cs", "ss", "ds", "es", "fs", "gs"):
            rights = _CODE if name == "cs" else _DATA
            if mode == "real":
                cpu.set_segment(name, 0, 0, 0xFFFF, rights)
            else:
                size = _LONG if mode == "long" and name == "cs" else _BIG
                cpu.set_segment(name, 8 if name == "cs" else 16, 0, 0xFFFF_FFFF, rights | size)
        regs = cpu.regs
        regs["rip"] = 0
        regs["cr4"] = 0x600  # OSFXSR and OSXMMEXCPT: SSE works
        regs["cr0"] = 0x30 if mode == "real" else 0x31
        regs["efer"] = 0x500 if mode == "long" else 0
        regs["idtr.limit"] = 0x3FF if mode == "real" else 0
        regs["gdtr.limit"] = 0
        regs["fcw"] = 0x37F
        for number in range(8):
            cpu.state.set("fp_tag", 1, number)
        cpu.settle(flush=True)

    @property
    def regs(self) -> MutableMapping[str, int]:
        """Registers by name (rax … r15, eax, al, rip, eflags, cs, cs.base, cr0, xmm0, st0, …)."""
        return self._cpu.regs

    @property
    def instructions(self) -> int:
        """Instructions run so far; one with a REP prefix counts once."""
        return self._instructions

    # Memory ------------------------------------------------------------------------------------

    def map(self, address: int, length: int) -> None:
        """Put ``length`` bytes of zeroed RAM at a physical address; both in whole pages."""
        try:
            self.memory.add_ram(address, length, self._free)
        except RamError as error:
            raise CpuError(str(error)) from None
        self._free += length

    def read(self, address: int, length: int) -> bytes:
        """Bytes at a physical address."""
        try:
            return self.memory.read(address, length)
        except RamError as error:
            raise CpuError(str(error)) from None

    def write(self, address: int, data: bytes) -> None:
        """Put bytes at a physical address; what was translated from there is forgotten."""
        try:
            self.memory.write(address, bytes(data))
        except RamError as error:
            raise CpuError(str(error)) from None
        self._paging = ()  # they may be page tables

    # Running -----------------------------------------------------------------------------------

    def run(self, start: int | None = None, until: int | None = None, *,
            max_insns: int | None = None) -> Stop:  # fmt: skip
        """Run from ``start`` (default: rip), both offsets in CS, to ``until`` or ``max_insns``.

        An instruction that faults and is delivered to a handler counts as one of ``max_insns``; one
        with a REP prefix counts once. Raises whatever a Python callback raised.
        """
        if start is not None:
            self.regs["rip"] = start
        self._prepare(until)
        return self._stop(self._execute(max_insns))

    def _prepare(self, until: int | None) -> None:
        cpu, state = self._cpu, self._cpu.state
        target = -1 if until is None else until
        if (state.get("until_set"), state.get("until")) != (int(target >= 0), max(target, 0)):
            state.set("until_set", int(target >= 0))
            state.set("until", max(target, 0))
            cpu.engine.call("tb_flush", cpu.address)
        for name in ("halted", "delivering", "stop_request"):
            state.set(name, 0)
        state.set("exit_request", 1)  # a trap or interrupt may be due
        paging = tuple(self.regs[name] for name in ("cr0", "cr3", "cr4", "efer"))
        if paging != self._paging:
            self._paging = paging
            cpu.engine.call("tlb_flush", cpu.address)
        cpu.settle()

    def _execute(self, max_insns: int | None) -> Exit:
        """Run in slices, so that Python sees signals (Ctrl-C) between them."""
        cpu, state = self._cpu, self._cpu.state
        left = max_insns if max_insns is not None else 1 << 62
        while True:
            budget = min(left, _SLICE)
            state.set("budget", budget)
            reason = cpu.execute()
            done = budget - state.get("budget")
            self._instructions += done
            left -= done
            if reason is not Exit.BUDGET or left <= 0:
                return reason

    def _stop(self, reason: Exit) -> Stop:
        state, rip = self._cpu.state, self._cpu.regs["rip"]
        if reason is Exit.UNHANDLED:
            vector = state.get("exception_vector")
            error = state.get("exception_error") if state.get("exception_has_error") else None
            address = state.get("exception_address") if vector == 14 else None
            return Stop("exception", rip, vector, error, address)
        kinds = {Exit.HALT: "hlt", Exit.UNTIL: "until", Exit.BUDGET: "limit",
                 Exit.TRIPLE_FAULT: "shutdown"}  # fmt: skip
        if reason not in kinds:
            raise CpuError(f"stopped by {reason.name} at rip {rip:#x}")
        return Stop(kinds[reason], rip)
