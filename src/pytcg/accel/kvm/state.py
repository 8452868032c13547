"""The processor's state between the table that our engines use and KVM's structures.

One state has two homes: `load` hands it to KVM, `store` fetches it back, so a machine may go on
under either. An interrupt on its way in is an exception that is pending for the table: both are
delivered next. What it has no field for (kvmclock, AVX-512) stays with KVM's processor.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final, Protocol

from pytcg.accel.kvm.abi import counted, struct
from pytcg.accel.kvm.device import KvmError, KvmFile

GENERAL: Final = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
                  *(f"r{n}" for n in range(8, 16)), "rip", "rflags")  # fmt: skip
SEGMENTS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
CONTROL: Final = ("cr0", "cr2", "cr3", "cr4", "efer")
_MTRR_FIXED: Final = (0x250, 0x258, 0x259, *range(0x268, 0x270))
MSRS: Final = [
    (0x174, "sysenter_cs", 0), (0x175, "sysenter_esp", 0), (0x176, "sysenter_eip", 0),
    (0xC000_0081, "star", 0), (0xC000_0082, "lstar", 0), (0xC000_0083, "cstar", 0),
    (0xC000_0084, "fmask", 0), (0xC000_0102, "kernel_gs_base", 0), (0x277, "pat", 0),
    (0xC000_0103, "tsc_aux", 0),
    *((0x200 + n, "mtrr", n) for n in range(16)),
    *((index, "mtrr", 16 + n) for n, index in enumerate(_MTRR_FIXED)), (0x2FF, "mtrr", 27),
]  # fmt: skip
"""MSRs with the fields that keep them. MISC_ENABLE is KVM's own: its bits say what KVM does."""
TSC: Final = 0x10
_KVM_MSRS: Final = (0x4B56_4D00, 0x4B56_4D01, 0x4B56_4D02, 0x4B56_4D04, 0x11, 0x12)
_XCR0: Final = 0
_X87_SSE_AVX: Final = 7
_MASK_64: Final = (1 << 64) - 1
_EVENT_FLAGS: Final = 1 | 4  # NMI pending, interrupt shadow
_FIRST_INTERRUPT: Final = 32
HALTED: Final = 3  # KVM_MP_STATE_HALTED
_SHADOWS: Final = (0, 2, 1)  # by env.inhibit: none, STI's, MOV SS's


class State(Protocol):
    """Fields of the table by name."""

    def get(self, name: str, index: int = 0) -> int: ...

    def set(self, name: str, value: int, index: int = 0) -> None: ...


class Transfer:
    """Moves one processor's state; its file must not be in KVM_RUN."""

    def __init__(self, vcpu: KvmFile, state: State, regs: MutableMapping[str, int]):
        self._vcpu = vcpu
        self._state = state
        self._regs = regs
        self._xsave = vcpu.get("XSAVE", "xsave")
        self._msrs = self._supported_msrs()
        self._sregs = vcpu.get("SREGS", "sregs")
        self._tsc: int | None = None  # the offset that KVM's counter was set by

    def _supported_msrs(self) -> list[tuple[int, str, int]]:
        """Those that this kernel lets be read."""
        found = []
        for row in MSRS:
            try:
                self.read_msr(row[0])
            except KvmError:
                continue
            found.append(row)
        return found

    @property
    def apic_base(self) -> int:
        """IA32_APIC_BASE, as it was when the state was last moved."""
        return int(self._sregs.apic_base)

    @property
    def cr8(self) -> int:
        """Likewise."""
        return int(self._sregs.cr8)

    # KVM's own MSRs ----------------------------------------------------------------------------

    def paravirtual(self) -> dict[int, int]:
        """What the guest has told KVM by its MSRs: kvmclock and the like, where anything."""
        told = {}
        for index in _KVM_MSRS[:4]:
            try:
                told[index] = self.read_msr(index)
            except KvmError:
                continue
        return {index: value for index, value in told.items() if value}

    # One MSR -----------------------------------------------------------------------------------

    def read_msr(self, index: int) -> int:
        """KvmError if there is no such MSR."""
        made = counted("msr_entry", 1)
        made.rows[0].index = index
        if self._vcpu.ioctl("GET_MSRS", made) != 1:
            raise KvmError(f"MSR {index:#x} can't be read")
        return int(made.rows[0].data)

    def write_msr(self, index: int, value: int) -> bool:
        """Whether KVM took it."""
        made = counted("msr_entry", 1)
        made.rows[0].index, made.rows[0].data = index, value
        return self._vcpu.ioctl("SET_MSRS", made) == 1

    # To KVM ------------------------------------------------------------------------------------

    def load(self, apic_base: int, cr8: int, *, reset: bool) -> None:
        """Give KVM the table's state; ``reset`` drops what it kept besides."""
        self._load_sregs(apic_base, cr8)
        general = struct("regs")
        for name in GENERAL:
            setattr(general, name, self._regs[name])
        self._vcpu.ioctl("SET_REGS", general)
        self._load_vectors()
        self._load_msrs()
        self._load_debug()
        self._load_events(reset=reset)
        if reset:
            for index in _KVM_MSRS:
                self.write_msr(index, 0)

    def _load_sregs(self, apic_base: int, cr8: int) -> None:
        sregs, regs = self._sregs, self._regs
        for name in SEGMENTS:
            self._load_segment(name, getattr(sregs, name))
        for name in ("gdtr", "idtr"):
            table = getattr(sregs, name)
            table.base, table.limit = regs[f"{name}.base"], regs[f"{name}.limit"] & 0xFFFF
        for name in CONTROL:
            setattr(sregs, name, regs[name])
        sregs.apic_base, sregs.cr8 = apic_base, cr8
        sregs.interrupt_bitmap[:] = [0, 0, 0, 0]
        self._vcpu.ioctl("SET_SREGS", sregs)

    def _load_segment(self, name: str, segment: Any) -> None:
        regs, attr = self._regs, self._regs[f"{name}.attr"]
        segment.selector, segment.base = regs[name], regs[f"{name}.base"]
        segment.limit = regs[f"{name}.limit"]
        segment.type, segment.s, segment.dpl = attr & 15, attr >> 4 & 1, attr >> 5 & 3
        if name == "ss":
            segment.dpl = regs["cpl"]  # by which KVM knows the privilege level
        segment.present, segment.avl, segment.l = attr >> 7 & 1, attr >> 12 & 1, attr >> 13 & 1
        segment.db, segment.g = attr >> 14 & 1, attr >> 15 & 1
        segment.unusable = int(not segment.present)

    def _load_vectors(self) -> None:
        xcrs = struct("xcrs")
        xcrs.nr_xcrs, xcrs.xcrs[0].xcr, xcrs.xcrs[0].value = 1, _XCR0, self._state.get("xcr0") | 1
        self._vcpu.ioctl("SET_XCRS", xcrs)
        view = memoryview(self._xsave).cast("B")
        state, top = self._state, self._state.get("fp_top")
        tags = sum((1 - state.get("fp_tag", n)) << n for n in range(8))
        words = ((0, 2, state.get("fp_control")), (2, 2, self._regs["fsw"]), (4, 1, tags),
                 (6, 2, state.get("fp_opcode")), (8, 8, state.get("fp_ip")),
                 (16, 8, state.get("fp_dp")), (24, 4, state.get("mxcsr")))  # fmt: skip
        for at, size, value in words:
            view[at : at + size] = value.to_bytes(size, "little")
        for number in range(8):
            physical = (top + number) & 7
            value = state.get("fp_register", 2 * physical)
            value |= state.get("fp_register", 2 * physical + 1) << 64
            raw = (value & (1 << 80) - 1).to_bytes(16, "little")
            view[32 + 16 * number : 48 + 16 * number] = raw
        for number in range(16):
            low, high = state.get("xmm", number), state.get("ymm_high", number)
            view[160 + 16 * number : 176 + 16 * number] = low.to_bytes(16, "little")
            view[576 + 16 * number : 592 + 16 * number] = high.to_bytes(16, "little")
        present = int.from_bytes(view[512:520], "little")
        present |= _X87_SSE_AVX if state.get("xcr0") & 4 else 3
        view[512:520] = present.to_bytes(8, "little")
        self._vcpu.ioctl("SET_XSAVE", self._xsave)

    def _load_msrs(self) -> None:
        made = counted("msr_entry", len(self._msrs))
        for row, (index, field, place) in zip(made.rows, self._msrs, strict=True):
            row.index, row.data = index, self._state.get(field, place)
        if (done := self._vcpu.ioctl("SET_MSRS", made)) != len(self._msrs):
            raise KvmError(f"KVM refuses MSR {self._msrs[done][0]:#x}")

    def _load_debug(self) -> None:
        made = struct("debugregs")
        made.db[:] = [self._state.get("dr", n) for n in range(4)]
        made.dr6, made.dr7 = self._regs["dr6"] & 0xFFFF_FFFF, self._regs["dr7"] & 0xFFFF_FFFF
        self._vcpu.ioctl("SET_DEBUGREGS", made)

    def _load_events(self, *, reset: bool) -> None:
        events = struct("vcpu_events") if reset else self._vcpu.get("VCPU_EVENTS", "vcpu_events")
        events.flags = _EVENT_FLAGS
        events.interrupt_shadow = _SHADOWS[self._state.get("inhibit")]
        events.nmi_masked = self._state.get("nmi_blocked")
        self._vcpu.ioctl("SET_VCPU_EVENTS", events)

    def load_pending(self) -> None:
        """What is delivered next, which `load` leaves out."""
        events = self._vcpu.get("VCPU_EVENTS", "vcpu_events")
        events.flags = _EVENT_FLAGS
        events.nmi_pending = self._state.get("nmi_pending")
        vector = self._state.get("exception_vector")
        pending = self._state.get("exception_pending")
        interrupt = int(bool(pending and vector >= _FIRST_INTERRUPT))
        if interrupt:
            events.interrupt_injected, events.interrupt_nr = 1, vector
        elif pending:
            events.exception_injected, events.exception_nr = 1, vector
            events.exception_has_error_code = self._state.get("exception_has_error")
            events.exception_error_code = self._state.get("exception_error")
        self._vcpu.ioctl("SET_VCPU_EVENTS", events)

    # From KVM ----------------------------------------------------------------------------------

    def store(self) -> None:
        """Fetch KVM's state into the table."""
        self._sregs = sregs = self._vcpu.get("SREGS", "sregs")
        for name in CONTROL:
            self._regs[name] = getattr(sregs, name)
        for name in SEGMENTS:
            self._store_segment(name, getattr(sregs, name))
        for name in ("gdtr", "idtr"):
            table = getattr(sregs, name)
            self._regs[f"{name}.base"], self._regs[f"{name}.limit"] = table.base, table.limit
        general = self._vcpu.get("REGS", "regs")
        for name in GENERAL:
            self._regs[name] = getattr(general, name)
        v86 = general.rflags >> 17 & 1
        self._regs["cpl"] = 3 if v86 else sregs.ss.dpl if sregs.cr0 & 1 else 0
        self._store_vectors()
        self._store_rest()

    def _store_segment(self, name: str, segment: Any) -> None:
        regs = self._regs
        attr = (segment.type | segment.s << 4 | segment.dpl << 5 | segment.present << 7
                | segment.avl << 12 | segment.l << 13 | segment.db << 14
                | segment.g << 15)  # fmt: skip
        if segment.unusable:
            attr &= ~0x80
        regs[name], regs[f"{name}.base"] = segment.selector, segment.base
        regs[f"{name}.limit"], regs[f"{name}.attr"] = segment.limit, attr

    def _store_vectors(self) -> None:
        self._xsave = self._vcpu.get("XSAVE", "xsave")
        view, state = memoryview(self._xsave).cast("B"), self._state

        def number(at: int, size: int) -> int:
            return int.from_bytes(view[at : at + size], "little")

        present = number(512, 8)
        if not present & 1:
            _reset_x87(view)
        state.set("fp_control", number(0, 2))
        self._regs["fsw"] = number(2, 2)
        tags, top = number(4, 1), state.get("fp_top")
        for field, at, size in (("fp_opcode", 6, 2), ("fp_ip", 8, 8), ("fp_dp", 16, 8),
                                ("mxcsr", 24, 4)):  # fmt: skip
            state.set(field, number(at, size))
        for index in range(8):
            state.set("fp_tag", 1 - (tags >> index & 1), index)
            physical, value = (top + index) & 7, number(32 + 16 * index, 10)
            state.set("fp_register", value & _MASK_64, 2 * physical)
            state.set("fp_register", value >> 64, 2 * physical + 1)
        for index in range(16):
            state.set("xmm", number(160 + 16 * index, 16) if present & 2 else 0, index)
            state.set("ymm_high", number(576 + 16 * index, 16) if present & 4 else 0, index)

    def _store_rest(self) -> None:
        made = counted("msr_entry", len(self._msrs))
        for row, (index, _, _) in zip(made.rows, self._msrs, strict=True):
            row.index = index
        if (done := self._vcpu.ioctl("GET_MSRS", made)) != len(self._msrs):
            raise KvmError(f"KVM does not tell MSR {self._msrs[done][0]:#x}")
        for row, (_, field, place) in zip(made.rows, self._msrs, strict=True):
            self._state.set(field, row.data, place)
        debug = self._vcpu.get("DEBUGREGS", "debugregs")
        for number in range(4):
            self._state.set("dr", debug.db[number], number)
        self._regs["dr6"], self._regs["dr7"] = debug.dr6, debug.dr7
        self._state.set("xcr0", self._vcpu.get("XCRS", "xcrs").xcrs[0].value)
        events = self._vcpu.get("VCPU_EVENTS", "vcpu_events")
        shadow = events.interrupt_shadow
        self._state.set("inhibit", 2 if shadow & 1 else shadow >> 1)
        self._state.set("nmi_blocked", events.nmi_masked)

    def store_pending(self) -> None:
        """What is delivered next, which `store` leaves out."""
        state, events = self._state, self._vcpu.get("VCPU_EVENTS", "vcpu_events")
        state.set("nmi_pending", events.nmi_pending | events.nmi_injected)
        interrupt = events.interrupt_injected and not events.interrupt_soft
        exception = events.exception_injected or events.exception_pending
        state.set("exception_pending", int(bool(interrupt or exception)))
        vector = events.interrupt_nr if interrupt else events.exception_nr
        state.set("exception_vector", vector)
        state.set("exception_has_error", 0 if interrupt else events.exception_has_error_code)
        state.set("exception_error", events.exception_error_code)

    # Halted or not: with a local APIC in the kernel --------------------------------------------

    def load_halted(self) -> None:
        """Have KVM wait for an interrupt, if the processor did."""
        made = struct("mp_state")
        made.mp_state = HALTED if self._state.get("halted") else 0
        self._vcpu.ioctl("SET_MP_STATE", made)

    def store_halted(self) -> None:
        """Whether it waits for one."""
        told = self._vcpu.get("MP_STATE", "mp_state")
        self._state.set("halted", int(told.mp_state == HALTED))


def _reset_x87(view: memoryview) -> None:
    """What XRSTOR makes of a legacy area whose x87 part is in its initial state."""
    view[0:24] = (0x37F).to_bytes(24, "little")
    view[32:160] = bytes(128)
