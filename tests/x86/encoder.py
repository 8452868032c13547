"""Encodes an instruction of a table row with random registers, addresses and prefixes."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pytcg_x86.decode.table import Row

ARITHMETIC = 0x8D5
DF = 0x400
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a mode's cases have their code, data and stack."""

    mode: int
    code: int
    data: int
    size: int
    stack: int


def kinds(row: Row) -> str:
    """The operands' kinds, a letter each."""
    return "".join(code[0] for code in row.operands)


def interesting(rng: random.Random, bits: int) -> int:
    """A value that is often near a boundary."""
    top = 1 << (bits - 1)
    special = (0, 1, 2, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2, 0x0F, 0x99, 0x9A)
    if rng.random() < 0.4:
        return rng.choice(special) & (2 * top - 1)
    return rng.getrandbits(rng.choice((bits, bits, 8)))


class Encoder:
    """One instruction: a row, an operand size, memory or register operand, a REP prefix.

    Memory operands point into the layout's data; the registers in their addresses are set so.
    """

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

    def encode(self) -> tuple[bytes, bytes]:
        """The instruction, and what of it follows the opcode."""
        opcode = bytearray(self.row.opcode)
        if self.mode == 64 and self.rng.random() < 0.5:
            self.rex |= 0x40
        number = self._register()
        if self.row.plus:
            if opcode[0] == 0x90 and number == 0:
                number = 1  # that would be NOP
            opcode[-1] |= number & 7
            self._extend(number, 1)
        tail = self._modrm() + self._immediates()
        return self._prefixes() + self._rex_byte() + bytes(opcode) + tail, tail

    # Hooks -------------------------------------------------------------------------------------

    def immediate_value(self, bits: int) -> int:
        """An immediate operand."""
        return interesting(self.rng, bits)

    def choose_reg(self, reg: int) -> int:
        """The register of ModRM.reg beside a memory operand or another register."""
        return reg

    # Parts -------------------------------------------------------------------------------------

    def _register(self) -> int:
        return self.rng.randrange(16 if self.mode == 64 else 8)

    def _extend(self, number: int, bit: int) -> None:
        if number >= 8:
            self.rex |= 0x40 | bit

    def _rex_byte(self) -> bytes:
        return bytes([self.rex]) if self.rex else b""

    def bits(self) -> int:
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
        if row.reg is None and row.mod is None and not set(kinds(row)) & set("EGM"):
            return b""
        reg = row.reg if row.reg is not None else self._register()
        if row.reg is None:
            reg = self.choose_reg(reg)
            self._extend(reg, 4)
        if not self.memory:
            self.rm = self._register()
            self._extend(self.rm, 1)
            return bytes([0xC0 | (reg & 7) << 3 | (self.rm & 7)])
        return self._memory_operand(reg & 7)

    def _memory_operand(self, reg: int) -> bytes:
        self.target = self.place()
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
        self.point(base, self.target - disp)
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
            self.point(index, self.target - self.regs[RSP])
        else:
            self.pinned.add(index)
            self.regs[index] = self.rng.getrandbits(self.width)
            self.point(base, self.target - disp - (self.regs[index] << scale))
        return bytes([0x84 | reg << 3, scale << 6 | (index & 7) << 3 | (base & 7)]) + (
            disp.to_bytes(4, "little", signed=True)
        )

    def _memory16(self, reg: int) -> bytes:
        pairs = [(RBX, RSI), (RBX, RDI), (RBP, RSI), (RBP, RDI), (RSI,), (RDI,), (RBP,), (RBX,)]
        rm = self.rng.choice([n for n, pair in enumerate(pairs) if self.avoid not in pair])
        disp = self.rng.randrange(-0x1000, 0x1000)
        base, *index = pairs[rm]
        self.pinned.update(index)
        self.point(base, self.target - disp - sum(self.regs[n] for n in index))
        return bytes([0x80 | reg << 3 | rm]) + (disp & 0xFFFF).to_bytes(2, "little")

    def point(self, number: int, value: int) -> None:
        """Set an address register; what is above the address size is noise."""
        self.pinned.add(number)
        low = value & ((1 << self.address_bits) - 1)
        noise = self.rng.getrandbits(self.width) if self.address_bits < self.width else 0
        self.regs[number] = (noise >> self.address_bits << self.address_bits) | low

    def place(self) -> int:
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
                parts += self.immediate_value(8 * size).to_bytes(size, "little")
            elif code[0] == "O":
                size = self.address_bits // 8
                self.target = self.place()
                parts += self.target.to_bytes(size, "little")
        return parts
