"""Registers by Unicorn's numbers, in its shapes: tuples for descriptor tables and x87."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytcg.cpu import Cpu
from pytcg.errors import RegisterError, UnmappedError
from pytcg.library.registers import Registers
from pytcg.machine.descriptor import parse_descriptor
from pytcg.unicorn import x86_const
from pytcg.unicorn.error import UcError
from pytcg.unicorn.unicorn_const import UC_ERR_ARG, UC_ERR_EXCEPTION
from pytcg_x86.core.registers import SLOTS
from pytcg_x86.core.state import Attr

_ALL = (1 << 64) - 1
_RENAMED = {"FLAGS": "flags", "FPSW": "fsw", "FPCW": "fcw", "FPTAG": "ftw", "FS_BASE": "fs.base",
            "GS_BASE": "gs.base"}  # fmt: skip
_NOTHING = ("INVALID", "CR1", "DR4", "DR5", "ENDING")
_TABLES = ("IDTR", "GDTR", "LDTR", "TR")
_SEGMENTS = ("CS", "DS", "ES", "FS", "GS", "SS")
_FIELDS = {"FIP": "fp_ip", "FCS": "fp_cs", "FDP": "fp_dp", "FDS": "fp_ds", "FOP": "fp_opcode"}

Accessor = tuple[Callable[[Registers], Any], Callable[[Registers, Any], None]]


def _plain(name: str) -> Accessor:
    slot = SLOTS.get(name)
    size = slot.size if slot is not None else 8
    mask = (1 << 8 * size) - 1
    if slot is not None and slot.clears and name not in ("eip", "ip"):
        wide = next(n for n, s in SLOTS.items() if s.offset == slot.offset and s.size == 8)

        def write_half(regs: Registers, value: int) -> None:
            regs[wide] = regs[wide] & ~0xFFFF_FFFF | int(value) & 0xFFFF_FFFF

        return (lambda regs: regs[name]), write_half

    def write(regs: Registers, value: int) -> None:
        regs[name] = int(value) & mask

    return (lambda regs: regs[name]), write


def _instruction_pointer(name: str) -> Accessor:
    """Written in a hook it is where to go on, were it the same address: hooks are called again."""
    read, write_plain = _plain(name)

    def write(regs: Registers, value: int) -> None:
        write_plain(regs, value)
        regs._jumped(regs["rip"])

    return read, write


def _vector(name: str, bits: int) -> Accessor:
    mask = (1 << bits) - 1

    def write(regs: Registers, value: int) -> None:
        regs[name] = int(value) & mask

    return (lambda regs: regs[name]), write


def _table(name: str) -> Accessor:
    """(selector, base, limit, flags)."""
    low = name.lower()
    whole = low in ("ldtr", "tr")

    def read(regs: Registers) -> tuple[int, int, int, int]:
        if not whole:
            return 0, regs[f"{low}.base"], regs[f"{low}.limit"], 0
        return regs[low], regs[f"{low}.base"], regs[f"{low}.limit"], regs[f"{low}.attr"] << 8

    def write(regs: Registers, value: Sequence[int]) -> None:
        selector, base, limit, flags = value
        regs[f"{low}.base"], regs[f"{low}.limit"] = base & _ALL, limit & 0xFFFF_FFFF
        if whole:
            regs[low], regs[f"{low}.attr"] = selector & 0xFFFF, flags >> 8 & 0xF0FF

    return read, write


def _x87(number: int) -> Accessor:
    """A physical register as (mantissa, exponent)."""
    def read(regs: Registers) -> tuple[int, int]:
        return regs.physical(number)

    def write(regs: Registers, value: Sequence[int]) -> None:
        regs.set_physical(number, value[0] & _ALL, value[1] & 0xFFFF)

    return read, write


def _stack_top(name: str) -> Accessor:
    """ST0…ST7: Unicorn's binding has room for the mantissa only."""
    def write(regs: Registers, value: int) -> None:
        regs[name] = regs[name] & ~_ALL | int(value) & _ALL

    return (lambda regs: regs[name] & _ALL), write


def _field(name: str) -> Accessor:
    def write(regs: Registers, value: int) -> None:
        regs._state.set(name, int(value))

    return (lambda regs: regs._state.get(name)), write


def load_segment(cpu: Cpu, name: str, selector: int) -> None:
    """Load a segment register from the GDT or LDT as a far move does; UcError if it faults.

    Unicorn checks no limits, and scripts write wrong ones: the segment is as large as can be.
    """
    regs, state = cpu.regs, cpu.regs._state
    if not state.get("cr0") & 1 or (cpu.mode == "long" and name not in ("fs", "gs")):
        regs[name] = selector  # real mode; and 64-bit code's other segments are but numbers
        return
    if selector & 0xFFFC == 0:
        if name in ("cs", "ss") and not state.get("efer") & 0x400:
            raise UcError(UC_ERR_EXCEPTION)
        regs[name] = selector
        if not state.get("efer") & 0x400:
            regs[f"{name}.attr"] = 0
        return
    table = "ldtr" if selector & 4 else "gdtr"
    if (selector | 7) > regs[f"{table}.limit"]:
        raise UcError(UC_ERR_EXCEPTION)
    try:
        raw = cpu.read(regs[f"{table}.base"] + (selector & ~7), 8)
    except UnmappedError:
        raise UcError(UC_ERR_EXCEPTION) from None
    descriptor = int.from_bytes(raw, "little")
    if not descriptor >> 47 & 1 or not descriptor >> 44 & 1:
        raise UcError(UC_ERR_EXCEPTION)
    code, level = bool(descriptor >> 43 & 1), descriptor >> 45 & 3
    if (name == "cs" and not code) or (name == "ss" and (code or level != selector & 3)):
        raise UcError(UC_ERR_EXCEPTION)
    base, _, attributes = parse_descriptor(descriptor)
    regs[name] = selector
    regs[f"{name}.base"] = base
    regs[f"{name}.limit"] = 0xFFFF_FFFF
    attributes |= Attr.ACCESSED
    regs[f"{name}.attr"] = attributes if code else attributes & ~Attr.EXPAND_DOWN
    if name == "cs":
        regs["cpl"] = selector & 3


def _accessors() -> dict[int, Accessor]:
    found: dict[int, Accessor] = {}
    for constant, number in vars(x86_const).items():
        if not constant.startswith("UC_X86_REG_") or constant[11:] in _NOTHING:
            continue
        name = constant[11:]
        low = _RENAMED.get(name, name.lower())
        digits = name[-1].isdigit()
        if name in _TABLES:
            found[number] = _table(name)
        elif name in _FIELDS:
            found[number] = _field(_FIELDS[name])
        elif name.startswith("FP") and digits:
            found[number] = _x87(int(name[2:]))
        elif name.startswith("ST") and digits:
            found[number] = _stack_top(low)
        elif name[:3] in ("XMM", "YMM") and int(name[3:]) < 16:
            found[number] = _vector(low, 128 if name[0] == "X" else 256)
        elif low in ("rip", "eip", "ip"):
            found[number] = _instruction_pointer(low)
        elif name[:3] not in ("XMM", "YMM", "ZMM", "MSR") and name[:1] != "K":
            found[number] = _plain(low)
    return found


ACCESSORS = _accessors()
SEGMENTS = {getattr(x86_const, f"UC_X86_REG_{name}"): name.lower() for name in _SEGMENTS}
_MSR = x86_const.UC_X86_REG_MSR


def read(regs: Registers, number: int, aux: Any = None) -> Any:
    """`Uc.reg_read`; registers that are not there read as 0."""
    found = ACCESSORS.get(number)
    if found is not None:
        return found[0](regs)
    if number == _MSR:
        try:
            return regs.msr[int(aux or 0)]
        except RegisterError:
            return 0
    _check(number)
    return 0


def write(cpu: Cpu, number: int, value: Any) -> None:
    """`Uc.reg_write`."""
    found = ACCESSORS.get(number)
    try:
        if number in SEGMENTS:
            load_segment(cpu, SEGMENTS[number], int(value) & 0xFFFF)
        elif found is not None:
            found[1](cpu.regs, value)
        elif number == _MSR:
            cpu.regs.msr[int(value[0])] = int(value[1])
        else:
            _check(number)
    except RegisterError:
        if number != _MSR:
            raise UcError(UC_ERR_ARG) from None
    except (TypeError, ValueError, LookupError):
        raise UcError(UC_ERR_ARG) from None


def read_batch(regs: Registers, numbers: Iterable[int | tuple[int, Any]]) -> tuple[Any, ...]:
    """Several; a register with an argument (an MSR) is a pair."""
    return tuple(read(regs, *item) if isinstance(item, tuple) else read(regs, item)
                 for item in numbers)  # fmt: skip


def write_batch(cpu: Cpu, pairs: Iterable[tuple[int, Any]]) -> None:
    """Several."""
    for number, value in pairs:
        write(cpu, number, value)


def _check(number: int) -> None:
    if not isinstance(number, int):
        raise UcError(UC_ERR_ARG)
