"""A library's processor: where it keeps what, and what it begins with in each mode."""

from __future__ import annotations

from functools import cache

from pytcg_x86.core.reset import StateTable
from pytcg_x86.core.state import ENV

MODES = ("real", "protected", "long")
_DATA, _CODE = 0x93, 0x9B
_BIG, _LONG = 0xC000, 0xA000

PLACES = {name: ENV.place(name) for name in (
    "pc", "budget", "budget_soft", "hook_skip", "block_skip", "arena_floor", "arena_used",
    "code_floor", "code_used", "exit_reason", "fault_record", "hook_value", "retired")}  # fmt: skip
"""Bytes from the state's first to fields that are often needed."""
NEAR = slice(ENV.place("near"), ENV.place("near", ENV.fields["near"].count))
FAR = slice(ENV.place("seg_base"), ENV.place("host"))
"""Where the architecture's state lies, but for rIP."""


@cache
def mode_image(mode: str, *, stop_exceptions: bool, avx: bool, signature: int) -> bytes:
    """The state (struct ENV) of a processor in a mode; the last two are its model's."""
    table = StateTable(signature)
    put, regs = table.state.set, table.regs
    put("stop_exceptions", int(stop_exceptions))
    put("no_devices", 1)
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        rights = _CODE if name == "cs" else _DATA
        if mode == "real":
            table.set_segment(name, 0, 0, 0xFFFF, rights)
        else:
            size = _LONG if mode == "long" and name == "cs" else _BIG
            table.set_segment(name, 8 if name == "cs" else 16, 0, 0xFFFF_FFFF, rights | size)
    regs["rip"] = regs["rdx"] = 0  # RESET leaves the processor's signature in rDX
    regs["cr4"] = 0x600  # OSFXSR and OSXMMEXCPT: SSE works
    if avx:
        regs["cr4"], regs["xcr0"] = 0x4_0600, 7  # OSXSAVE: and so does AVX
    regs["cr0"] = 0x30 if mode == "real" else 0x31
    regs["efer"] = 0x500 if mode == "long" else 0
    regs["idtr.limit"] = 0x3FF if mode == "real" else 0
    regs["gdtr.limit"] = 0
    regs["fcw"] = 0x37F
    for number in range(8):
        put("fp_tag", 1, number)
    return bytes(table.state.view)
