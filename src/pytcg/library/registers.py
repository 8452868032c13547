"""`Registers` with all names typed, as items and as attributes: ``regs["rax"]``, ``regs.rax``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING

from pytcg.errors import RegisterError
from pytcg.library.checks import whole
from pytcg.library.register_names import RegisterNames
from pytcg_x86.core.registers import COMPUTED, SLOTS, StateView
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


ALL_NAMES = (*SLOTS, *COMPUTED, *FLAG_BITS, "iopl", "cr8")


def attribute_names() -> list[str]:
    """The names of all registers as attributes, in the table's order."""
    return [name.replace(".", "_") for name in ALL_NAMES]


class Registers(RegisterNames, StateRegisters):
    """All registers as ints, by item or attribute; RegisterError for what there is not.

    ``rax``…``r15``, their parts (``eax``, ``ax``, ``al``, ``ah``, ``r8d``, …), ``rip``,
    ``rflags`` and its bits (``cf``, ``zf``, …, ``if_``, ``iopl``), segments (``cs``, and
    ``cs.base``, ``cs.limit``, ``cs.attr``; as attributes ``cs_base``, …), ``gdtr.base``,
    ``cr0``…``cr4``, ``cr8``, ``dr0``…``dr7``, MSRs by their names and by number in `msr`,
    ``xmm0``, ``ymm0``, ``mm0``, ``st0`` (80 bits), ``fcw``, ``fsw``, ``ftw``, ``mxcsr``.
    """

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
        slot = SLOTS.get(name) if isinstance(name, str) else None
        if slot is not None:
            at = slot.offset
            return int.from_bytes(self._state.view[at : at + slot.size], "little")
        if not isinstance(name, str):
            raise RegisterError(f"no register {name!r}")
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
            self._set_flags(self._flags() & ~(mask << at) | (whole(value, name) & mask) << at)
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
        return sorted({*attribute_names(), "msr", "read", "write"})

    def __iter__(self) -> Iterator[str]:
        yield from ALL_NAMES

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in
                 range(8, 16)), "rip", "rflags")  # fmt: skip
        return "<" + " ".join(f"{name}={self[name]:#x}" for name in names) + ">"

    # Batches -----------------------------------------------------------------------------------

    def read(self, names: Iterable[str]) -> tuple[int, ...]:
        """Several registers at once."""
        if not isinstance(names, Iterable):
            raise RegisterError(f"registers' names are strings, not {names!r}")
        return tuple(self[name] for name in names)

    def write(self, values: MutableMapping[str, int] | Iterable[tuple[str, int]]) -> None:
        """Several registers at once; all names are looked up before any is changed."""
        try:
            pairs = [(name, value) for name, value in (
                values.items() if isinstance(values, MutableMapping) else values)]  # fmt: skip
        except (TypeError, ValueError):
            raise RegisterError(f"registers are pairs of name and value, not {values!r}") from None
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
        index = whole(index, "an MSR's number")
        value = self._attempt(index, "read_msr", index)
        return value & (1 << 64) - 1

    def __setitem__(self, index: int, value: int) -> None:
        """RegisterError where WRMSR would fault."""
        index, value = whole(index, "an MSR's number"), whole(value, "an MSR's value")
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


