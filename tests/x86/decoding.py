"""What the decoder makes of some bytes, and what capstone does, in one vocabulary.

Operands become tokens: ("gpr", number), ("high", number) for AH…BH, ("xmm", n) also of YMM,
("mmx", n), ("seg", n), ("cr", n), ("dr", n), ("imm", value), ("mem", base, index, scale, disp,
segment).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import capstone
from capstone import x86_const as cs

from pytcg import Cpu
from pytcg.exec.layout import RECORD
from pytcg_x86.core.form import context_of, row_of
from pytcg_x86.core.registers import StateView
from pytcg_x86.core.state import ENV
from pytcg_x86.decode.opcodes import Kind, operand_spec
from pytcg_x86.decode.table import Row

Token = tuple[object, ...]
MODES = {16: "real", 32: "protected", 64: "long"}
ADDRESS = 0x1000
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_NAMES = (("al", "ax", "eax", "rax"), ("cl", "cx", "ecx", "rcx"), ("dl", "dx", "edx", "rdx"),
          ("bl", "bx", "ebx", "rbx"), ("spl", "sp", "esp", "rsp"), ("bpl", "bp", "ebp", "rbp"),
          ("sil", "si", "esi", "rsi"), ("dil", "di", "edi", "rdi"),
          *((f"r{n}b", f"r{n}w", f"r{n}d", f"r{n}") for n in range(8, 16)))  # fmt: skip
REGISTERS: dict[str, Token] = {
    **{name: ("gpr", number) for number, names in enumerate(_NAMES) for name in names},
    **{name: ("high", number) for number, name in enumerate(("ah", "ch", "dh", "bh"))},
    **{name: ("seg", number) for number, name in enumerate(SEGMENTS)},
    **{f"{kind}{n}": (token, n) for n in range(16)
       for kind, token in (("xmm", "xmm"), ("ymm", "xmm"), ("mm", "mmx"), ("cr", "cr"),
                           ("dr", "dr"))},
    **{f"st({n})": ("mmx", n) for n in range(8)},
}  # fmt: skip
_SIZES = {"b": 8, "w": 16, "d": 32, "q": 64}


@dataclass(frozen=True, slots=True)
class Decoded:
    """An instruction: its length, its name, its explicit operands."""

    length: int
    name: str
    groups: frozenset[str]
    tokens: tuple[Token, ...]


class Decoder:
    """The native decoder of one engine, in one mode."""

    def __init__(self, bits: int, engine: str):
        self.bits = bits
        self._cpu = Cpu(MODES[bits], engine=engine)._cpu
        if bits == 16:
            self._cpu.state.set("cr4", 0x600)
        self._cpu.settle()
        arena = self._cpu.buffers["arena"]
        self._record = arena.address + arena.size - RECORD.size
        self._view = StateView(RECORD, arena.view[arena.size - RECORD.size :])

    def decode(self, code: bytes) -> Decoded | None:
        """The first instruction of 15 bytes; None if it is undefined or too long."""
        for number, byte in enumerate(code[:15]):
            self._cpu.state.set("fetch", byte, number)
        for field in ("base", "index", "shift", "segment", "disp", "imm"):
            self._view.set(field, 0)
        call = self._cpu.engine.call
        key = call("decode_insn", self._cpu.address, self._record, ADDRESS)
        row = row_of(key)
        if row.mnemonic in ("UD", "NM") or self._view.get("length") > 15:
            return None
        tokens = tuple(t for t in _Tokens(self._view, key, self.bits).all(row))
        return Decoded(self._view.get("length"), row.mnemonic, frozenset(), tokens)


class _Tokens:
    """Reads a record as the form of ``key`` would."""

    def __init__(self, record: StateView, key: int, bits: int):
        self.record, self.key, self.bits = record, key, bits
        self.cx = context_of(key)
        self.slots = self.immediates = 0

    def all(self, row: Row) -> list[Token]:
        found: list[Token] = []
        for code in row.operands:
            kind, size = operand_spec(code)
            if kind not in (Kind.FIXED, Kind.X, Kind.Y):
                found += self.operand(kind, size)
        return found

    def operand(self, kind: Kind, size: str) -> list[Token]:
        if kind in (Kind.I, Kind.J):
            return [self.immediate(kind, size)]
        if kind is Kind.A:
            value = self.record.get("imm")
            return [("imm", value >> 32 & 0xFFFF), ("imm", value & 0xFFFF_FFFF)]
        if kind in (Kind.M, Kind.O) or (kind in (Kind.E, Kind.W, Kind.Q) and self.cx.ea != "none"):
            return [self.memory(vector="vsib" in row_of(self.key).attrs)]
        if kind in (Kind.H, Kind.B, Kind.L):
            offset = self.record.get("imm") >> (48 if kind is Kind.L else 32) & 0xFFFF
            offset -= offset >> 15 << 16
            return [self.register(Kind.G if kind is Kind.B else Kind.V, offset)]
        offset = self.record.get("b" if self.slots else "a")
        self.slots += 1
        return [self.register(kind, offset)]

    def register(self, kind: Kind, offset: int) -> Token:
        if kind in (Kind.S, Kind.C, Kind.D):
            return {Kind.S: "seg", Kind.C: "cr", Kind.D: "dr"}[kind], offset
        if kind in (Kind.V, Kind.W, Kind.U):
            return "xmm", (offset - ENV.offset("xmm")) // 16
        if kind in (Kind.P, Kind.Q, Kind.N):
            return "mmx", (offset - ENV.offset("fp_register")) // 16
        number, high = divmod(offset - ENV.offset("gpr"), 8)
        return "high" if high else "gpr", number

    def immediate(self, kind: Kind, size: str) -> Token:
        value = self.record.get("imm")
        if kind is Kind.J:
            return "imm", value & ((1 << self.bits) - 1)
        if self.immediates:
            value >>= 32
        self.immediates += 1
        bits = _SIZES.get(size, self.cx.operand_size)
        return "imm", value & ((1 << bits) - 1)

    def memory(self, *, vector: bool) -> Token:
        record, cx = self.record, self.cx
        base = index = None
        scale = 1
        if cx.ea in ("base", "sib") and record.get("base") != ENV.offset("zero"):
            base = self.register(Kind.G, record.get("base"))[1]
        if cx.ea == "sib":
            index = self.register(Kind.G, record.get("index"))[1]
            scale = 1 << record.get("shift")
        if vector:
            index = self.register(Kind.V, record.get("index"))[1]
            scale = 1 << record.get("shift")
        disp = record.get("disp") & ((1 << cx.address_size) - 1)
        segment = record.get("segment")
        if self.bits == 64 and segment < 4:
            segment = 3
        return "mem", base, index, scale, disp, SEGMENTS[segment]


@functools.cache
def _engine(bits: int) -> capstone.Cs:
    mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
    engine = capstone.Cs(capstone.CS_ARCH_X86, mode)
    engine.detail = True
    return engine


def by_capstone(code: bytes, bits: int) -> Decoded | None:
    """The same of capstone; None if it knows no such instruction."""
    for insn in _engine(bits).disasm(code[:15], ADDRESS, 1):
        tokens = tuple(_capstone_token(insn, op, bits) for op in insn.operands)
        groups = frozenset(insn.group_name(group) for group in insn.groups)
        return Decoded(insn.size, insn.mnemonic, groups, tokens)
    return None


def _capstone_token(insn: capstone.CsInsn, op: object, bits: int) -> Token:
    kind = op.type  # type: ignore[attr-defined]
    if kind == cs.X86_OP_IMM:
        return "imm", op.imm & ((1 << 64) - 1)  # type: ignore[attr-defined]
    if kind == cs.X86_OP_REG:
        name = insn.reg_name(op.reg)  # type: ignore[attr-defined]
        return REGISTERS.get(name, ("other", name))
    memory = op.mem  # type: ignore[attr-defined]
    base, index = insn.reg_name(memory.base), insn.reg_name(memory.index)
    disp = memory.disp
    if base in ("rip", "eip"):
        base, disp = None, disp + insn.address + insn.size
    segment = insn.reg_name(memory.segment) if memory.segment else None
    if segment is None or (bits == 64 and segment not in ("fs", "gs")):
        stack = bits != 64 and base in ("rsp", "esp", "sp", "rbp", "ebp", "bp")
        segment = "ss" if stack else "ds"
    number = None if base is None else REGISTERS[base][1]
    # A gather's index is a vector register, in instructions that are not judged yet.
    indexed = None if index in (None, "riz", "eiz") else REGISTERS.get(index, ("other", index))[1]
    scale = memory.scale if indexed is not None else 1
    return "mem", number, indexed, scale, disp & ((1 << 8 * insn.addr_size) - 1), segment


def same(ours: Decoded, theirs: Decoded) -> bool:
    """Equal lengths, and our operands among theirs in order (capstone adds the implicit ones)."""
    if ours.length != theirs.length:
        return False
    rest = iter(theirs.tokens)
    return all(any(_equal(token, other) for other in rest) for token in ours.tokens)


def _equal(ours: Token, theirs: Token) -> bool:
    if ours[0] == theirs[0] == "imm":
        a, b = ours[1], theirs[1]
        assert isinstance(a, int) and isinstance(b, int)
        return any((a ^ b) & ((1 << bits) - 1) == 0 and a < 1 << bits for bits in (8, 16, 32, 64))
    return ours == theirs

