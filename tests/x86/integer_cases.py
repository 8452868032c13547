"""Random single-instruction cases made from the rows of the instruction table.

A case is code, registers, flags and memory, so chosen that the instruction touches only the
scratch data of `hostcpu` (or its counterpart below 64 KiB for 16-bit addresses).
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from pytcg.fuzz import hostcpu
from pytcg_x86.decode import table
from pytcg_x86.decode.table import Row
from x86.encoder import (
    ARITHMETIC,
    DF,
    RAX,
    RBP,
    RBX,
    RCX,
    RDI,
    RDX,
    RSI,
    RSP,
    Encoder,
    Layout,
    interesting,
    kinds,
)

FAMILIES = ("arith", "logic", "shift", "muldiv", "move", "bits", "bcd", "stack", "string", "misc")
LETTERS = {"C": 1, "P": 4, "A": 0x10, "Z": 0x40, "S": 0x80, "O": 0x800}
_SHIFTS = {"ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAR", "SHLD", "SHRD"}
_STRINGS = {"MOVS", "CMPS", "STOS", "LODS", "SCAS"}
_BITS = {"BT", "BTS", "BTR", "BTC"}
EXCLUDED = {
    "UD0": "always #UD: test_integer_faults", "UD1": "the same", "UD2": "the same",
    "INS": "needs a port: test_integer_string", "OUTS": "the same",
}  # fmt: skip

# Single-stepping, alignment checks and nested tasks are no business of one instruction.
_POPF_BITS = ARITHMETIC | DF


@dataclass(slots=True)
class Case:
    """One instruction with everything it starts from."""

    row: Row
    layout: Layout
    code: bytes
    regs: list[int]
    flags: int
    data: bytes
    undefined: int  # flags that need not match
    faults: bool    # #DE

    def __str__(self) -> str:
        return f"{self.row} {self.code.hex()} ({self.layout.mode}-bit)"


@cache
def family_rows() -> list[Row]:
    """The rows of the integer families."""
    modules = {importlib.import_module(f"pytcg_x86.integer.{name}").__name__ for name in FAMILIES}
    mnemonics = {name for name, lowering in table.LOWERINGS.items()
                 if lowering.function.__module__ in modules} - set(EXCLUDED)  # fmt: skip
    return [row for row in table.ROWS if row.mnemonic in mnemonics and hostcpu.has_row(row)]


def _undefined() -> dict[str, str]:
    merged: dict[str, str] = {}
    for name in FAMILIES:
        merged |= importlib.import_module(f"pytcg_x86.integer.{name}").UNDEFINED
    return merged


_UNDEFINED = _undefined()


def variants(row: Row, mode: int) -> Iterator[tuple[int, bool, str]]:
    """Operand size, whether the ModRM operand is memory, and the REP prefix."""
    if ("o64" if mode != 64 else "i64") in row.attrs:
        return
    default = 16 if mode == 16 else 32
    sizes = _sizes(row, mode) if _sized(row) else (default,)
    if row.prefix == "66":
        sizes = (48 - default,)
    elif row.prefix == "np":
        sizes = tuple(size for size in sizes if size != 48 - default)
    shapes = [memory for memory, letters in ((False, "E"), (True, "EM"))
              if set(kinds(row)) & set(letters)] or [False]  # fmt: skip
    for size in sizes:
        for memory in shapes:
            for rep in ("", "rep", "repne") if "rep" in row.attrs else ("",):
                yield size, memory, rep


def _sized(row: Row) -> bool:
    """Whether the operand size matters."""
    if "nosize" in row.attrs:
        return False
    letters = any(code[-1] in "vzy" or code == "rAX" for code in row.operands)
    return letters or not row.operands or "d64" in row.attrs


def _sizes(row: Row, mode: int) -> tuple[int, ...]:
    if mode != 64:
        return (16, 32)
    return (16, 64) if "d64" in row.attrs else (16, 32, 64)


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


class Maker(Encoder):
    """Makes one case of a row's variant."""

    def make(self) -> Case:
        code, tail = self.encode()
        self._prepare()
        regs = [value & ((1 << self.width) - 1) for value in self.regs]
        if self.mode != 64:
            regs[8:] = [0] * 8
        faults = self.row.mnemonic in ("DIV", "IDIV") and not self._divides(regs)
        return Case(self.row, self.layout, code, regs, self.flags, bytes(self.data),
                    self._undefined_flags(tail), faults)  # fmt: skip

    def immediate_value(self, bits: int) -> int:
        if self.row.mnemonic == "ENTER":
            return self.rng.randrange(0x100) if bits == 16 else self.rng.choice((0, 1, 2, 5, 33))
        if self.row.mnemonic in _SHIFTS:
            return self._count()
        value = interesting(self.rng, bits)
        return value or 10 if self.row.mnemonic == "AAM" else value

    def _count(self) -> int:
        if self.size == 16 and self.row.mnemonic in ("SHLD", "SHRD"):
            return self.rng.randrange(17)  # beyond, processors of different makers differ
        return self.rng.choice((0, 1, 1, self.bits(), self.rng.randrange(256)))

    # What single instructions need -------------------------------------------------------------

    def _prepare(self) -> None:
        name = self.row.mnemonic
        if name in _STRINGS:
            self._prepare_string()
        elif name in _SHIFTS and "CL" in self.row.operands:
            self.regs[RCX] = (self.regs[RCX] & ~0xFF) | self._count()
        elif name == "BOUND":
            self._prepare_bounds()
        elif name in ("DIV", "IDIV") and self.rng.random() < 0.7:
            self._prepare_dividend()
        elif name == "XLAT":
            self.point(RBX, self.place())
        elif name in ("ENTER", "LEAVE"):
            self.regs[RBP] = self.layout.data + self.rng.randrange(0x1400, 0x1800)
        elif name.startswith("CMPXCHG") and self.rng.random() < 0.6:
            self._prepare_exchange()
        elif name == "POPF":
            at = self.regs[RSP] - self.layout.data
            image = 0x202 | (self.rng.getrandbits(12) & _POPF_BITS)
            self.data[at : at + 8] = image.to_bytes(8, "little")

    def _prepare_string(self) -> None:
        for number in (RSI, RDI):
            self.point(number, self.place())
        if self.rng.random() < 0.5:  # overlap
            self.point(RDI, self.regs[RSI] + self.rng.randrange(-20, 21))
        # With ECX 0 makers differ: Intel's clear the upper halves of RCX, RSI and RDI, AMD's don't.
        none = 1 if self.mode == 64 and self.address_bits == 32 else 0
        self.point(RCX, self.rng.choice((none, 1, 2, 7, self.rng.randrange(none, 130))))
        if self.rng.random() < 0.5:  # runs of equal elements
            middle = self.layout.size // 2
            self.data[:] = bytes([self.regs[RAX] & 0xFF]) * middle + self.data[middle:]

    def choose_reg(self, reg: int) -> int:
        if not self.memory or self.row.mnemonic not in _BITS or self.size == 16:
            return reg
        return self._bit_index(reg)

    def _bit_index(self, reg: int) -> int:
        """A register with a bit index that stays near the memory operand."""
        self.avoid = RAX if reg == RSP else reg
        self.regs[self.avoid] = self.rng.randrange(-0x8000, 0x8000)
        return self.avoid

    def _prepare_bounds(self) -> None:
        """The widest bounds there are."""
        size = self.size // 8
        bounds = (1 << (self.size - 1)), (1 << (self.size - 1)) - 1
        at = self.target - self.layout.data
        self.data[at : at + 2 * size] = b"".join(b.to_bytes(size, "little") for b in bounds)

    def _prepare_dividend(self) -> None:
        """An upper half so small that the quotient often fits."""
        if {RAX, RDX} & (self.pinned | {self.rm}):
            return
        if self.bits() == 8:
            self.regs[RAX] = self.rng.randrange(0x200)
            return
        negative = self.regs[RAX] >> (self.size - 1) & 1 and self.row.mnemonic == "IDIV"
        self.regs[RDX] = -1 if negative else self.rng.randrange(2)

    def _prepare_exchange(self) -> None:
        """Memory (or the register) that equals the accumulator."""
        size = self.bits() // 8
        registers: tuple[int, ...] = (RAX,)
        if self.row.mnemonic == "CMPXCHG8B":
            size, registers = (8 if self.size == 64 else 4), (RAX, RDX)
        if not self.memory:
            if self.rm != RSP:
                self.regs[self.rm] = self.regs[RAX]
            return
        for position, number in enumerate(registers):
            at = self.target - self.layout.data + position * size
            value = self.regs[number] & ((1 << 8 * size) - 1)
            self.data[at : at + size] = value.to_bytes(size, "little")

    def _divides(self, regs: list[int]) -> bool:
        """Whether a division has a quotient that fits."""
        bits = self.bits()
        mask, signed = (1 << bits) - 1, self.row.mnemonic == "IDIV"
        if self.memory:
            at = self.target - self.layout.data
            divisor = int.from_bytes(self.data[at : at + bits // 8], "little")
        elif bits == 8 and not self.rex and self.rm >= 4:
            divisor = regs[self.rm - 4] >> 8 & mask
        else:
            divisor = regs[self.rm] & mask
        dividend = regs[RAX] & 0xFFFF
        if bits > 8:
            dividend = (regs[RDX] & mask) << bits | (regs[RAX] & mask)
        if signed:
            divisor, dividend = _signed(divisor, bits), _signed(dividend, 2 * bits)
        if divisor == 0:
            return False
        quotient = abs(dividend) // abs(divisor)
        if (dividend < 0) != (divisor < 0):
            quotient = -quotient
        return -(mask // 2) - 1 <= quotient <= mask // 2 if signed else quotient <= mask

    # Flags that need not match -----------------------------------------------------------------

    def _undefined_flags(self, tail: bytes) -> int:
        name = self.row.mnemonic
        letters = _UNDEFINED.get(name, "")
        if name in _SHIFTS:
            letters = self._undefined_by_count(letters, tail)
        return sum(LETTERS[letter] for letter in letters)

    def _undefined_by_count(self, letters: str, tail: bytes) -> str:
        if "1" in self.row.operands:
            count = 1
        else:
            count = self.regs[RCX] & 0xFF if "CL" in self.row.operands else tail[-1]
        bits = self.bits()
        count &= 63 if bits == 64 else 31
        if count == 0:
            return ""
        kept = letters if count > bits else letters.replace("C", "")
        return kept.replace("O", "") if count == 1 else kept


def cases(layout: Layout, mnemonic: str, *, seed: int, repeat: int) -> Iterator[Case]:
    """``repeat`` cases of every variant of every row of an instruction that the mode has."""
    for row in family_rows():
        if row.mnemonic != mnemonic:
            continue
        for size, memory, rep in variants(row, layout.mode):
            rng = random.Random(f"{seed} {row} {size} {memory} {rep}")
            for _ in range(repeat):
                yield Maker(rng, row, layout, size, memory=memory, rep=rep).make()
