"""The x87's lowerings, compiled as plain functions: every row of its table, without an engine."""

from __future__ import annotations

import ctypes
import struct

from pytcg.exec.layout import PAGE_MASK, RECORD, TLB_ENTRY, TLB_SIZE
from pytcg.ir.blocks import Function
from pytcg.ir.builder import Builder
from pytcg.ir.ops import Type
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import Linker, compile_module
from pytcg_native.compiler import Program
from pytcg_x86 import x87  # noqa: F401  registers rows and lowerings
from pytcg_x86.state import ENV, Mode
from pytcg_x86.table import LOWERINGS, ROWS, Row
from pytcg_x86.translate import Context, Operand, Translator
from x86.x87_host import EMPTY_TAG, X87

PAGE = 0x10000
SIZES = {"w": 16, "d": 32, "q": 64}
X87_ROWS = [row for row in ROWS if 0xD8 <= row.opcode[0] <= 0xDF and len(row.opcode) == 1]


def encoding(row: Row, rm: int) -> bytes:
    """The instruction, with [rsi] as its memory operand or ST(rm) as its register."""
    assert row.reg is not None
    if row.mod == "m":
        return bytes([row.opcode[0], row.reg << 3 | 6])
    return bytes([row.opcode[0], 0xC0 | row.reg << 3 | (rm if row.rm is None else row.rm)])


def _operand(t: Translator, code: str) -> Operand:
    if code == "AX":
        return t.reg(0, 16)
    if code == "Nq":
        return Operand("mmx", 64, t.b.ptradd(t.env, t.field("a", Type.I64)))
    return Operand("mem", SIZES.get(code[1:], 8))


def lowered(row: Row, name: str, program: Program, operand_size: int = 32) -> Function:
    """The row's lowering as a C function of (env, rec, ram)."""
    function = Function(name, [(n, Type.PTR) for n in ("env", "rec", "ram")], Type.VOID)
    context = Context(operand_size, 64, 64, 64, "", "base", "flat")
    t = Translator(program, function, Builder(function), context)
    LOWERINGS[row.mnemonic].function(t, *(_operand(t, code) for code in row.operands))
    t.flags.commit()
    t.b.ret()
    t.finish()
    return function


class Lowered:
    """All x87 rows, compiled."""

    def __init__(self, rows: list[Row], operand_size: int = 32) -> None:
        program = Program()
        names = {id(row): f"row{n}" for n, row in enumerate(rows)}
        functions = [lowered(row, names[id(row)], program, operand_size) for row in rows]
        natives = program.compile_all()
        tables = [(table.name, table.data()) for table in program.tables.values()]
        text = emit_module([*natives, *functions], tables)
        # Every access hits the TLB, so what a miss would call is never reached.
        unreached = {name: 1 for name, fn in program.natives.items() if fn.extern}
        unreached |= {"tb_stale": 1, "record_stale": 1}
        self._linker = Linker()  # owns the code
        symbols = self._linker.add("x87", [compile_module(text, level=1)], list(names.values()),
                                   unreached)  # fmt: skip
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
        self.code = {key: kind(symbols[name]) for key, name in names.items()}
        self.env = (ctypes.c_uint8 * (ENV.size + 64))()
        self.tlb = (ctypes.c_uint8 * (TLB_SIZE * TLB_ENTRY.size))()
        self.ram = (ctypes.c_uint8 * 8192)()
        self.rec = (ctypes.c_uint8 * RECORD.size)()

    def put(self, name: str, value: int, index: int = 0) -> None:
        size = ENV.fields[name].type.size
        at = ENV.offset(name, index)
        self.env[at:at + size] = list(value.to_bytes(size, "little"))

    def get(self, name: str, index: int = 0) -> int:
        size = ENV.fields[name].type.size
        at = ENV.offset(name, index)
        return int.from_bytes(bytes(self.env[at:at + size]), "little")

    def run(self, row: Row, rm: int, state: X87) -> X87:
        self._load(state, rm)
        env, rec, ram = (ctypes.addressof(x) for x in (self.env, self.rec, self.ram))
        self.code[id(row)](env, rec, ram)
        return self._result(len(state.memory))

    def _load(self, state: X87, rm: int) -> None:
        ctypes.memset(self.env, 0, ENV.size)
        struct.pack_into("<4Q", self.tlb, (PAGE >> 12) % TLB_SIZE * 32,
                         PAGE & PAGE_MASK, PAGE & PAGE_MASK, PAGE, -PAGE & (2**64 - 1))  # fmt: skip
        self.put("tlb", ctypes.addressof(self.tlb))
        self.put("ram", ctypes.addressof(self.ram))
        self.put("gpr", PAGE, 6)
        self.put("mode", Mode.CODE64 | Mode.PROTECTED)
        self.put("cr0", 0x21)
        self.put("fp_control", state.control)
        self.put("fp_status", state.status & 0xC7FF)
        self.put("fp_top", state.top)
        for i, x in enumerate(state.st):
            n = (state.top + i) & 7
            self.put("fp_mantissa", x & (2**64 - 1), n)
            self.put("fp_exponent", x >> 64, n)
            self.put("fp_tag", int(state.empty(i)), n)
        self._load_flags(state.eflags)
        self.ram[:len(state.memory)] = list(state.memory)
        for name, value in (("a", ENV.offset("fp_mantissa", rm)), ("base", ENV.offset("gpr", 6))):
            struct.pack_into("<H", self.rec, RECORD.offset(name), value)

    def _load_flags(self, eflags: int) -> None:
        self.put("flag_z", 0 if eflags & 0x40 else 1)
        pf, sf = bool(eflags & 4), eflags >> 7 & 1
        self.put("flag_s", sf << 63 | (0 if pf else 1))
        self.put("flag_c", eflags & 1)
        self.put("flag_o", eflags >> 11 & 1)
        self.put("flag_x", (eflags & 0x10) ^ (0 if pf else 1))

    def _flags(self) -> int:
        s = self.get("flag_s")
        af = (self.get("flag_x") ^ s) & 0x10
        pf = 0 if (s & 0xFF).bit_count() & 1 else 4
        zf = 0x40 if self.get("flag_z") == 0 else 0
        return (self.get("flag_c") | pf | af | zf | (s >> 63) << 7 | self.get("flag_o") << 11)

    def _result(self, size: int) -> X87:
        top = self.get("fp_top")
        tags = sum((EMPTY_TAG if self.get("fp_tag", n) else 0) << 2 * n for n in range(8))
        st = [self.get("fp_exponent", (top + i) & 7) << 64 | self.get("fp_mantissa", (top + i) & 7)
              for i in range(8)]  # fmt: skip
        return X87(self.get("fp_control"), self.get("fp_status") | top << 11, tags, st,
                   self._flags(), bytes(self.ram[:size]))  # fmt: skip
