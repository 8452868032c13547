"""`KvmCpu`: one KVM processor: its run page, its state, entering the guest and being kicked out."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import signal
import struct as packing
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from threading import get_ident
from typing import Any, Final

from pytcg.accel.kvm.abi import IOCTLS, STRUCTS, ExitCode, struct
from pytcg.accel.kvm.device import Kvm, KvmError, KvmFile
from pytcg.accel.kvm.irqchip.chips import KernelChips
from pytcg.accel.kvm.slots import Memory, Slot, Slots
from pytcg.accel.kvm.state import State, Transfer
from pytcg.exec.bus import CpuBus, PortRuns

KICK: Final = signal.SIGRTMIN + 7
"""Blocked but inside KVM_RUN, where it ends the run: no handler is needed."""
_EMULATION: Final = 1  # KVM_INTERNAL_ERROR_EMULATION
_INTERRUPTS: Final = b"\xcc\xcd"
_RUN: Final = IOCTLS["RUN"]
_IO: Final = packing.Struct("<BBHIQ")
_MMIO: Final = packing.Struct("<Q8sIB")
_EXIT_AT: Final = STRUCTS["run"].exit.offset
IMMEDIATE_EXIT_AT: Final = STRUCTS["run"].immediate_exit.offset
_REASON_AT: Final = STRUCTS["run"].exit_reason.offset // 4


class KvmCpu:
    """A virtual machine of one processor over some memory; KvmError."""

    def __init__(self, kvm: Kvm, memory: Memory, state: State, regs: MutableMapping[str, int],
                 cpuid: Any, extra: tuple[Slot, ...] = (), *, irqchip: str = "off"
                 ):  # fmt: skip
        self.vm = kvm.create_vm()
        split, there = irqchip == "split", irqchip != "off"
        self.chips = KernelChips(kvm, self.vm, split=split) if there else None
        self.slots = Slots(self.vm, memory, extra)
        self.file = KvmFile(self.vm.ioctl("CREATE_VCPU", 0))
        self.file.ioctl("SET_CPUID2", cpuid)
        self._page = mmap.mmap(self.file.fd, kvm.run_size)
        self.view = memoryview(self._page)
        self._words = self.view.cast("I")
        self.run: Any = STRUCTS["run"].from_buffer(self._page)
        self.transfer = Transfer(self.file, state, regs)
        self._set_mask()
        self.tsc_khz = self.file.ioctl("GET_TSC_KHZ")
        self._thread = 0

    def _set_mask(self) -> None:
        """Inside of KVM_RUN no signal is blocked."""
        made = ctypes.create_string_buffer(12)
        made.raw = (8).to_bytes(4, "little") + bytes(8)
        fcntl.ioctl(self.file.fd, IOCTLS["SET_SIGNAL_MASK"], made)

    # Entering ----------------------------------------------------------------------------------

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """The calling thread may enter the guest inside of this, and `kick` reaches it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
        self._thread = get_ident()
        try:
            yield
        finally:
            self._thread = 0
            while signal.sigtimedwait({KICK}, 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def enter(self) -> int:
        """KVM_RUN; the exit's number, INTR if something wants attention. Drops the GIL."""
        try:
            fcntl.ioctl(self.file.fd, _RUN, 0)
        except OSError as error:
            if error.errno not in (errno.EINTR, errno.EAGAIN):
                raise KvmError(f"error: kvm run failed {error.strerror}") from error
            signal.sigtimedwait({KICK}, 0)
            return ExitCode.INTR
        reason: int = self._words[_REASON_AT]
        return reason

    def interrupt(self, vector: int) -> None:
        """KVM_INTERRUPT: the processor takes it next."""
        made = struct("interrupt")
        made.irq = vector
        self.file.ioctl("INTERRUPT", made)

    def emulate_interrupt(self) -> bool:
        """After an internal error: deliver the INT3 or INT n that the host's KVM can't emulate.

        KVM beneath a hypervisor runs much of a guest by an emulator that lacks them outside of
        real mode. Whether it was one.
        """
        code = self.failed_code()
        if not code or code[0] not in _INTERRUPTS:
            return False
        length, vector = (1, 3) if code[0] == 0xCC else (2, code[1])
        regs = self.file.get("REGS", "regs")
        regs.rip += length
        self.file.ioctl("SET_REGS", regs)
        events = self.file.get("VCPU_EVENTS", "vcpu_events")
        if vector == 3:
            events.exception_injected, events.exception_nr = 1, vector
            events.exception_has_error_code = 0
        else:
            events.interrupt_injected, events.interrupt_nr, events.interrupt_soft = 1, vector, 1
        events.flags = 0
        self.file.ioctl("SET_VCPU_EVENTS", events)
        return True

    def failed_code(self) -> bytes:
        """After an internal error: the bytes at the instruction that KVM couldn't emulate."""
        detail = self.detail("exit_internal")
        if detail.suberror != _EMULATION or detail.ndata < 4 or not detail.data[0] & 1:
            return b""
        raw = bytes(detail.data)[8:24]
        return raw[1 : 1 + raw[0]]

    def failure(self) -> str:
        """An internal error in words."""
        detail = self.detail("exit_internal")
        if code := self.failed_code():
            return f"Suberror: {detail.suberror}, emulation failure at {code.hex(' ')}"
        words = " ".join(f"{detail.data[n]:#x}" for n in range(min(detail.ndata, 16)))
        return f"Suberror: {detail.suberror}, {words}"

    def finish_exit(self) -> None:
        """Let KVM complete what the last exit left half done: an IN's or a load's result."""
        self.run.immediate_exit = 1
        try:
            self.enter()
        finally:
            self.run.immediate_exit = 0

    def kick(self) -> None:
        """Make `enter` return soon; from any thread."""
        self.run.immediate_exit = 1
        thread = self._thread
        if thread and thread != get_ident():
            try:
                signal.pthread_kill(thread, KICK)
            except ProcessLookupError:
                return

    # What an exit is about ---------------------------------------------------------------------

    def io(self) -> tuple[bool, int, int, int, int]:
        """(out, size, port, count, where the data lie in the run page)."""
        out, size, port, count, offset = _IO.unpack_from(self._page, _EXIT_AT)
        return bool(out), size, port, count, offset

    def serve_ports(self, bus: CpuBus, runs: PortRuns | None = None) -> None:
        """Do what an exit for ports is about; a repeated one as a whole, if ``runs`` can."""
        out, size, port, count, at = _IO.unpack_from(self._page, _EXIT_AT)
        view, end = self.view, at + size * count
        if count == 1:
            if out:
                bus.write_port(port, size, int.from_bytes(view[at:end], "little"))
            else:
                view[at:end] = bus.read_port(port, size).to_bytes(size, "little")
            return
        if runs is not None:
            if out:
                runs.write_port_run(port, size, bytes(view[at:end]))
            else:
                view[at:end] = runs.read_port_run(port, size, count)
            return
        for place in range(at, end, size):
            if out:
                bus.write_port(port, size, int.from_bytes(view[place : place + size], "little"))
            else:
                view[place : place + size] = bus.read_port(port, size).to_bytes(size, "little")

    def mmio(self) -> tuple[int, int, int, bool]:
        """(address, size, value, store)."""
        address, data, size, store = _MMIO.unpack_from(self._page, _EXIT_AT)
        return address, size, int.from_bytes(data[:size], "little"), bool(store)

    def answer_mmio(self, value: int) -> None:
        """What a load gives."""
        self.view[_EXIT_AT + 8 : _EXIT_AT + 16] = value.to_bytes(8, "little")

    def detail(self, kind: str) -> Any:
        """The exit's own structure."""
        return STRUCTS[kind].from_buffer(self._page, _EXIT_AT)

    def debug(self, control: int, dr: tuple[int, ...] = ()) -> None:
        """KVM_SET_GUEST_DEBUG: ``dr`` are DR0, DR1, …, DR7."""
        made = struct("guest_debug")
        made.control = control
        for number, value in enumerate(dr):
            made.debugreg[number] = value
        self.file.ioctl("SET_GUEST_DEBUG", made)
