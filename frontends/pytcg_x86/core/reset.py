"""RESET and segment registers: state that is written from outside, whoever runs the processor."""

from __future__ import annotations

from functools import cache
from typing import Any

from pytcg_x86.core.registers import Registers, StateView
from pytcg_x86.core.state import ENV, Attr

_ALL_ONES = (1 << 64) - 1
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_DATA = int(Attr.P | Attr.S | Attr.WRITABLE | Attr.ACCESSED)


def set_segment(state: StateView, name: str, selector: int, base: int, limit: int,
                attributes: int) -> None:  # fmt: skip
    """Load a segment register with its hidden part; ``limit`` in bytes."""
    index = _SEGMENTS.index(name)
    state.set("seg_sel", selector, index)
    state.set("seg_base", base, index)
    state.set("seg_limit", limit, index)
    state.set("seg_attr", attributes, index)


_MISC_FOPCODE = 1 << 2  # IA32_MISC_ENABLE: FOP is the last opcode's, whatever it was
_LAST_P6 = 0xB  # model of the last Pentium III


def _keeps_opcodes(signature: int) -> bool:
    """Whether a processor is older than the Pentium 4 (SDM vol. 1, 8.1.9.1)."""
    family, model = signature >> 8 & 15, signature >> 4 & 15 | signature >> 12 & 0xF0
    return family < 6 or (family == 6 and model <= _LAST_P6)


def reset_state(state: StateView, regs: Registers, signature: int) -> None:
    """The state after RESET (SDM vol. 3A, table 9-1); ``signature`` is of the CPU model."""
    put = state.set
    for name in ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                 *(f"r{n}" for n in range(8, 16)), "cr2", "cr3", "cr4", "efer",
                 "dr0", "dr1", "dr2", "dr3"):  # fmt: skip
        regs[name] = 0
    regs["rdx"] = signature
    regs["eflags"] = 2
    regs["rip"] = 0xFFF0
    regs["cr0"] = 0x6000_0010
    regs["dr6"], regs["dr7"] = 0xFFFF_0FF0, 0x400
    regs["pat"] = 0x0007_0406_0007_0406
    regs["xcr0"] = 1
    for name in _SEGMENTS[:6]:
        set_segment(state, name, 0, 0, 0xFFFF, _DATA)
    set_segment(state, "cs", 0xF000, 0xFFFF_0000, 0xFFFF, _DATA | int(Attr.CODE))
    set_segment(state, "ldtr", 0, 0, 0xFFFF, 0x82)
    set_segment(state, "tr", 0, 0, 0xFFFF, 0x8B)
    for name in ("gdtr", "idtr"):
        regs[f"{name}.base"], regs[f"{name}.limit"] = 0, 0xFFFF
    for name in ("cpl", "halted", "inhibit", "exception_pending", "delivering", "exit_reason",
                 "nmi_pending", "nmi_blocked", "step_pending", "fp_status", "fp_top",
                 "kernel_gs_base", "task_switch", "debugctl", "pkru",
                 "pmc_control", "pmc_global", "smi_pending", "smm",
                 "star", "lstar", "cstar",
                 "fmask", "sysenter_cs", "sysenter_esp", "sysenter_eip", "tsc_aux",
                 "intr_line"):  # fmt: skip
        put(name, 0)
    put("misc_enable", _MISC_FOPCODE if _keeps_opcodes(signature) else 0)
    put("smbase", 0x30000)
    put("fp_control", 0x40)
    for number in range(8):
        put("fp_tag", 0, number)
    put("mxcsr", 0x1F80)
    put("a20_mask", _ALL_ONES)


class StateTable:
    """A state without an engine: some other processor runs it."""

    def __init__(self, signature: int):
        self._signature = signature
        self.state = StateView(ENV, memoryview(bytearray(ENV.size)))
        self.regs = Registers(self.state)
        self.features: list[int] = []
        """The processor's feature words, for saved machines."""
        self.reset()

    def save(self, tsc: int) -> dict[str, Any]:
        """As saved machines keep a processor."""
        from pytcg_x86.core.saved import save_state

        return save_state(self.state, self.features, tsc)

    def restore(self, saved: dict[str, Any]) -> int:
        """Be as `save` found it, but for the TSC, which is returned; ValueError."""
        from pytcg_x86.core.saved import restore_state

        return restore_state(self.state, self.features, saved)

    def reset(self) -> None:
        """As `reset_state`."""
        reset_state(self.state, self.regs, self._signature)

    def set_segment(self, name: str, selector: int, base: int, limit: int, attributes: int) -> None:
        """As `set_segment`."""
        set_segment(self.state, name, selector, base, limit, attributes)


@cache
def reset_image(signature: int) -> bytes:
    """A whole state (struct ENV) as `reset_state` leaves it."""
    return bytes(StateTable(signature).state.view)
