"""Registers by name, for people: ``regs["rax"]``, ``regs["cs.base"]``, ``regs["xmm0"]``."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from pytcg.ir.layout import Struct
from pytcg_x86.core.state import ENV, Cr0, Flag

_GPR = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")
_ARITHMETIC = int(Flag.ARITHMETIC)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a name lives: byte offset and size in the state; 32-bit names clear the upper half."""

    offset: int
    size: int
    clears: bool = False


def _general() -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    for number, name in enumerate(_GPR):
        at = ENV.place("gpr", number)
        slots |= {f"r{name}": Slot(at, 8), f"e{name}": Slot(at, 4, True), name: Slot(at, 2)}
        low = name[0] + "l" if number < 4 else name + "l"
        slots[low] = Slot(at, 1)
        if number < 4:
            slots[name[0] + "h"] = Slot(at + 1, 1)
    for number in range(8, 16):
        at = ENV.place("gpr", number)
        for suffix, size in (("", 8), ("d", 4), ("w", 2), ("b", 1)):
            slots[f"r{number}{suffix}"] = Slot(at, size, suffix == "d")
    return slots


def _system() -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    for number, name in enumerate(_SEGMENTS):
        for suffix, field in (("", "seg_sel"), (".base", "seg_base"), (".limit", "seg_limit"),
                              (".attr", "seg_attr")):  # fmt: skip
            slots[name + suffix] = Slot(ENV.place(field, number), ENV.fields[field].type.size)
    for name in ("gdtr", "idtr"):
        slots[f"{name}.base"] = Slot(ENV.place(f"{name}_base"), 8)
        slots[f"{name}.limit"] = Slot(ENV.place(f"{name}_limit"), 4)
    for number in range(8):
        slots[f"dr{number}"] = Slot(ENV.place("dr", number), 8)
    for field in ("cr0", "cr2", "cr3", "cr4", "efer", "star", "lstar", "cstar", "fmask",
                  "kernel_gs_base", "sysenter_cs", "sysenter_esp", "sysenter_eip", "pat", "xcr0",
                  "tsc_aux", "mxcsr", "fp_control"):  # fmt: skip
        slots[field] = Slot(ENV.place(field), ENV.fields[field].type.size)
    for number in range(16):
        slots[f"xmm{number}"] = Slot(ENV.place("xmm", number), 16)
    slots |= {"rip": Slot(ENV.place("rip"), 8), "eip": Slot(ENV.place("rip"), 4, True),
              "ip": Slot(ENV.place("rip"), 2, True), "fcw": slots["fp_control"]}  # fmt: skip
    return slots


SLOTS = {**_general(), **_system()}
_YMM = {f"ymm{n}": n for n in range(16)}
COMPUTED = ("rflags", "eflags", "flags", "cpl", "fsw", "ftw", *_YMM,
             *(f"st{n}" for n in range(8)), *(f"mm{n}" for n in range(8)))  # fmt: skip
_XMM_BITS = 128
_LOW = (1 << _XMM_BITS) - 1


class StateView:
    """Fields of a struct in a buffer."""

    def __init__(self, layout: Struct, view: memoryview):
        self.layout = layout
        self.view = view

    def get(self, name: str, index: int = 0) -> int:
        """A field's value, signed if its type is."""
        field = self.layout.fields[name]
        kind = field.type
        at = field.offset - self.layout.origin + index * kind.size  # bench.library: made often
        return int.from_bytes(self.view[at : at + kind.size], "little", signed=kind.signed)

    def set(self, name: str, value: int, index: int = 0) -> None:
        """Store a field, cut to its width."""
        field = self.layout.fields[name]
        size = field.type.size
        at = field.offset - self.layout.origin + index * size
        self.view[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def put(self, offset: int, size: int, value: int) -> None:
        value &= (1 << (8 * size)) - 1
        self.view[offset : offset + size] = value.to_bytes(size, "little")


class Registers(MutableMapping[str, int]):
    """All registers as ints. Unknown names are KeyErrors; too large values ValueErrors.

    In real mode a selector brings its base with it; in protected and long mode it stands alone
    (set ``cs.base``, ``cs.limit`` and ``cs.attr`` too, or let the guest load its own descriptors).
    """

    def __init__(self, state: StateView):
        self._state = state

    def __getitem__(self, name: str) -> int:
        slot = SLOTS.get(name)
        if slot is not None:
            return int.from_bytes(self._state.view[slot.offset : slot.offset + slot.size], "little")
        if name in ("rflags", "eflags", "flags"):
            return self._flags()
        if name == "cpl":
            return self._state.get("cpl")
        if name == "fsw":
            return (self._state.get("fp_status") & ~0x3800) | self._state.get("fp_top") << 11
        if name == "ftw":
            return sum(self._tag(n) << 2 * n for n in range(8))
        if name in _YMM:
            number = _YMM[name]
            high = self._state.get("ymm_high", number)
            return high << _XMM_BITS | self._state.get("xmm", number)
        if name in COMPUTED:
            return self._float(name)
        raise KeyError(f"no register {name!r}")

    def __setitem__(self, name: str, value: int) -> None:
        slot = SLOTS.get(name)
        if slot is not None:
            if not -(1 << (8 * slot.size - 1)) <= value < 1 << (8 * slot.size):
                raise ValueError(f"{value:#x} does not fit {name}")
            size = 8 if slot.clears else slot.size
            self._state.put(slot.offset, size, value & ((1 << (8 * slot.size)) - 1))
            if name in _SEGMENTS[:6] and not self._state.get("cr0") & Cr0.PE:
                self._state.set("seg_base", (value & 0xFFFF) << 4, _SEGMENTS.index(name))
        elif name in ("rflags", "eflags", "flags"):
            self._set_flags(value)
        elif name == "cpl":
            self._state.set("cpl", value)
        elif name == "fsw":
            self._state.set("fp_status", value & ~0x3800)
            self._state.set("fp_top", value >> 11 & 7)
        elif name == "ftw":
            for number in range(8):
                self._state.set("fp_tag", int(value >> 2 * number & 3 == 3), number)
        elif name in _YMM:
            if not -(1 << 255) <= value < 1 << 256:
                raise ValueError(f"{value:#x} does not fit {name}")
            self._state.set("xmm", value & _LOW, _YMM[name])
            self._state.set("ymm_high", value >> _XMM_BITS & _LOW, _YMM[name])
        elif name in COMPUTED:
            self._set_float(name, value)
        else:
            raise KeyError(f"no register {name!r}")

    def __delitem__(self, name: str) -> None:
        raise TypeError("registers can't be removed")

    def __iter__(self) -> Iterator[str]:
        yield from SLOTS
        yield from COMPUTED

    def __len__(self) -> int:
        return len(SLOTS) + len(COMPUTED)

    # The flags' slots (pytcg_x86.state) ----------------------------------------------------------

    def _flags(self) -> int:
        get = self._state.get
        sign = get("flag_s")
        value = get("eflags") & ~_ARITHMETIC | Flag.FIXED
        value |= Flag.CF * get("flag_c") | Flag.OF * get("flag_o")
        value |= Flag.ZF * (get("flag_z") == 0) | Flag.SF * (sign >> 63)
        value |= Flag.PF * ((sign & 0xFF).bit_count() % 2 == 0)
        return int(value | ((get("flag_x") ^ sign) & Flag.AF))

    def _set_flags(self, value: int) -> None:
        put = self._state.set
        put("eflags", value & ~_ARITHMETIC | Flag.FIXED)
        even = bool(value & Flag.PF)
        put("flag_z", int(not value & Flag.ZF))
        put("flag_s", (1 << 63 if value & Flag.SF else 0) | int(not even))
        put("flag_c", int(bool(value & Flag.CF)))
        put("flag_o", int(bool(value & Flag.OF)))
        put("flag_x", (value & Flag.AF) ^ int(not even))

    # x87: stN counts from the top of the stack, mmN is a physical register's mantissa ----------

    def physical(self, number: int) -> tuple[int, int]:
        """An x87 register by its physical number: significand, sign and exponent."""
        get = self._state.get
        return get("fp_register", 2 * number), get("fp_register", 2 * number + 1) & 0xFFFF

    def _tag(self, number: int) -> int:
        """A physical x87 register's tag (SDM vol. 1, 8.1.7): valid, zero, special, empty."""
        if self._state.get("fp_tag", number):
            return 3
        mantissa, exponent = self.physical(number)
        exponent &= 0x7FFF
        if exponent == 0 and mantissa == 0:
            return 1
        return 0 if mantissa >> 63 and exponent not in (0, 0x7FFF) else 2

    def _float(self, name: str) -> int:
        number = int(name[2:])
        if name.startswith("mm"):
            return self._state.get("fp_register", 2 * number)
        physical = (self._state.get("fp_top") + number) & 7
        mantissa = self._state.get("fp_register", 2 * physical)
        return self._state.get("fp_register", 2 * physical + 1) << 64 | mantissa

    def _set_float(self, name: str, value: int) -> None:
        number = int(name[2:])
        physical = number if name.startswith("mm") else (self._state.get("fp_top") + number) & 7
        exponent = 0xFFFF if name.startswith("mm") else value >> 64 & 0xFFFF
        self._state.set("fp_register", value & (1 << 64) - 1, 2 * physical)
        self._state.set("fp_register", exponent, 2 * physical + 1)
        self._state.set("fp_tag", 0, physical)
