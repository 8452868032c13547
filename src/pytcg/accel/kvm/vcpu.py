"""`KvmVcpu`: the processor of a board on KVM: enters the guest and serves what it exits for.

Where the interrupt controllers are the board's own (kernel-irqchip=off), HLT, the local APIC's page
and CR8 come to us, and interrupts go in by KVM_INTERRUPT when the processor takes them. With a
local APIC in the kernel (`irqchip`) all that is KVM's, but for the 8259s' interrupts with split.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pytcg.accel.kvm.abi import ExitCode, struct
from pytcg.accel.kvm.core import IMMEDIATE_EXIT_AT, KvmCpu
from pytcg.accel.kvm.device import KvmError
from pytcg.accel.kvm.irqchip.lapic import KernelLapic
from pytcg.accel.kvm.state import TSC, State
from pytcg.exec.bus import CpuBus, ExitReason, PortRuns
from pytcg.exec.layout import STORES_DROPPED, STORES_TO_DEVICE
from pytcg.exec.vcpu import ExecStats

if TYPE_CHECKING:
    from pytcg.accel.kvm.irqchip.chips import KernelChips
    from pytcg.hw.clock import Clock

_IF = 1 << 9
_APIC_BASE = 0x1B
_APICS = 0xFEE  # the megabyte of the local APIC, whose TPR is CR8
_RESET_EVENT = 2  # KVM_SYSTEM_EVENT_RESET


class Table(Protocol):
    """The state table of a processor, which RESET is known to."""

    @property
    def state(self) -> State: ...

    @property
    def regs(self) -> MutableMapping[str, int]: ...

    def reset(self) -> None: ...

    def save(self, tsc: int) -> dict[str, Any]: ...

    def restore(self, saved: dict[str, Any]) -> int: ...

    def set_segment(self, name: str, selector: int, base: int, limit: int,
                    attributes: int) -> None: ...  # fmt: skip


class BoardMemory(Protocol):
    """Where stores go that loads don't see: `pytcg.softmmu.address_map.AddressMap`."""

    version: int
    on_change: list[Callable[[], None]]

    @property
    def window(self) -> Any: ...

    def find(self, physical: int) -> Any: ...


class KvmVcpu:
    """Runs in the calling thread; pins and `request_exit` are thread-safe."""

    def __init__(self, core: KvmCpu, table: Table, memory: BoardMemory, bus: CpuBus):
        self._core = core
        self._table = table
        self._memory = memory
        self._bus = bus
        self._runs = bus if isinstance(bus, PortRuns) else None
        self._wake = threading.Condition()
        self._stop = False
        self._intr = False
        self._nmi = False
        self._reset = True
        self._given = -1  # the last vector that KVM was given
        self._halted = False  # in HLT, with interrupt controllers of the board's
        self._inside = False  # KVM has the state, not the table
        self._unfinished = False  # an IN or a load is to be completed
        self._exits: dict[int, int] = {}
        self._seconds = 0.0
        self._tsc = (0, time.monotonic_ns())
        self._wanted_kvm: dict[str, Any] = {}
        self._cr8 = 0
        self._lapic: KernelLapic | None = None
        if (chips := core.chips) is not None:
            chips.make_lapic = self._make_lapic
        self._serve: dict[int, Callable[[], ExitReason | None]] = {
            ExitCode.IO: self._serve_io, ExitCode.MMIO: self._serve_mmio,
            ExitCode.HLT: self._sleep, ExitCode.SHUTDOWN: lambda: ExitReason.TRIPLE_FAULT,
            ExitCode.SET_TPR: lambda: None, ExitCode.INTR: lambda: None,
            ExitCode.IRQ_WINDOW_OPEN: lambda: None, ExitCode.DEBUG: lambda: None,
            ExitCode.FAIL_ENTRY: self._fail_entry, ExitCode.SYSTEM_EVENT: self._system_event,
            ExitCode.INTERNAL_ERROR: self._internal_error, ExitCode.IOAPIC_EOI: self._end_level,
        }  # fmt: skip
        memory.on_change.append(self._note_change)

    # What a board needs of a processor ---------------------------------------------------------

    @property
    def regs(self) -> MutableMapping[str, int]:
        """Only while not running."""
        self._fetch()
        return self._table.regs

    @property
    def state(self) -> State:
        """The table's fields; only while not running."""
        self._fetch()
        return self._table.state

    @property
    def debug(self) -> None:
        """Breakpoints and steps are not there."""

    @property
    def kernel_chips(self) -> KernelChips | None:
        """Interrupt controllers in the kernel."""
        return self._core.chips

    def _make_lapic(self, clock: Clock) -> KernelLapic:
        core = self._core
        self._lapic = KernelLapic(core.file, core.transfer, clock, self._fetch, tsc=self.tsc,
                                  tsc_hz=self.tsc_frequency)  # fmt: skip
        return self._lapic

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        """Load a segment register with its hidden part."""
        self._fetch()
        self._table.set_segment(name, selector, base, limit, attributes)

    def reset(self) -> None:
        """The state after RESET; only while not running."""
        self._inside = self._unfinished = self._halted = False
        self._reset = True
        self._nmi = False
        self._table.reset()
        self._wanted_kvm = {}
        self._count_from(0)

    def save(self) -> dict[str, Any]:
        """The architecture's state as our engines save it, and what the guest has told KVM."""
        self._fetch()
        if self._nmi:
            self._table.state.set("nmi_pending", 1)
        tsc = self.tsc() if self._reset else self._core.transfer.read_msr(TSC)
        with self._on_its_way():
            saved = self._table.save(tsc)
        if told := self._core.transfer.paravirtual():
            clock = self._core.vm.get("CLOCK", "clock").clock
            saved["kvm"] = {"clock": clock, "msrs": sorted(told.items())}
        return saved

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """The table also has what KVM doesn't tell: an 8259's interrupt that it was given (split).

        KVM took it when the processor was ready for it; that it is not any more, with interrupts
        enabled, means that it wasn't entered since.
        """
        run, state = self._core.run, self._table.state
        enabled = self._table.regs["rflags"] & _IF and not run.ready_for_interrupt_injection
        if self._lapic is None or self._given < 0 or not enabled or state.get("exception_pending"):
            yield
            return
        halted = state.get("halted")
        state.set("exception_pending", 1)
        state.set("exception_vector", self._given)
        state.set("halted", 0)
        yield
        state.set("exception_pending", 0)
        state.set("halted", halted)

    def restore(self, saved: dict[str, Any]) -> None:
        """Be as `save` found it; ValueError."""
        self._inside = self._unfinished = self._nmi = False
        self._given = -1
        self._reset = True
        self._count_from(self._table.restore({**saved, "kvm": None}))
        self._wanted_kvm = saved.get("kvm") or {}

    def _count_from(self, tsc: int) -> None:
        self._tsc = (tsc, time.monotonic_ns())

    def forget_code(self) -> None:
        """KVM has none of its own."""

    @property
    def tsc_frequency(self) -> int:
        """Hertz."""
        return self._core.tsc_khz * 1000

    def tsc(self) -> int:
        """The time-stamp counter; by the host's clock, as KVM's can't be read while it runs."""
        count, then = self._tsc
        return count + (time.monotonic_ns() - then) * self._core.tsc_khz // 1_000_000

    def set_a20(self, level: bool) -> None:
        """KVM has no A20 gate: it stays open."""

    def set_intr(self, level: bool) -> None:
        """The INTR pin."""
        with self._wake:
            self._intr = level
            if level:
                self._attention()

    def raise_nmi(self) -> None:
        """An edge on the NMI pin."""
        with self._wake:
            self._nmi = True
            self._attention()

    def raise_smi(self) -> None:
        """Nothing: boards on KVM have no SMM."""

    def request_exit(self) -> None:
        """Make `run` return soon."""
        with self._wake:
            self._stop = True
            self._attention()

    def _attention(self) -> None:
        self._core.kick()
        self._wake.notify_all()

    def _note_change(self) -> None:
        self._core.kick()

    @property
    def exits(self) -> dict[str, int]:
        """How often the guest was left, by the reason's name."""
        return {_name(reason): count for reason, count in self._exits.items()}

    @property
    def stats(self) -> ExecStats:
        """The account so far: instructions aren't counted, exits are."""
        counts = " ".join(f"{name} {count}" for name, count in sorted(self.exits.items()))
        return ExecStats(0, self._seconds, 0, 0, 0, 0, {}, f"exits {counts}")

    # Running -----------------------------------------------------------------------------------

    def run(self) -> ExitReason:
        """Run the guest until `request_exit` or something ends it; sleeps while halted."""
        began = time.perf_counter()
        with self._core.in_thread():
            try:
                return self._run()
            finally:
                self._seconds += time.perf_counter() - began

    def _run(self) -> ExitReason:
        core, exits, serve = self._core, self._exits, self._serve
        run, memory, view = core.run, self._memory, core.view
        version, follows_cr8 = -1, self._lapic is None
        self._give()
        while True:
            view[IMMEDIATE_EXIT_AT] = 0  # before looking: whoever kicks later sets it again
            if self._stop and self._take_stop():
                return ExitReason.REQUESTED
            if version != memory.version:
                version = memory.version
                core.slots.update()
            if self._halted:
                self._sleep()
                continue
            if self._intr or self._nmi:
                self._inject()
            reason = core.enter()
            exits[reason] = exits.get(reason, 0) + 1
            handler = serve.get(reason)
            if handler is None:
                raise KvmError(f"KVM: unknown exit, hardware reason {reason}")
            if follows_cr8 and run.cr8 != self._cr8:
                self._bus.write_cr8(run.cr8)
                self._cr8 = run.cr8
            result = handler()
            if result is not None:
                return result

    def _take_stop(self) -> bool:
        with self._wake:
            stop, self._stop = self._stop, False
            return stop

    def _give(self) -> None:
        """Let KVM have the state."""
        if self._inside:
            return
        self._core.slots.update()
        run, state, lapic = self._core.run, self._table.state, self._lapic
        apic_base, self._cr8 = lapic.pins() if lapic is not None else (
            self._bus.read_msr(_APIC_BASE), self._bus.read_cr8())
        run.apic_base, run.cr8 = apic_base, self._cr8
        self._core.transfer.load(apic_base, run.cr8, reset=self._reset)
        self._core.transfer.load_pending()
        if self._reset:
            self._core.slots.forget_pages()
            self._give_anew()
        if lapic is not None:
            lapic.give()
            self._core.transfer.load_halted()
        elif state.get("halted"):
            self._halted = True
        run.if_flag = int(bool(self._table.regs["rflags"] & _IF))
        ready = bool(run.if_flag) and not state.get("inhibit") and lapic is None
        run.ready_for_interrupt_injection = int(ready)
        run.request_interrupt_window = 0
        self._inside = True

    def _give_anew(self) -> None:
        """What is given after RESET, or to a machine that was saved."""
        transfer, told = self._core.transfer, self._wanted_kvm
        if told:
            clock = struct("clock")
            clock.clock = told["clock"]
            self._core.vm.ioctl("SET_CLOCK", clock)
            for index, value in told["msrs"]:
                transfer.write_msr(index, value)
        tsc, _ = self._tsc
        transfer.write_msr(TSC, tsc)
        self._tsc = (tsc, time.monotonic_ns())
        self._reset = False

    def _fetch(self) -> None:
        """Have the state in the table."""
        if not self._inside:
            return
        if self._unfinished:
            self._core.finish_exit()
            self._unfinished = False
        self._core.transfer.store()
        self._core.transfer.store_pending()
        if self._lapic is not None:
            self._core.transfer.store_halted()
        else:
            self._table.state.set("halted", int(self._halted))
        self._inside = False

    def _inject(self) -> None:
        """What the pins ask for, if the processor takes it now."""
        run = self._core.run
        if self._nmi:
            self._nmi = False
            self._core.file.ioctl("NMI")
        if self._intr and run.ready_for_interrupt_injection:
            vector = self._bus.acknowledge_interrupt()
            if vector >= 0:
                self._core.interrupt(vector)
                self._given = vector
                run.ready_for_interrupt_injection = 0
            if self._lapic is None:
                self._sync_cr8()
        run.request_interrupt_window = int(self._intr)

    def _sync_cr8(self) -> None:
        self._cr8 = self._core.run.cr8 = self._bus.read_cr8()

    # Exits -------------------------------------------------------------------------------------

    def _serve_io(self) -> None:
        self._unfinished = True
        self._core.serve_ports(self._bus, self._runs)

    def _serve_mmio(self) -> None:
        address, size, value, store = self._core.mmio()
        self._unfinished = True
        if not store:
            self._core.answer_mmio(self._bus.read_mmio(address, size))
        elif (region := self._memory.find(address)) is None or region.stores == STORES_TO_DEVICE:
            self._bus.write_mmio(address, size, value)
        elif region.stores != STORES_DROPPED:  # memory that loads don't see
            place = region.stores + address - region.physical
            self._memory.window.view[place : place + size] = value.to_bytes(size, "little")
        if store and address >> 20 == _APICS:
            self._sync_cr8()

    def _end_level(self) -> None:
        vector, chips = self._core.detail("exit_eoi").vector, self._core.chips
        assert chips is not None
        chips.on_level_end(vector)

    def _sleep(self) -> None:
        """HLT: wait for what ends it; the loop then looks for itself."""
        enabled = self._core.run.if_flag
        with self._wake:
            self._halted = True
            while not (woken := self._nmi or (self._intr and enabled)) and not self._stop:
                self._wake.wait()
            self._halted = not woken

    def _fail_entry(self) -> ExitReason:
        reason = self._core.detail("exit_fail").reason
        raise KvmError(f"KVM: entry failed, hardware error {reason:#x}")

    def _internal_error(self) -> None:
        if self._core.emulate_interrupt():
            return
        text = self._core.failure()
        self._fetch()
        raise KvmError(f"KVM internal error. {text} (rip {self._table.regs['rip']:#x})")

    def _system_event(self) -> ExitReason:
        kind = self._core.detail("exit_system").type
        if kind == _RESET_EVENT:
            return ExitReason.TRIPLE_FAULT  # which resets the machine
        raise KvmError(f"KVM: the guest asks for system event {kind}")


def _name(reason: int) -> str:
    try:
        return ExitCode(reason).name.lower()
    except ValueError:
        return str(reason)
