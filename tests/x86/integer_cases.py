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

from pytcg_x86 import table
from pytcg_x86.table import Row

FAMILIES = ("arith", "logic", "shift", "muldiv", "move", "bits", "bcd", "stack", "string", "misc")
LETTERS = {"C": 1, "P": 4, "A": 0x10, "Z": 0x40, "S": 0x80, "O": 0x800}
ARITHMETIC = sum(LETTERS.values())
DF = 0x400
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
_SHIFTS = {"ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAR", "SHLD", "SHRD"}
_STRINGS = {"MOVS", "CMPS", "STOS", "LODS", "SCAS"}
_BITS = {"BT", "BTS", "BTR", "BTC"}
EXCLUDED = {
    "UD0": "always #UD: test_integer_faults", "UD1": "the same", "UD2": "the same",
    "INS": "needs a port: test_integer_string", "OUTS": "the same",
}  # fmt: skip

# Single-stepping, alignment checks and nested tasks are no business of one instruction.
_POPF_BITS = ARITHMETIC | DF


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a mode's cases have their code, data and stack."""

    mode: int
    code: int
    data: int
    size: int
    stack: int


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
    modules = {importlib.import_module(f"pytcg_x86.{name}").__name__ for name in FAMILIES}
    mnemonics = {name for name, lowering in table.LOWERINGS.items()
                 if lowering.function.__module__ in modules} - set(EXCLUDED)  # fmt: skip
    return [row for row in table.ROWS if row.mnemonic in mnemonics]


def _undefined() -> dict[str, str]:
    merged: dict[str, str] = {}
    for name in FAMILIES:
        merged |= importlib.import_module(f"pytcg_x86.{name}").UNDEFINED
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
    shapes = [memory for memory, kinds in ((False, "E"), (True, "EM"))
              if set(_kinds(row)) & set(kinds)] or [False]  # fmt: skip
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


def _kinds(row: Row) -> str:
    return "".join(code[0] for code in row.operands)


def interesting(rng: random.Random, bits: int) -> int:
    """A value that is often near a boundary."""
    top = 1 << (bits - 1)
    special = (0, 1, 2, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2, 0x0F, 0x99, 0x9A)
    if rng.random() < 0.4:
        return rng.choice(special) & (2 * top - 1)
    return rng.getrandbits(rng.choice((bits, bits, 8)))


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


class Maker:
    """Makes one case of a row's variant."""

    def __init__(self, rng: random.Random, row: Row, layout: Layout, size: int, *,
                 memory: bool, rep: str):  # fmt: skip
        self.rng, self.row, self.layout = rng, row, layout
        self.size, self.memory, self.rep = size, memory, rep
        self.mode = layout.mode
        self.width = max(self.mode, 32)
        self.regs = [interesting(rng, self.width) for _ in range(16)]
        self.regs[RSP] = layout.stack + rng.randrange(-64, 64)
        self.data = bytearray(rng.randbytes(layout.size))
        self.flags = 0x202 | (rng.getrandbits(12) & (ARITHMETIC | DF))
        self.rex = 0x48 if size == 64 and "d64" not in row.attrs else 0
        self.address_bits = self._address_bits()
        self.target = 0
        self.rm = -1
        # A register that no address is made of: it has to hold a count or a bit's index.
        self.avoid = RCX if "CL" in row.operands else -1
        self.pinned: set[int] = set()  # registers that the memory operand's address is made of

    def _address_bits(self) -> int:
        return self.mode if self.rng.random() < 0.75 else {64: 32, 32: 16, 16: 32}[self.mode]

    # Encoding ----------------------------------------------------------------------------------

    def make(self) -> Case:
        opcode = bytearray(self.row.opcode)
        if self.mode == 64 and self.rng.random() < 0.5:
            self.rex |= 0x40
        number = self._register()
        if self.row.plus:
            if opcode[0] == 0x90 and number == 0:
                number = 1
            opcode[-1] |= number & 7
            self._extend(number, 1)
        tail = self._modrm() + self._immediates()
        code = self._prefixes() + self._rex_byte() + bytes(opcode) + tail
        self._prepare()
        regs = [value & ((1 << self.width) - 1) for value in self.regs]
        if self.mode != 64:
            regs[8:] = [0] * 8
        faults = self.row.mnemonic in ("DIV", "IDIV") and not self._divides(regs)
        return Case(self.row, self.layout, code, regs, self.flags, bytes(self.data),
                    self._undefined_flags(tail), faults)  # fmt: skip

    def _register(self) -> int:
        return self.rng.randrange(16 if self.mode == 64 else 8)

    def _extend(self, number: int, bit: int) -> None:
        if number >= 8:
            self.rex |= 0x40 | bit

    def _rex_byte(self) -> bytes:
        return bytes([self.rex]) if self.rex else b""

    def _bits(self) -> int:
        """Width of the first operand."""
        return 8 if any(code[-1] == "b" for code in self.row.operands[:1]) else self.size

    def _prefixes(self) -> bytes:
        prefixes = []
        default = 16 if self.mode == 16 else 32
        narrow = self.size != default and self.size != 64
        if narrow or self.row.prefix == "66":
            prefixes.append(0x66)
        if self.address_bits != self.mode:
            prefixes.append(0x67)
        mandatory = {"f3": 0xF3, "f2": 0xF2}.get(self.row.prefix or "")
        repeat = {"rep": 0xF3, "repne": 0xF2}.get(self.rep)
        return bytes([*prefixes, *(p for p in (mandatory, repeat) if p)])

    def _modrm(self) -> bytes:
        row = self.row
        if row.reg is None and row.mod is None and not set(_kinds(row)) & set("EGM"):
            return b""
        reg = row.reg if row.reg is not None else self._register()
        if row.reg is None:
            if self.memory and row.mnemonic in _BITS and self.size != 16:
                reg = self._bit_index(reg)
            self._extend(reg, 4)
        if not self.memory:
            self.rm = self._register()
            self._extend(self.rm, 1)
            return bytes([0xC0 | (reg & 7) << 3 | (self.rm & 7)])
        return self._memory_operand(reg & 7)

    def _memory_operand(self, reg: int) -> bytes:
        self.target = self._place()
        if self.address_bits == 16:
            return self._memory16(reg)
        form = self.rng.choice(("base8", "base32", "sib", "absolute"))
        if form == "absolute":
            return self._absolute(reg)
        base = self._register()
        while base == self.avoid:
            base = self._register()
        self._extend(base, 1)
        if form == "sib":
            return self._sib(reg, base)
        disp = self.rng.randrange(-128, 128)
        if base == RSP:
            disp = self.target - self.regs[RSP]
            return bytes([0x84 | reg << 3, 0x24]) + disp.to_bytes(4, "little", signed=True)
        self._point(base, self.target - disp)
        tail = b"\x24" if base & 7 == RSP else b""
        if form == "base8":
            return (bytes([0x40 | reg << 3 | (base & 7)]) + tail
                    + disp.to_bytes(1, "little", signed=True))  # fmt: skip
        return (bytes([0x80 | reg << 3 | (base & 7)]) + tail
                + disp.to_bytes(4, "little", signed=True))  # fmt: skip

    def _absolute(self, reg: int) -> bytes:
        sib = b"\x25" if self.mode == 64 else b""
        rm = 4 if sib else 5
        return bytes([reg << 3 | rm]) + sib + self.target.to_bytes(4, "little")

    def _sib(self, reg: int, base: int) -> bytes:
        index, scale = self._register(), self.rng.randrange(4)
        while index in (RSP, base, self.avoid):
            index = self._register()
        self._extend(index, 2)
        disp = self.rng.randrange(-0x8000, 0x8000)
        if base == RSP:
            disp = 0
            scale = 0
            self._point(index, self.target - self.regs[RSP])
        else:
            self.pinned.add(index)
            self.regs[index] = self.rng.getrandbits(self.width)
            self._point(base, self.target - disp - (self.regs[index] << scale))
        return bytes([0x84 | reg << 3, scale << 6 | (index & 7) << 3 | (base & 7)]) + (
            disp.to_bytes(4, "little", signed=True)
        )

    def _memory16(self, reg: int) -> bytes:
        pairs = [(RBX, RSI), (RBX, RDI), (RBP, RSI), (RBP, RDI), (RSI,), (RDI,), (RBP,), (RBX,)]
        rm = self.rng.choice([n for n, pair in enumerate(pairs) if self.avoid not in pair])
        disp = self.rng.randrange(-0x1000, 0x1000)
        base, *index = pairs[rm]
        self.pinned.update(index)
        self._point(base, self.target - disp - sum(self.regs[n] for n in index))
        return bytes([0x80 | reg << 3 | rm]) + (disp & 0xFFFF).to_bytes(2, "little")

    def _point(self, number: int, value: int) -> None:
        """Set an address register; what is above the address size is noise."""
        self.pinned.add(number)
        low = value & ((1 << self.address_bits) - 1)
        noise = self.rng.getrandbits(self.width) if self.address_bits < self.width else 0
        self.regs[number] = (noise >> self.address_bits << self.address_bits) | low

    def _place(self) -> int:
        """A data address with room around it."""
        spot = self.layout.data + self.rng.randrange(0x1400, self.layout.size - 0x1400)
        return spot & ~15 if self.row.mnemonic == "CMPXCHG8B" else spot

    def _immediates(self) -> bytes:
        parts = b""
        for code in self.row.operands:
            if code[0] == "I":
                size = {"b": 1, "s": 1, "w": 2}.get(code[1])
                if size is None:
                    size = self.size // 8 if code[1] == "v" else min(self.size, 32) // 8
                parts += self._immediate_value(8 * size).to_bytes(size, "little")
            elif code[0] == "O":
                size = self.address_bits // 8
                self.target = self._place()
                parts += self.target.to_bytes(size, "little")
        return parts

    def _immediate_value(self, bits: int) -> int:
        if self.row.mnemonic == "ENTER":
            return self.rng.randrange(0x100) if bits == 16 else self.rng.choice((0, 1, 2, 5, 33))
        if self.row.mnemonic in _SHIFTS:
            return self._count()
        value = interesting(self.rng, bits)
        return value or 10 if self.row.mnemonic == "AAM" else value

    def _count(self) -> int:
        if self.size == 16 and self.row.mnemonic in ("SHLD", "SHRD"):
            return self.rng.randrange(17)  # beyond, processors of different makers differ
        return self.rng.choice((0, 1, 1, self._bits(), self.rng.randrange(256)))

    # What single instructions need -------------------------------------------------------------

    def _prepare(self) -> None:
        name = self.row.mnemonic
        if name in _STRINGS:
            self._prepare_string()
        elif name in _SHIFTS:
            self.regs[RCX] = (self.regs[RCX] & ~0xFF) | self._count()
        elif name == "BOUND":
            self._prepare_bounds()
        elif name in ("DIV", "IDIV") and self.rng.random() < 0.7:
            self._prepare_dividend()
        elif name == "XLAT":
            self._point(RBX, self._place())
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
            self._point(number, self._place())
        if self.rng.random() < 0.5:  # overlap
            self._point(RDI, self.regs[RSI] + self.rng.randrange(-20, 21))
        self._point(RCX, self.rng.choice((0, 1, 2, 7, self.rng.randrange(130))))
        if self.rng.random() < 0.5:  # runs of equal elements
            middle = self.layout.size // 2
            self.data[:] = bytes([self.regs[RAX] & 0xFF]) * middle + self.data[middle:]

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
        if self._bits() == 8:
            self.regs[RAX] = self.rng.randrange(0x200)
            return
        negative = self.regs[RAX] >> (self.size - 1) & 1 and self.row.mnemonic == "IDIV"
        self.regs[RDX] = -1 if negative else self.rng.randrange(2)

    def _prepare_exchange(self) -> None:
        """Memory (or the register) that equals the accumulator."""
        size = self._bits() // 8
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
        bits = self._bits()
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
        bits = self._bits()
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
