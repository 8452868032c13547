"""Stencils: handlers that are copied into each block, with the record's fields as constants.

The lowering that makes a form's handler makes its stencil too, but fields of the record are *holes*
(symbols whose value is filled in when a copy is made), and whatever the handler calls another
function for is left to the handler: a stencil only knows the way without slow paths. On any other
it *bails* to the handler, which does the instruction from its beginning; so it must bail before
anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.exec.invalidate import jump_slot
from pytcg.exec.layout import (
    BRANCH,
    EXEC_ENV,
    JUMP,
    KEPT_PAGE,
    PAGE_MASK,
    RECORD_SIZE,
    TB,
    TLB_ENTRY,
)
from pytcg.ir.blocks import Block, Function, Op, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg.softmmu import access
from pytcg_native.compiler import Program
from pytcg_x86.core.form import Instruction, context_of, form_name, row_of
from pytcg_x86.core.translate import Context, Translator
from pytcg_x86.decode import formkey
from pytcg_x86.decode.opcodes import Kind, opcodes, operand_spec

NEXT, BAIL, STACK, LOOKUP = "hole_next", "hole_bail", "hole_stack", "hole_lookup"
"""Where a stencil goes: to the record behind it, to the handler (by way of `record_on_stack` if all
its accesses are to the stack), to the block at env.pc; besides
``hole_taken`` and ``hole_fall``, which are a branch's successors."""
_INTEGER = (Kind.E, Kind.G, Kind.Z, Kind.FIXED)
_MEMORY = (Kind.E, Kind.W, Kind.Q)
_GENERAL = (Kind.E, Kind.R, Kind.G, Kind.Z)
_SLOTTED = (*_MEMORY, *_GENERAL, Kind.V, Kind.U, Kind.P, Kind.N, Kind.S, Kind.C, Kind.D)
"""Operands that may be in memory; that are general registers; that the record has a place for."""
_NARROW = ("b", "w", "v", "z", "AL", "eAX", "rAX")
HOLES = {"a", "b", "base", "index", "shift", "imm", "disp", "pc", "length"}
_INSTEAD = {"imm": "low", "disp": "far", "a": "near_a", "b": "near_b"}
"""Holes for fields whose values are known to be smaller than most, or larger."""


class NoStencil(Exception):
    """A form that its handler has to do."""


class StencilBuilder(Builder):
    """A builder that bails where it is asked to call something."""

    def __init__(self, function: Function):
        super().__init__(function)
        self.bails = self.new_block("bail")

    def op(self, name: str, /, *args: Value, **attrs: object) -> Value:
        if name in ("call", "callptr", "enter"):
            type_ = attrs["type"]
            assert isinstance(type_, Type)
            self._bail()
            return self.const(0, type_)
        return super().op(name, *args, **attrs)

    def effect(self, name: str, /, *args: Value, **attrs: object) -> None:
        if name in ("call", "callptr", "enter"):
            self._bail()
        else:
            super().effect(name, *args, **attrs)

    def _bail(self) -> None:
        """End the block, with nothing done in it; what follows is never reached."""
        block = self.block
        block.ops[:] = [op for op in block.ops if op.out is not None]
        self.br(self.bails)
        self.place(self.new_block("dead"))


class StencilTranslator(Translator):
    """Emits one instruction's stencil."""

    b: StencilBuilder

    def __init__(self, program: Program, function: Function, builder: StencilBuilder,
                 context: Context, holes: set[str], *, on_stack: bool):  # fmt: skip
        super().__init__(program, function, builder, context)
        self.holes = holes
        self.on_stack = on_stack
        self.home = self.rec
        """The record that the stencil is of: a superinstruction's first."""

    def field(self, name: str, type_: Type | None = None) -> Value:
        if name not in self.holes:
            return super().field(name, type_)
        b = self.b
        other = _INSTEAD.get(name)
        hole = other if other in self.holes else name
        value = b.op("ptrdiff", b.symbol(f"hole_{hole}"), b.const(0, Type.PTR))
        return value.resize(type_ or Type.I64)

    # Memory ------------------------------------------------------------------------------------

    def load(self, bits: int, linear: Value) -> Value:
        return self.b.ld(INT_OF_BITS[bits], self._probe(bits, linear, "read"))

    def store(self, bits: int, linear: Value, value: Value) -> None:
        self.b.st(value, self._probe(bits, linear, "write"))

    def load_wide(self, linear: Value) -> list[Value]:
        place = self._probe(256, linear, "read")
        return [self.b.ld(Type.I128, place, at) for at in (0, 16)]

    def store_wide(self, linear: Value, halves: list[Value]) -> None:
        place = self._probe(256, linear, "write")
        for at, half in zip((0, 16), halves, strict=True):
            self.b.st(half, place, at)

    def modify_at(self, bits: int, linear: Value) -> tuple[Value, Callable[[Value], None]]:
        place = self._probe(bits, linear, "write")
        return self.b.ld(INT_OF_BITS[bits], place), lambda value: self.b.st(value, place)

    def _probe(self, bits: int, linear: Value, tag: str) -> Value:
        """Where an access goes on the host; bails unless the TLB knows its page."""
        b = self.b
        if self.on_stack:
            within = linear - self._stack_page("address")
            self.need(within.ult(self._stack_page("limit")), b.bails)
            return b.ptradd(self.ram, within + self._stack_page("offset"))
        entry = b.inline(self.program.compile(access.tlb_entry), [self.env, linear], None)
        assert entry is not None
        page = (linear + (bits // 8 - 1)) & PAGE_MASK
        self.need(b.ld(Type.I64, entry, TLB_ENTRY.offset(tag)).eq(page), b.bails)
        addend = b.ld(Type.I64, entry, TLB_ENTRY.offset("addend"))
        return b.ptradd(self.ram, linear + addend)

    def _stack_page(self, field: str) -> Value:
        return self.b.ld(Type.I64, self.env,
                         EXEC_ENV.offset("stack_page") + KEPT_PAGE.offset(field))  # fmt: skip

    # Leaving -----------------------------------------------------------------------------------

    @property
    def unwind(self) -> Block:
        return self.b.bails

    def finish(self) -> None:
        self.b.place(self.b.bails)
        self._leave(STACK if self.on_stack else BAIL, self.rec)

    def next(self) -> None:
        self._leave(NEXT, self.b.ptradd(self.rec, RECORD_SIZE))

    def branch(self, condition: Value) -> None:
        taken, fall = self.b.new_block("taken"), self.b.new_block("fall")
        self.b.brif(condition, taken, fall)
        self.b.place(fall)
        self._leave("hole_fall", self.home)
        self.b.place(taken)
        self._leave("hole_taken", self.home)

    def jump(self) -> None:
        self._leave("hole_taken", self.home)

    def _leave(self, where: str, record: Value) -> None:
        self.b.effect("tail", self.b.symbol(where), self.env, record, self.ram)

    def lookup(self, pc: Value) -> None:
        self.st_env("rip", pc)
        self._leave(LOOKUP, self.rec)

    def indirect(self, pc: Value) -> None:
        """Go on at a computed pc, by the jump cache or, the instruction done, by a look-up."""
        b = self.b
        self.st_env("rip", pc)
        if self.effects.computed:
            b.st(pc, self.rec, BRANCH.offset("taken"))
        slot = b.inline(self.program.compile(jump_slot), [self.env, pc], None)
        assert slot is not None
        tag = b.ld(Type.I64, slot, JUMP.offset("tag"))
        tb = b.ld(Type.PTR, slot, JUMP.offset("tb"))
        found, probed, lost = b.new_block("found"), b.new_block("probed"), b.new_block("lost")
        salt = b.ld(Type.I64, self.env, EXEC_ENV.offset("jump_salt"))
        b.brif(tag.eq(pc ^ salt), probed, lost, likely=True)
        b.place(probed)
        if self.cx.code_size == 64:
            b.br(found)  # where CS has no base
        else:
            base = b.ld(Type.I64, self.env, EXEC_ENV.offset("code_base"))
            b.brif(b.ld(Type.I64, tb, TB.offset("cs_base")).eq(base), found, lost, likely=True)
        b.place(lost)
        self._leave(LOOKUP, self.rec)
        b.place(found)
        self.go(tb)


def build_stencil(program: Program, key: int) -> Function:
    """IR of a form's stencil; `NoStencil` if it would always bail, or bail too late."""
    row, cx = row_of(key), context_of(key)
    function = Function(form_name(key), [("env", Type.PTR), ("rec", Type.PTR), ("ram", Type.PTR)],
                        Type.VOID, threaded=True)  # fmt: skip
    program.add([jump_slot, access.tlb_entry])
    builder = StencilBuilder(function)
    first = StencilTranslator(program, function, builder, cx, _holes(key), on_stack=_on_stack(key))
    second = key >> formkey.KEY_SECOND
    Instruction(first, row).build(fall_through=bool(second))
    if second:
        following = StencilTranslator(program, function, builder, cx, set(), on_stack=False)
        following.rec = builder.ptradd(first.rec, RECORD_SIZE)
        Instruction(following, opcodes().rows[second]).build()
    first.finish()
    _check(function, builder.bails)
    return function


def _on_stack(key: int) -> bool:
    """Whether a form accesses memory at the stack pointer only, and by at most 8 bytes at once."""
    cx = context_of(key)
    return "stack" in row_of(key).attrs and cx.ea == "none" and not cx.segmented


def _holes(key: int) -> set[str]:
    """The fields that become constants: not those that may need 64 bits often."""
    row, cx = row_of(key), context_of(key)
    holes = set(HOLES)
    if cx.ea == "disp" and cx.address_size == 64:
        holes.add("far")  # an address that takes 64 bits
    elif cx.ea not in ("base", "sib"):
        holes.discard("disp")
    specs = [operand_spec(code) for code in row.operands]
    kinds = [kind for kind, _ in specs]
    if row.vex or kinds.count(Kind.I) > 1 or (cx.operand_size == 64 and (Kind.I, "v") in specs):
        holes.discard("imm")
    elif cx.operand_size < 64 and kinds and kinds[0] in _INTEGER and specs[0][1] in _NARROW:
        holes.add("low")  # the 32 bits that it has
    registers = [kind for kind in kinds if kind in _SLOTTED
                 and not (kind in _MEMORY and cx.ea != "none")]  # fmt: skip
    return holes | {f"near_{slot}" for slot, kind in zip("ab", registers, strict=False)
                    if kind in _GENERAL}  # fmt: skip


def _check(function: Function, bails: Block) -> None:
    """That some way through does not bail, and that none has changed anything before it does."""
    made = {op.out.id: op for block in function.blocks for op in block.ops if op.out is not None}
    env = function.params[0].id
    changed: dict[str, bool] = {function.blocks[0].label: False}
    todo, leaves = [function.blocks[0]], False
    while todo:
        block = todo.pop()
        if block is bails:
            if changed[block.label]:
                raise NoStencil("bails too late")
            continue
        dirty = changed[block.label] or any(_changes(op, made, env) for op in block.ops)
        leaves = leaves or block.ops[-1].name == "tail"
        for target in _targets(block.ops[-1]):
            if target.label not in changed or (dirty and not changed[target.label]):
                changed[target.label] = dirty
                todo.append(target)
    if not leaves:
        raise NoStencil("always bails")


def _changes(op: Op, made: dict[int, Op], env: int) -> bool:
    """Whether an op stores to the CPU state, or does what can't be done twice."""
    if op.name in ("fill", "setmxcsr"):
        return True
    if op.name != "st":
        return False
    pointer = op.args[1]
    while pointer.id in made and made[pointer.id].name == "ptradd":
        pointer = made[pointer.id].args[0]
    return pointer.id == env or pointer.id in made


def _targets(last: Op) -> list[Block]:
    found = [last.attrs.get(name) for name in ("target", "then", "otherwise", "default")]
    cases = last.attrs.get("cases", ())
    assert isinstance(cases, tuple)
    return [block for block in (*found, *(c[1] for c in cases)) if isinstance(block, Block)]
