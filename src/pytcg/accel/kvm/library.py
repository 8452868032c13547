"""`LibraryKvm`: KVM in place of threaded code under the library's `Cpu`.

A library processor may have no tables at all, and stops at exceptions that its guest has no handler
for. So the guest runs with tables of ours behind its own (`Shadow`): vectors without a gate lead to
a HLT that tells which it was. What differs from our engines because of that: SGDT and SIDT tell
other addresses, a handler that is missing still has its frame pushed, a guest that loads an IDT of
its own shuts down where we would stop, and only a budget of one instruction is exact.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Protocol

from pytcg.accel.kvm.abi import DebugFlag, ExitCode
from pytcg.accel.kvm.core import KvmCpu
from pytcg.accel.kvm.device import Kvm, KvmError
from pytcg.accel.kvm.shadow import ALIAS, Shadow
from pytcg.accel.kvm.slots import Slot
from pytcg.accel.kvm.state import State
from pytcg.exec.bus import CpuBus
from pytcg.exec.exits import Exit
from pytcg.softmmu.ram import HostBuffer

_APIC_BASE = 0xFEE0_0900
_HIDDEN = 0xFC00_0000
_HIDDEN_SIZE = 32 << 20
_PF = 14


class EmulationError(KvmError):
    """The host's KVM, run beneath a hypervisor itself, lacks an instruction."""


class GuestProcessor(Protocol):
    """What of `pytcg_x86.core.cpu.X86Cpu` is needed."""

    bus: CpuBus

    @property
    def error(self) -> BaseException | None: ...

    @property
    def memory(self) -> Any: ...

    @property
    def state(self) -> State: ...

    @property
    def regs(self) -> MutableMapping[str, int]: ...


class LibraryKvm:
    """Runs one `X86Cpu`'s state; KvmError."""

    def __init__(self, kvm: Kvm, processor: GuestProcessor, cpuid: Any):
        self._cpu = processor
        self._regs = processor.regs  # plain ones: `Cpu` puts others in their place, which tell it
        self._hidden = HostBuffer(_HIDDEN_SIZE, huge=False)
        slot = Slot(_HIDDEN, _HIDDEN_SIZE, self._hidden.address, 0)
        self._core = KvmCpu(kvm, processor.memory, processor.state, self._regs, cpuid, (slot,))
        self._shadow = Shadow(self._core, processor, self._hidden.view, _HIDDEN)
        self._began: tuple[int, int] = 0, 0

    def kick(self) -> None:
        """Make `execute` look at requests soon; from any thread."""
        self._core.kick()

    def execute(self) -> Exit:
        """As `X86Cpu.execute`: until there is a reason to stop."""
        state = self._cpu.state
        budget = state.get("budget")
        if budget <= 0:
            return Exit.BUDGET
        if state.get("until_set") and state.get("until") == state.get("pc"):
            return Exit.UNTIL
        self._core.slots.update()
        with self._core.in_thread():
            self._shadow.put()
            self._core.slots.forget_pages()
            try:
                self._core.transfer.load(_APIC_BASE, 0, reset=True)
                self._debug(budget)
                reason = self._run(budget)
            finally:
                self._core.transfer.store()
                vector = self._shadow.take_away()
        if reason in (Exit.HALT, Exit.UNTIL) and vector is not None:
            return self._unhandled(vector)
        return reason

    def _debug(self, budget: int) -> None:
        """Breakpoints: where real mode's missing vectors lead, and where to stop."""
        state, enabled = self._cpu.state, 1 << 10 | 0x2
        until = 0
        if state.get("until_set"):
            until, enabled = state.get("code_base") + state.get("until"), enabled | 0x8
        control = DebugFlag.ENABLE | DebugFlag.USE_HW_BP
        if budget == 1:
            control |= DebugFlag.SINGLESTEP
        self._core.debug(control, (ALIAS, until, 0, 0, 0, 0, 0, enabled))

    def _run(self, budget: int) -> Exit:
        core, state, run = self._core, self._cpu.state, self._core.run
        while True:
            run.immediate_exit = 0
            if self._cpu.error is not None or state.get("stop_request"):
                return Exit.REQUEST
            run.request_interrupt_window = 0
            reason = core.enter()
            if reason == ExitCode.HLT:
                state.set("budget", budget - 1)
                return Exit.HALT
            if reason == ExitCode.SHUTDOWN:
                return Exit.TRIPLE_FAULT
            if reason == ExitCode.DEBUG:
                state.set("budget", budget - 1)
                return Exit.BUDGET if budget == 1 else Exit.UNTIL
            if reason == ExitCode.IO:
                core.serve_ports(self._cpu.bus)
            elif reason == ExitCode.MMIO:
                if not self._serve_mmio():
                    return self._no_memory()
            elif reason == ExitCode.INTERNAL_ERROR:
                if not core.emulate_interrupt():
                    raise EmulationError(f"KVM internal error. {core.failure()}")
            elif reason not in (ExitCode.INTR, ExitCode.IRQ_WINDOW_OPEN, ExitCode.SET_TPR):
                raise KvmError(f"KVM stops at {ExitCode(reason).name}")

    def _serve_mmio(self) -> bool:
        """Whether there is a device."""
        address, size, value, store = self._core.mmio()
        region = self._cpu.memory.find(address)
        if region is None or region.handler is None:
            return False
        if store:
            self._cpu.bus.write_mmio(address, size, value)
        else:
            self._core.answer_mmio(self._cpu.bus.read_mmio(address, size))
        return True

    def _no_memory(self) -> Exit:
        """An access of unpaged code to nothing: a page fault, as the library has it."""
        address, _, _, store = self._core.mmio()
        state = self._cpu.state
        state.set("exception_vector", _PF)
        state.set("exception_has_error", 1)
        state.set("exception_error", 2 * store)
        state.set("exception_address", address)
        state.set("unmapped", 1)
        return Exit.UNHANDLED

    def _unhandled(self, vector: int) -> Exit:
        state = self._cpu.state
        state.set("exception_vector", vector)
        if vector == _PF:
            address = self._regs["cr2"]
            state.set("exception_address", address)
            state.set("unmapped", int(self._cpu.memory.find(address) is None))
        return Exit.UNHANDLED
