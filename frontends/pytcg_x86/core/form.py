"""Form keys to threaded code: operands from the record, the row's lowering, write-back, exit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pytcg.exec.layout import RECORD_SIZE
from pytcg.ir.blocks import Function, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_native.compiler import Program
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Context, Effects, Operand, Translator
from pytcg_x86.decode import formkey
from pytcg_x86.decode.opcodes import Kind, opcodes, operand_spec
from pytcg_x86.decode.table import LOWERINGS, Row

_EA = ("none", "disp", "base", "sib")
_SEGMENT = ("flat", "base", "checked")
_REP = ("", "rep", "repne")
_FIXED_REGISTERS = {"AL": (0, 8), "CL": (1, 8), "AX": (0, 16), "eAX": (0, 32), "CX": (1, 16),
                    "DX": (2, 16)}  # fmt: skip
_BYTES = {"b": 8, "w": 16, "d": 32, "q": 64, "o": 128, "s": 8}


def context_of(key: int) -> Context:
    """What a form key fixes."""
    code = 8 << (key >> formkey.KEY_CODE & 3)
    return Context(
        operand_size=8 << (key >> formkey.KEY_OPERAND & 3),
        address_size=8 << (key >> formkey.KEY_ADDRESS & 3),
        stack_size=8 << (key >> formkey.KEY_STACK & 3),
        code_size=code,
        rep=_REP[key >> formkey.KEY_REP & 3],
        ea=_EA[key >> formkey.KEY_EA & 3],
        segment=_SEGMENT[key >> formkey.KEY_SEGMENT & 3],
        segmented=bool(key >> formkey.KEY_SEGMENTED & 1),
        dead_flags=bool(key >> formkey.KEY_DEAD & 1),
        vector_size=256 if key >> formkey.KEY_LENGTH & 1 else 128,
    )


def row_of(key: int) -> Row:
    return opcodes().rows[key & 0xFFF]


def form_name(key: int) -> str:
    """The symbol of a form's handler."""
    return f"form_{key:x}"


def describe(key: int) -> str:
    """A form in words, for the debug log."""
    row, cx = row_of(key), context_of(key)
    return f"{row.mnemonic} {','.join(row.operands)} [{cx.operand_size} {cx.ea} {cx.segment}]"


def build_form(program: Program, key: int) -> tuple[Function, Effects]:
    """IR of a form's handler, and what it does to the flags.

    A key with a second row (from bit 32) is a superinstruction: a conditional jump whose record
    follows, in the same handler, so that its condition is tested in host registers.
    """
    row, cx = row_of(key), context_of(key)
    params = [("env", Type.PTR), ("rec", Type.PTR), ("ram", Type.PTR)]
    function = Function(form_name(key), params, Type.VOID, threaded=True)
    first = Translator(program, function, Builder(function), cx)
    second = key >> formkey.KEY_SECOND
    if second:
        Instruction(first, row).build(fall_through=True)
        following = Translator(program, function, first.b, cx)
        following.rec = first.b.ptradd(first.rec, RECORD_SIZE)
        Instruction(following, opcodes().rows[second]).build()
        following.finish()
    else:
        Instruction(first, row).build()
    first.finish()
    return function, first.effects


class Instruction:
    """Lowers one instruction: operands before it, write-back after it."""

    def __init__(self, t: Translator, row: Row):
        self.t = t
        self.row = row
        self.slots = 0
        self.immediates = 0
        self.first_bits = 0

    def build(self, *, fall_through: bool = False) -> None:
        t, row = self.t, self.row
        if "cpl0" in row.attrs:
            t.raise_if(t.ld_env("cpl").ne(0), Vector.GP, 0)
        operands = [self._operand(code) for code in row.operands]
        lowering = LOWERINGS[row.mnemonic]
        self._lower(lowering.function, lowering.dst, operands)
        if t.b.block.closed:
            return
        t.flags.commit()
        if fall_through:
            return
        if "end" in row.attrs:
            t.lookup(t.next_pc())
        elif "branch" in row.attrs:
            t.lookup(t.ld_env("rip"))
        else:
            t.next()

    def _lower(self, function: Any, dst: str, operands: list[Operand]) -> None:
        """Load the operands, lower, write the result back: all by ``dst`` (see `Lowering`)."""
        if dst == "raw":
            function(self.t, *operands)
            return
        if dst == "r" or not operands:
            result = function(self.t, *[self.t.read(op) for op in operands])
            if result is not None:
                raise TypeError(f"{self.row}: lowering returned {result!r} for dst={dst!r}")
            return
        first, *others = operands
        values = []
        write_back: Callable[[Value], None] = partial(self.t.write, first)
        if dst == "rw":
            value, write_back = self.t.modify(first)
            values.append(value)
        result = function(self.t, *values, *[self.t.read(op) for op in others])
        if not isinstance(result, Value):
            raise TypeError(f"{self.row}: lowering returned {result!r} for dst={dst!r}")
        if not self.t.b.block.closed:
            write_back(result)

    # Operands ----------------------------------------------------------------------------------

    def _bits(self, size: str) -> int:
        operand_size = self.t.cx.operand_size
        if size in "xh":
            return self.t.cx.vector_size >> (size == "h")
        if size == "v":
            return operand_size
        if size == "z":
            return min(operand_size, 32)
        if size == "y":
            return max(operand_size, 32)
        return _BYTES.get(size, 0)

    def _operand(self, code: str) -> Operand:
        kind, size = operand_spec(code)
        if kind is Kind.FIXED:
            operand = self._fixed(size)
        elif kind in (Kind.I, Kind.J):
            operand = self._immediate(kind, size)
        elif kind in (Kind.H, Kind.B, Kind.L):
            operand = self._vex_register(kind, self._bits(size))
        elif kind is Kind.A:
            operand = Operand("imm", 64, self.t.imm)
        else:
            operand = self._place(kind, self._bits(size))
        if not self.first_bits:
            self.first_bits = operand.bits
        return operand

    def _vex_register(self, kind: Kind, bits: int) -> Operand:
        """The third and fourth registers' offsets are in the immediate's upper half."""
        where = self.t.b.ptradd(self.t.env, self.t.packed_field(48 if kind is Kind.L else 32))
        return Operand("reg" if kind is Kind.B else "ymm", bits, where)

    def _fixed(self, name: str) -> Operand:
        if name == "1":
            bits = self.first_bits
            return Operand("imm", bits, self.t.const(1, bits))
        if name in ("rAX", "rCX", "rDX"):
            return self.t.reg(("rAX", "rCX", "rDX").index(name), self.t.cx.operand_size)
        return self.t.reg(*_FIXED_REGISTERS[name])

    def _immediate(self, kind: Kind, size: str) -> Operand:
        """The record's immediate, at the width of the first operand."""
        if kind is Kind.J:
            return Operand("imm", 64, self.t.const(0, 64))  # targets are in the link records
        self.immediates += 1
        value = self.t.imm if self.immediates == 1 else self.t.imm >> 32
        if self.row.vex:
            value = value & 0xFF
        if self.first_bits in (8, 16, 32, 64) and self.immediates == 1:
            bits = self.first_bits
        elif size in "zsv":
            bits = self.t.cx.operand_size
        else:
            bits = self._bits(size)
        return Operand("imm", bits, value.resize(INT_OF_BITS[bits]))

    def _place(self, kind: Kind, bits: int) -> Operand:
        memory = self.t.cx.ea != "none"
        if kind in (Kind.X, Kind.Y):
            return Operand("string", bits)
        if kind in (Kind.M, Kind.O) or (kind in (Kind.E, Kind.W, Kind.Q) and memory):
            return Operand("mem", bits)
        name = "a" if self.slots == 0 else "b"
        self.slots += 1
        offset = self.t.field(name, Type.I64)
        if kind in (Kind.S, Kind.C, Kind.D):
            label = {Kind.S: "seg", Kind.C: "cr", Kind.D: "dr"}[kind]
            return Operand(label, bits or 64, offset)
        where = self.t.b.ptradd(self.t.env, offset)
        if kind in (Kind.V, Kind.W, Kind.U):
            return Operand("ymm" if self.row.vex else "xmm", bits or 128, where)
        if kind in (Kind.P, Kind.Q, Kind.N):
            return Operand("mmx", bits or 64, where)
        return Operand("reg", bits, where)

