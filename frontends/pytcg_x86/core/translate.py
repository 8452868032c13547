"""`Translator`: what a lowering function works with: operands, registers, flags, memory, exits.

One lowering serves the form (operands from the record) and the region (operands constant): it
never asks which register or which immediate it has, only reads and writes `Operand`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytcg.exec.layout import BRANCH, RECORD, RECORD_SIZE
from pytcg.ir.blocks import Block, Function, Value
from pytcg.ir.builder import Builder
from pytcg.ir.layout import Scalar
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.softmmu import access
from pytcg_native.compiler import Program
from pytcg_native.expressions import ir_type
from pytcg_native.types import NativeFunction
from pytcg_x86.core.flags import FLAG_BITS, OPAQUE, Flags
from pytcg_x86.core.state import ENV, Seg

_LOADS = {8: access.load_u8, 16: access.load_u16, 32: access.load_u32, 64: access.load_u64,
          128: access.load_u128}  # fmt: skip
_STORES = {8: access.store_u8, 16: access.store_u16, 32: access.store_u32, 64: access.store_u64,
           128: access.store_u128}  # fmt: skip
_MODIFIES = {8: access.modify_u8, 16: access.modify_u16, 32: access.modify_u32,
             64: access.modify_u64, 128: access.modify_u128}  # fmt: skip
YMM_HIGH = ENV.offset("ymm_high") - ENV.offset("xmm")
"""From an XMM register in the state to the upper half of its YMM register."""


@dataclass(frozen=True, slots=True)
class Operand:
    """A place or value: ``kind`` is "reg", "mem", "imm", "seg", "cr", "dr", "xmm", "ymm", "mmx".

    For registers ``where`` is a pointer into the CPU state; for seg, cr and dr it is the register's
    number (i64); for imm it is the value. A "ymm" is VEX's: its upper half is elsewhere.

    With ``value`` that is what is read, not the place: VEX's first source in place of DEST. With
    ``sink`` that takes what is written.
    """

    kind: str
    bits: int
    where: Value | None = None
    value: Value | None = None
    sink: Callable[[Value], None] | None = None

    @property
    def type(self) -> Type:
        return INT_OF_BITS[self.bits]

    @property
    def is_memory(self) -> bool:
        return self.kind == "mem"



@dataclass(slots=True)
class Effects:
    """Which flag slots an instruction reads, and which it surely writes; ``opaque`` if it may fault
    or call helpers, so that all flags must be right before it."""

    reads: int = 0
    writes: int = 0
    opaque: bool = False
    computed: int = 0  # JUMPS or CALLS

    def word(self) -> int:
        """As a form's ``effects``: reads in bits 0-4, writes in 8-12, opaque in 16, `computed`."""
        return self.reads | self.writes << 8 | (OPAQUE if self.opaque else 0) | self.computed


@dataclass(frozen=True, slots=True)
class Context:
    """What a form fixes about an instruction besides its operands (sizes in bits)."""

    operand_size: int  # 8, 16, 32, 64
    address_size: int  # 16, 32, 64
    stack_size: int  # 16, 32, 64: width of the stack pointer
    code_size: int  # 16, 32, 64: width of the instruction pointer
    rep: str  # "", "rep" (F3) or "repne" (F2)
    ea: str  # "none", "disp", "base", "sib": what the address is made of
    segment: str  # "flat", "base" (add the base only), "checked"
    segmented: bool = False  # DS, ES and SS (implicit accesses) are not flat
    dead_flags: bool = False
    vector_size: int = 128  # 256 with VEX.L


class Translator:
    """Emits the IR of one instruction into ``b``."""

    registers_are_values = False
    """Whether x87 registers are values of their own type, not ten bytes in memory."""

    def __init__(self, program: Program, function: Function, builder: Builder, context: Context):
        self.program = program
        self.function = function
        self.b = builder
        self.cx = context
        self.env, self.rec, self.ram = function.params
        self.flags = self.make_flags()
        self.effects = Effects()
        self._unwind: Block | None = None
        self._depth = 0
        self._offset: Value | None = None
        self.held: list[bool] | None = None
        """Checks for float exceptions that wait until all lanes are done, if they do wait."""

    def make_flags(self) -> Flags:
        """What keeps the instruction's flags."""
        return Flags(self)

    # Records -----------------------------------------------------------------------------------

    def field(self, name: str, type_: Type | None = None) -> Value:
        """A field of the record, optionally widened."""
        row = RECORD.fields[name]
        value = self.b.ld(ir_type(row.type), self.rec, row.offset)
        if type_ is None:
            return value
        return value.sext(type_) if row.type.signed else value.zext(type_)

    def record(self) -> Value:
        """The record itself, for natives that look at it."""
        return self.rec

    @property
    def imm(self) -> Value:
        return self.field("imm")

    def packed_field(self, shift: int) -> Value:
        """Sixteen bits of the immediate: VEX's third and fourth registers (i64)."""
        return (self.imm >> shift).trunc(Type.I16).sext(Type.I64)

    def pc(self) -> Value:
        """This instruction's address in its code segment (i64)."""
        return self.field("pc")

    def next_pc(self) -> Value:
        """The next instruction's address, wrapped to the instruction pointer's width."""
        return self.wrap_pc(self.pc() + self.field("length", Type.I64))

    def wrap_pc(self, pc: Value) -> Value:
        return pc if self.cx.code_size == 64 else pc & ((1 << self.cx.code_size) - 1)

    # CPU state ---------------------------------------------------------------------------------

    def ld_env(self, name: str, index: int = 0) -> Value:
        self.effects.reads |= FLAG_BITS.get(name, 0)
        return self.b.ld(ir_type(ENV.fields[name].type), self.env, ENV.offset(name, index))

    def st_env(self, name: str, value: Value | int, index: int = 0) -> None:
        type_ = ir_type(ENV.fields[name].type)
        self.b.st(self.b.coerce(value, type_), self.env, ENV.offset(name, index))

    def reg(self, number: int, bits: int) -> Operand:
        """A general register by number (no AH…BH)."""
        return Operand("reg", bits, self.b.ptradd(self.env, ENV.offset("gpr", number)))

    def const(self, value: int, bits: int) -> Value:
        return self.b.const(value, INT_OF_BITS[bits])

    # Operands ----------------------------------------------------------------------------------

    def read(self, op: Operand) -> Value:
        """The operand's value, of its own width."""
        if op.value is not None:
            return op.value
        if op.kind in ("reg", "xmm", "ymm", "mmx"):
            assert op.where is not None
            return self.b.ld(op.type, op.where)
        if op.kind == "mem":
            return self.load(op.bits, self.address(op.bits))
        assert op.where is not None, op
        return op.where

    def write(self, op: Operand, value: Value) -> None:
        """Write back; 32-bit general registers are zero-extended to 64, VEX's vectors to 256."""
        if op.sink is not None:
            op.sink(value)
            return
        if op.kind == "mem":
            self.store(op.bits, self.address(op.bits, write=True), value)
            return
        assert op.where is not None and op.kind in ("reg", "xmm", "ymm", "mmx"), op
        if op.kind == "reg" and op.bits == 32:
            value = value.zext(Type.I64)
        if op.kind == "ymm":
            value = value.zext(Type.I128)
            self.b.st(self.const(0, 128), op.where, YMM_HIGH)
        self.b.st(value, op.where)

    def modify(self, op: Operand) -> tuple[Value, Callable[[Value], None]]:
        """The operand's value, and what writes it back; in memory both are one write access."""
        if op.kind == "mem" and op.sink is None:
            return self.modify_at(op.bits, self.address(op.bits, write=True))
        return self.read(op), lambda value: self.write(op, value)

    # Memory ------------------------------------------------------------------------------------

    def offset(self) -> Value:
        """The memory operand's effective address (offset in its segment), i64, wrapped."""
        if self._offset is not None:
            return self._offset
        cx, b = self.cx, self.b
        disp = self.field("disp")
        if cx.ea == "disp":
            offset = disp
        else:
            base = b.ptradd(self.env, self.field("base", Type.I64))
            offset = b.ld(Type.I64, base)
            if cx.ea == "sib":
                index = b.ptradd(self.env, self.field("index", Type.I64))
                offset = offset + (b.ld(Type.I64, index) << self.field("shift", Type.I64))
            offset = offset + disp  # last: regions find accesses by what they differ in
        self._offset = self.wrap_offset(offset)
        return self._offset

    def wrap_offset(self, offset: Value) -> Value:
        size = self.cx.address_size
        return offset if size == 64 else offset & ((1 << size) - 1)

    def address(self, bits: int, *, write: bool = False) -> Value:
        """The memory operand's linear address, its segment checked for that access."""
        return self.address_at(self.offset(), bits, write=write)

    def address_at(self, offset: Value, bits: int, *, write: bool = False) -> Value:
        """Linear address of another (wrapped) offset in the memory operand's segment."""
        if self.cx.segment == "flat":
            return offset
        number = self.field("segment", Type.I64)
        if self.cx.segment == "base":
            base = self.b.ptradd(self.env, ENV.offset("seg_base"))
            return self.b.ld(Type.I64, base, number << 3) + offset
        return self.checked_address(number, offset, bits, write=write)

    def checked_address(self, segment: Value, offset: Value, bits: int, *, write: bool) -> Value:
        """base + offset after limit, type and presence checks (16/32-bit code)."""
        from pytcg_x86.core import segment as segments

        check = segments.check_write if write else segments.check_read
        linear = self.call(check, self.env, segment, offset, self.const(max(bits // 8, 1), 32))
        assert linear is not None
        return linear

    def segment_address(self, segment: Seg, offset: Value, bits: int, *,
                        write: bool = False) -> Value:  # fmt: skip
        """Linear address of an implicit access (stack, string, table) through a segment."""
        if self.cx.code_size == 64:
            if segment in (Seg.FS, Seg.GS):
                return self.ld_env("seg_base", segment) + offset
            return offset
        if not self.cx.segmented and segment in (Seg.DS, Seg.ES, Seg.SS):
            return offset
        return self.checked_address(self.const(segment, 64), offset, bits, write=write)

    def load(self, bits: int, linear: Value) -> Value:
        """Guest memory at a linear address; a fault leaves the instruction."""
        value = self.call(_LOADS[bits], self.env, linear)
        assert value is not None
        return value

    def store(self, bits: int, linear: Value, value: Value) -> None:
        self.call(_STORES[bits], self.env, linear, value)

    def load_ten(self, linear: Value) -> tuple[Value, ...]:
        """Ten bytes of guest memory, as an x87 register is moved (`registers_are_values`)."""
        return self.load(64, linear), self.load(16, linear + 8)

    def store_ten(self, linear: Value, parts: tuple[Value, ...]) -> None:
        """Store them; on one page the first store has all the faults."""
        low, high = parts
        self.store(64, linear, low)
        self.store(16, linear + 8, high)

    def load_wide(self, linear: Value) -> list[Value]:
        """32 bytes of guest memory, as halves, low first."""
        where = self.call(access.place_to_load, self.env, linear)
        assert where is not None
        low, high = (self.b.local(Type.I128, name) for name in ("low", "high"))

        def fast() -> None:
            self.b.set(low, self.b.ld(Type.I128, self.ram, where))
            self.b.set(high, self.b.ld(Type.I128, self.ram, where + 16))

        def slow() -> None:
            self.b.set(low, self.load(128, linear))
            self.b.set(high, self.load(128, linear + 16))

        self._by_place(where, fast, slow)
        return [self.b.get(low), self.b.get(high)]

    def store_wide(self, linear: Value, halves: list[Value]) -> None:
        """Store 32 bytes; nothing is stored if not all can be."""
        where = self.call(access.place_to_store, self.env, linear)
        assert where is not None
        low, high = halves

        def fast() -> None:
            self.b.st(low, self.ram, where)
            self.b.st(high, self.ram, where + 16)

        def slow() -> None:
            self.store(128, linear, low)
            self.store(128, linear + 16, high)

        self._by_place(where, fast, slow)

    def _by_place(self, where: Value, fast: Callable[[], None], slow: Callable[[], None]) -> None:
        """``fast`` if ``where`` is a place in the RAM window, else ``slow``."""
        b = self.b
        blocks = [b.new_block(hint) for hint in ("plain", "slow", "placed")]
        b.brif(where.ne(access.NOT_RAM), blocks[0], blocks[1], likely=True)
        for block, body in zip(blocks, (fast, slow), strict=False):
            b.place(block)
            body()
            b.br(blocks[2])
        b.place(blocks[2])

    def modify_at(self, bits: int, linear: Value) -> tuple[Value, Callable[[Value], None]]:
        """Guest memory at a linear address, and what stores there: one probe, for writing.

        All faults come here, before the load, and are a write's (as on hardware); the store that
        follows has none left.
        """
        b, type_ = self.b, INT_OF_BITS[bits]
        where = self.call(_MODIFIES[bits], self.env, linear)
        assert where is not None
        old = b.local(type_, "old")
        self._by_place(where, lambda: b.set(old, b.ld(type_, self.ram, where)),
                       lambda: b.set(old, self.load(bits, linear)))  # fmt: skip
        return b.get(old), lambda value: self._by_place(
            where, lambda: b.st(value, self.ram, where), lambda: self.store(bits, linear, value))

    # Stack -------------------------------------------------------------------------------------

    def stack_pointer(self) -> Value:
        """rSP wrapped to the stack's width (i64)."""
        pointer = self.ld_env("gpr", 4)
        size = self.cx.stack_size
        return pointer if size == 64 else pointer & ((1 << size) - 1)

    def set_stack_pointer(self, value: Value) -> None:
        """Write rSP, only its low 16 bits on a 16-bit stack."""
        if self.cx.stack_size == 16:
            self.b.st(value.trunc(Type.I16), self.env, ENV.offset("gpr", 4))
        elif self.cx.stack_size == 32:
            self.st_env("gpr", value & 0xFFFF_FFFF, 4)
        else:
            self.st_env("gpr", value, 4)

    def push(self, bits: int, value: Value) -> None:
        """Push; rSP changes only after the store has succeeded."""
        pointer = self.wrap_stack(self.stack_pointer() - bits // 8)
        self.store(bits, self.segment_address(Seg.SS, pointer, bits, write=True), value)
        self.set_stack_pointer(pointer)

    def top(self, bits: int, skip: int = 0) -> Value:
        """The stack element ``skip`` bytes above rSP, without popping it."""
        pointer = self.wrap_stack(self.stack_pointer() + skip)
        return self.load(bits, self.segment_address(Seg.SS, pointer, bits))

    def drop(self, count: int) -> None:
        """Pop ``count`` bytes."""
        self.set_stack_pointer(self.wrap_stack(self.stack_pointer() + count))

    def wrap_stack(self, pointer: Value) -> Value:
        size = self.cx.stack_size
        return pointer if size == 64 else pointer & ((1 << size) - 1)

    # Calls, faults and control -----------------------------------------------------------------

    def call(self, callee: NativeFunction[Any, Any], *args: Value) -> Value | None:
        """Call (or inline) a native function; a guest exception in it leaves the instruction."""
        self.program.add([callee])
        signature = self.program.signatures[callee.name]
        for (name, scalar, _), arg in zip(signature.params, args, strict=True):
            _check(callee.name, name, scalar, arg)
        raises = callee.name in self.program.raising
        if not callee.python.__module__.startswith("pytcg."):
            self.effects.opaque = True  # the guest's own helpers may look at any flag
        if callee.inline:
            return self.b.inline(self.program.compile(callee), list(args),
                                 self.unwind if raises else None)  # fmt: skip
        result = self.b.call(callee.name, ir_type(signature.result), *args, cold=callee.cold)
        if signature.noreturn:
            self.b.br(self.unwind)
            self.b.place(self.b.new_block("dead"))
        elif raises:
            go_on = self.b.new_block("ok")
            pending = self.ld_env("exception_pending")
            self.b.brif(pending.eq(0), go_on, self.unwind, likely=True)
            self.b.place(go_on)
        return result

    @property
    def unwind(self) -> Block:
        """Where a fault goes: out of threaded code with rIP at this instruction."""
        self.effects.opaque = True
        if self._unwind is None:
            self._unwind = self.b.new_block("fault")
        return self._unwind

    @contextmanager
    def when(self, condition: Value, *, likely: bool | None = None) -> Iterator[None]:
        """Emit the body of the ``with`` so that it runs only if ``condition``."""
        body, after = self.b.new_block("when"), self.b.new_block("endwhen")
        self.b.brif(condition, body, after, likely=likely)
        self.b.place(body)
        self._depth += 1
        yield
        self._depth -= 1
        if not self.b.block.closed:
            self.b.br(after)
        self.b.place(after)

    def need(self, condition: Value, otherwise: Block, *, once: str = "") -> None:
        """Go on only if ``condition``, which is likely; one with a name, if it holds, stays so
        until something is called."""
        go_on = self.b.new_block("ok")
        self.b.brif(condition, go_on, otherwise, likely=True)
        self.b.place(go_on)

    def shortcut(self, fast: Callable[[Block], None], slow: Callable[[], None]) -> None:
        """Emit ``fast``, which leaves for the block it is given before it has changed anything
        that ``slow`` does not; there stands ``slow``."""
        other, after = self.b.new_block("slow"), self.b.new_block("done")
        fast(other)
        self.b.br(after)
        self.b.place(other)
        slow()
        if not self.b.block.closed:
            self.b.br(after)
        self.b.place(after)

    def raise_if(self, condition: Value, vector: int, error: int | None = None) -> None:
        """Raise an exception if ``condition``."""
        from pytcg_x86.core import exceptions

        with self.when(condition, likely=False):
            if error is None:
                self.call(exceptions.raise_exception, self.env, self.const(vector, 32))
            else:
                self.call(exceptions.raise_error, self.env, self.const(vector, 32),
                          self.const(error, 32))  # fmt: skip

    def check_target(self, wild: Value, pc: Value, pushed: Value | None = None) -> None:
        """#GP(0) if ``pc``, not canonical by 48 bits if ``wild``, is no address at all.

        A fault of the store of 8 bytes at ``pushed``, a linear address, comes first.
        """
        from pytcg_x86.core import segment

        with self.when(wild, likely=False):
            if pushed is not None:
                self.call(access.probe_write, self.env, pushed, self.const(8, 64))
            self.call(segment.check_wild, self.env, pc)

    def rarely(self, condition: Value, native: NativeFunction[Any, Any]) -> None:
        """Call a native on the state if ``condition``; a region leaves it to threaded code."""
        with self.when(condition, likely=False):
            self.call(native, self.env)

    def require(self, feature: str) -> None:
        """#UD unless CPUID tells of ``feature``; for what the decoder's rows can't say."""
        from pytcg_x86.core.state import Vector
        from pytcg_x86.system.features import FEATURES

        word, bit = FEATURES[feature]
        self.raise_if((self.ld_env("cpuid_features", word) & (1 << bit)).eq(0), Vector.UD)

    def check_masked(self) -> None:
        """After a float operation, before its result is written: unmasked exceptions fault."""
        from pytcg_x86.vector import mxcsr

        masked = (self.ld_env("mxcsr") & mxcsr.MASKS).eq(mxcsr.MASKS)
        with self.when(masked ^ 1, likely=False):
            self.call(mxcsr.mxcsr_unmasked, self.env)

    def go(self, record: Value) -> None:
        """Tail-call the code of ``record``."""
        self.b.effect("tail", self.b.ld(Type.PTR, record), self.env, record, self.ram)

    def next(self) -> None:
        """Go on with the next record."""
        self.go(self.b.ptradd(self.rec, RECORD_SIZE))

    def lookup(self, pc: Value) -> None:
        """Go on at ``pc`` (already wrapped), through the jump cache."""
        from pytcg.exec import dispatch

        self.st_env("rip", pc)
        code = self.b.symbol(dispatch.tb_lookup.name)
        self.b.effect("tail", code, self.env, self.rec, self.ram)

    def again(self) -> None:
        """Go on with this very instruction, as one that has not been run."""
        from pytcg.exec import hooks

        self.call(hooks.refund, self.env, self.rec)
        self.lookup(self.pc())

    def branch(self, condition: Value) -> None:
        """Leave by ``taken`` if the condition holds, else by ``fall``."""
        taken, fall = self.b.new_block("taken"), self.b.new_block("fall")
        self.b.brif(condition, taken, fall)
        for block, name in ((taken, "taken"), (fall, "fall")):
            self.b.place(block)
            self.go(self._successor(name))

    def jump(self) -> None:
        """Leave by ``taken``."""
        self.go(self._successor("taken"))

    def _successor(self, name: str) -> Value:
        """The record to go on with: ``taken`` or ``fall``."""
        return self.b.ld(Type.PTR, self.rec, BRANCH.offset(name))

    def indirect(self, pc: Value) -> None:
        """Go on at a computed pc (i64, wrapped)."""
        from pytcg.exec import dispatch

        self.st_env("rip", pc)
        if self.effects.computed:
            self.b.st(pc, self.rec, BRANCH.offset("taken"))  # for `region_grow`
        # The transfer is done: a fault of the fetch is the target's, not this instruction's.
        with self.completed():
            record = self.call(dispatch.lookup_block, self.env)
            assert record is not None
            self.go(record)

    @property
    def unconditional(self) -> bool:
        """Whether what is emitted now runs whenever the instruction does."""
        return self._depth == 0

    @contextmanager
    def completed(self) -> Iterator[None]:
        """The instruction is over and rIP moved on: a fault in the ``with`` keeps that rIP.

        The body must end the block.
        """
        before, self._unwind = self._unwind, None
        yield
        if self._unwind is not None:
            self.b.place(self._unwind)
            self.b.ret()
        self._unwind = before

    def finish(self) -> None:
        """Place the fault exit, if any instruction needed one."""
        if self._unwind is not None:
            self.b.place(self._unwind)
            self.st_env("rip", self.pc())
            self.st_env("fault_record", self.rec)
            self.b.ret()


def _check(callee: str, name: str, scalar: Scalar, arg: Value) -> None:
    if ir_type(scalar) is not arg.type:
        raise TypeError(f"{callee}: {name} is a {scalar}, not {arg.type!r}")
