"""`Registers` with all names typed, as items and as attributes: ``regs["rax"]``, ``regs.rax``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING

from pytcg.errors import RegisterError
from pytcg_x86.core.registers import SLOTS, StateView
from pytcg_x86.core.registers import Registers as StateRegisters

if TYPE_CHECKING:
    from pytcg_x86.core.cpu import X86Cpu

FLAG_BITS = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "tf": 8, "if_": 9, "df": 10, "of": 11,
             "nt": 14, "rf": 16, "vm": 17, "ac": 18, "vif": 19, "vip": 20, "id": 21}  # fmt: skip
"""EFLAGS bits by name; IF has an underscore, as Python's keyword is in the way."""

_PLAIN = ({f"r{n}{s}" for n in range(8, 16) for s in ("", "d", "w", "b")}
          | {n for n in SLOTS if SLOTS[n].offset < SLOTS["rax"].offset + 128
             and SLOTS[n].offset >= SLOTS["rax"].offset}
          | {f"{kind}{n}" for kind in ("xmm", "ymm") for n in range(16)}
          | {f"{kind}{n}" for kind in ("st", "mm") for n in range(8)}
          | {"fcw", "fsw", "ftw", "fp_control", "mxcsr", "cr2"})  # fmt: skip
"""Registers that nothing is derived from."""
_PC = ("rip", "eip", "ip")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr")


class Registers(StateRegisters):
    """All registers as ints, by item or attribute; RegisterError for what there is not.

    ``rax``…``r15``, their parts (``eax``, ``ax``, ``al``, ``ah``, ``r8d``, …), ``rip``,
    ``rflags`` and its bits (``cf``, ``zf``, …, ``if_``, ``iopl``), segments (``cs``, and
    ``cs.base``, ``cs.limit``, ``cs.attr``; as attributes ``cs_base``, …), ``gdtr.base``,
    ``cr0``…``cr4``, ``cr8``, ``dr0``…``dr7``, MSRs by their names and by number in `msr`,
    ``xmm0``, ``ymm0``, ``mm0``, ``st0`` (80 bits), ``fcw``, ``fsw``, ``ftw``, ``mxcsr``.
    """

    rax: int; rbx: int; rcx: int; rdx: int; rsi: int; rdi: int; rbp: int; rsp: int  # noqa: E702
    r8: int; r9: int; r10: int; r11: int; r12: int; r13: int; r14: int; r15: int  # noqa: E702
    eax: int; ebx: int; ecx: int; edx: int; esi: int; edi: int; ebp: int; esp: int  # noqa: E702
    ax: int; bx: int; cx: int; dx: int; si: int; di: int; bp: int; sp: int  # noqa: E702
    al: int; bl: int; cl: int; dl: int; ah: int; bh: int; ch: int; dh: int  # noqa: E702
    rip: int; eip: int; ip: int; rflags: int; eflags: int; flags: int; cpl: int  # noqa: E702
    cf: int; pf: int; af: int; zf: int; sf: int; tf: int; if_: int; df: int; of: int  # noqa: E702
    es: int; cs: int; ss: int; ds: int; fs: int; gs: int; ldtr: int; tr: int  # noqa: E702
    cs_base: int; ss_base: int; ds_base: int; es_base: int; fs_base: int; gs_base: int  # noqa: E702
    gdtr_base: int; gdtr_limit: int; idtr_base: int; idtr_limit: int  # noqa: E702
    cr0: int; cr2: int; cr3: int; cr4: int; cr8: int; xcr0: int; efer: int  # noqa: E702
    dr0: int; dr1: int; dr2: int; dr3: int; dr6: int; dr7: int  # noqa: E702
    xmm0: int; xmm1: int; xmm2: int; xmm3: int; xmm4: int; xmm5: int; xmm6: int; xmm7: int  # noqa: E702
    ymm0: int; ymm1: int; ymm2: int; ymm3: int; ymm4: int; ymm5: int; ymm6: int; ymm7: int  # noqa: E702
    st0: int; st1: int; st2: int; st3: int; st4: int; st5: int; st6: int; st7: int  # noqa: E702
    mm0: int; mm1: int; mm2: int; mm3: int; mm4: int; mm5: int; mm6: int; mm7: int  # noqa: E702
    fcw: int; fsw: int; ftw: int; mxcsr: int; iopl: int  # noqa: E702

    _settle: Callable[[], None]
    _jumped: Callable[[int], None]
    msr: Msrs

    def __init__(self, cpu: X86Cpu, settle: Callable[[], None], jumped: Callable[[int], None]):
        set_ = object.__setattr__
        set_(self, "_state", cpu.state)
        set_(self, "_settle", settle)
        set_(self, "_jumped", jumped)
        set_(self, "msr", Msrs(cpu, settle))

    # Items -------------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> int:
        slot = SLOTS.get(name)
        if slot is not None:
            at = slot.offset
            return int.from_bytes(self._state.view[at : at + slot.size], "little")
        return self._other(_dotted(name))

    def _other(self, name: str) -> int:
        if name in FLAG_BITS:
            return self._flags() >> FLAG_BITS[name] & 1
        if name == "iopl":
            return self._flags() >> 12 & 3
        if name == "cr8":
            return 0
        try:
            return super().__getitem__(name)
        except KeyError:
            raise RegisterError(f"no register {name!r}") from None

    def set_physical(self, number: int, mantissa: int, exponent: int) -> None:
        """What `physical` gets; the tag stays."""
        self._state.set("fp_register", mantissa, 2 * number)
        self._state.set("fp_register", exponent, 2 * number + 1)

    def __setitem__(self, name: str, value: int) -> None:
        if name in _PC:
            before = self["rip"]
            self._set_slot(name, value)
            if self["rip"] != before:
                self._jumped(self["rip"])
            return
        if name not in _PLAIN:
            name = _dotted(name)
            self._settle()
        if name in FLAG_BITS or name == "iopl":
            at, mask = (12, 3) if name == "iopl" else (FLAG_BITS[name], 1)
            self._set_flags(self._flags() & ~(mask << at) | (int(value) & mask) << at)
        elif name == "cr8":
            self._fits(name, value, 4)
        else:
            self._set_slot(name, value)

    def _set_slot(self, name: str, value: int) -> None:
        try:
            super().__setitem__(name, value)
        except KeyError:
            raise RegisterError(f"no register {name!r}") from None
        except (ValueError, OverflowError) as error:
            raise RegisterError(str(error)) from None
        except TypeError:
            raise RegisterError(f"{name} is a whole number, not {value!r}") from None

    @staticmethod
    def _fits(name: str, value: int, bits: int) -> None:
        if not -(1 << (bits - 1)) <= value < 1 << bits:
            raise RegisterError(f"{value:#x} does not fit {name}")

    # Attributes --------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> int:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except RegisterError as error:
            raise AttributeError(str(error)) from None

    def __setattr__(self, name: str, value: int) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return sorted({*(name.replace(".", "_") for name in self), "msr", "read", "write"})

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from FLAG_BITS
        yield from ("iopl", "cr8")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in
                 range(8, 16)), "rip", "rflags")  # fmt: skip
        return "<" + " ".join(f"{name}={self[name]:#x}" for name in names) + ">"

    # Batches -----------------------------------------------------------------------------------

    def read(self, names: Iterable[str]) -> tuple[int, ...]:
        """Several registers at once."""
        return tuple(self[name] for name in names)

    def write(self, values: MutableMapping[str, int] | Iterable[tuple[str, int]]) -> None:
        """Several registers at once; all names are looked up before any is changed."""
        pairs = list(values.items() if isinstance(values, MutableMapping) else values)
        for name, _ in pairs:
            self[name]
        for name, value in pairs:
            self[name] = value


class Msrs:
    """Model-specific registers by number: ``regs.msr[0xC0000080]``."""

    def __init__(self, cpu: X86Cpu, settle: Callable[[], None]):
        self._cpu = cpu
        self._settle = settle

    def __getitem__(self, index: int) -> int:
        """RegisterError where RDMSR would fault."""
        value = self._attempt(index, "read_msr", index)
        return value & (1 << 64) - 1

    def __setitem__(self, index: int, value: int) -> None:
        """RegisterError where WRMSR would fault."""
        self._settle()
        self._attempt(index, "write_msr", index, value & (1 << 64) - 1)

    def _attempt(self, index: int, name: str, *args: int) -> int:
        if not 0 <= index < 1 << 32:
            raise RegisterError(f"no MSR {index:#x}")
        state: StateView = self._cpu.state
        value = self._cpu.engine.call(name, self._cpu.address, *args)
        if state.get("exception_pending"):
            state.set("exception_pending", 0)
            raise RegisterError(f"no MSR {index:#x}, or not with that value")
        return value


def _dotted(name: str) -> str:
    """``cs_base`` is ``cs.base``, as an attribute has no dot."""
    if name in SLOTS or "_" not in name:
        return name
    segment, _, part = name.partition("_")
    if segment in (*_SEGMENTS, "gdtr", "idtr") and part in ("base", "limit", "attr"):
        return f"{segment}.{part}"
    return name


