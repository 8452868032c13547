"""The CPU state in a region: registers are locals, and flags are not computed until asked for.

`StateBuilder` is a `Builder` to which a place in the CPU state is a variable: loads and stores
through a constant offset from env become reads and writes of locals, which LLVM turns into SSA
values. What the lowerings do not know they need not know.

Flags are *lazy*: a slot may hold a thunk that emits its value where it is read. A hot loop reads
hardly any, and the exits, which need them all, compute them on the cold side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pytcg.ir.blocks import Block, Function, Local, Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, INT_OF_BITS, Type
from pytcg_x86.core.state import ENV
from pytcg_x86.region.flags import KIND_SIZE, Operation

Thunk = Callable[[], Value]


class NotInRegion(Exception):
    """An instruction that a region leaves to threaded code."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the CPU state that lives in a local."""

    number: int
    offset: int
    type: Type

    @property
    def size(self) -> int:
        return BITS[self.type] // 8


def _parts() -> list[Part]:
    places = [(ENV.offset("gpr", i), Type.I64) for i in range(16)]
    places += [(ENV.offset(name, i), Type.I128) for name in ("xmm", "ymm_high") for i in range(16)]
    places += [(ENV.offset("flag_z"), Type.I64), (ENV.offset("flag_s"), Type.I64)]
    places += [(ENV.offset(name), Type.I8) for name in ("flag_c", "flag_o", "flag_x")]
    places += [(ENV.offset("fp_register", 2 * i), Type.F80) for i in range(8)]
    places += [(ENV.offset("fp_tag", i), Type.I8) for i in range(8)]
    places += [(ENV.offset(name), Type.I16)
               for name in ("fp_status", "fp_last", "fp_cs", "fp_ds")]  # fmt: skip
    places += [(ENV.offset("fp_top"), Type.I32), (ENV.offset("fp_ip"), Type.I64),
               (ENV.offset("fp_dp"), Type.I64)]  # fmt: skip
    return [Part(number, *place) for number, place in enumerate(places)]


PARTS = _parts()
_PART_AT = {part.offset + i: part for part in PARTS for i in range(part.size)}
FLAG_PARTS = {name: _PART_AT[ENV.offset(f"flag_{name}")] for name in "zscox"}
FLAG_NUMBERS = frozenset(part.number for part in FLAG_PARTS.values())
TOP = _PART_AT[ENV.offset("fp_top")]
"""The x87 stack's top: known while a region is built, so that ST(i) is a part."""
_FP_ARRAYS = ENV.offset("fp_register"), ENV.offset("fp_tag")
_ZERO = ENV.offset("zero")


_SIZE_CODES = {8: 0, 16: 1, 32: 2, 64: 3}


class EnvPointer(Value):
    """A pointer to a known place in the CPU state; becomes an op only where it must."""

    __slots__ = ("offset",)

    def __init__(self, builder: Builder, offset: int):
        super().__init__(builder, Type.PTR, -1)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Recipe:
    """The operation whose flags these are, as `flags_settle` knows it."""

    operation: Operation
    a: Value
    b: Value

    @property
    def kind(self) -> int:
        return self.operation | _SIZE_CODES[self.a.bits] << KIND_SIZE

    @property
    def keeps_carry(self) -> bool:
        return self.operation in (Operation.INC, Operation.DEC)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the flags are the flags of, as far as conditions want to know: ``a - b``."""

    a: Value
    b: Value


@dataclass(slots=True)
class FlagState:
    """Where the flags are at a point of a region.

    A slot with a thunk in ``lazy`` is what that emits. The others are in their locals, unless the
    state is ``merged``: then the local `kind` tells whether they are, or what they are the flags
    of. ``recipe`` says what the lazy slots are the flags of, if it is one operation's.
    """

    lazy: dict[int, Thunk] = field(default_factory=dict)
    comparison: Comparison | None = None
    recipe: Recipe | None = None
    merged: bool = False

    def copy(self) -> FlagState:
        return FlagState(dict(self.lazy), self.comparison, self.recipe, self.merged)


class StateBuilder(Builder):
    """A builder whose env lives in locals."""

    def __init__(self, function: Function):
        super().__init__(function)
        self.env = function.params[0]
        self.locals = [self._part_local(part) for part in PARTS]
        self.used: set[int] = set()
        self.known: dict[int | tuple[str, int] | tuple[str, int, int], Value] = {}
        """Values that hold here: parts by number, what else is kept by a name and ids."""
        self.flags = FlagState()
        self.top: int | None = None
        """The x87 stack's top here, or that it is not known."""
        self.dirty: set[int] = set()
        """Parts that differ from env where the region is left."""
        self._sums: dict[int, tuple[int, int]] = {}
        """What is a value and a constant: their id and number by the sum's id."""
        self.kind = self.local(Type.I32, "cc_kind")
        self.cc = self.local(Type.I64, "cc_a"), self.local(Type.I64, "cc_b")

    def _part_local(self, part: Part) -> Local:
        local = self.local(part.type, f"part{part.number}_")
        local.vector = part.type is Type.I128
        return local

    # Blocks ------------------------------------------------------------------------------------

    def place(self, block: Block, *, keep: bool = False) -> None:
        """Make ``block`` current; ``keep`` if it is reached from the present one only."""
        super().place(block)
        if not keep:
            self.known = {}

    # Ops ---------------------------------------------------------------------------------------

    def _offset(self, pointer: Value) -> int | None:
        if isinstance(pointer, EnvPointer):
            return pointer.offset
        return 0 if pointer is self.env else None

    def plain(self, value: Value) -> Value:
        """A pointer into env as an op."""
        if isinstance(value, EnvPointer):
            return super().op("ptradd", self.env, self.const(value.offset, Type.I64))
        return value

    def op(self, name: str, /, *args: Value, **attrs: object) -> Value:
        """Emit an op, unless it is about state that lives in locals."""
        if name == "ptradd":
            at, offset = self._offset(args[0]), args[1].const
            if at is not None and offset is not None:
                return EnvPointer(self, at + (offset ^ 1 << 63) - (1 << 63))
            if at in _FP_ARRAYS:
                raise NotInRegion("an x87 register, but not which")
        elif name == "ld":
            at, type_ = self._offset(args[0]), attrs["type"]
            assert isinstance(type_, Type)
            if at is not None and at in _PART_AT:
                return self.read_part(_PART_AT[at], at, type_)
            if at == _ZERO:
                return self.const(0, type_)
        elif name == "ptrdiff":
            left, right = self._offset(args[0]), self._offset(args[1])
            if left is not None and right is not None:
                return self.const(left - right, Type.I64)
        elif name in ("call", "callptr"):
            self._check_call(attrs)
        elif name in ("add", "sub") and args[1].const is not None and args[0].bits == 64:
            return self._sum(args[0], args[1].const if name == "add" else -args[1].const)
        elif name in ("add", "shl") and args[0].bits == 64 and args[0].const is None:
            return self._once(name, *args)
        return super().op(name, *map(self.plain, args), **attrs)

    def _once(self, name: str, a: Value, b: Value) -> Value:
        """What addresses are made of: the same operands make the same value."""
        if b.const is None:
            key = name, a.id, b.id
        elif name == "shl":
            key = "shl by", a.id, b.const
        else:
            return super().op(name, a, b)
        value = self.known.get(key)
        if value is None:
            value = self.known[key] = super().op(name, a, b)
        return value

    def _sum(self, a: Value, number: int) -> Value:
        """A value and a constant; remembered, so that addresses can be compared."""
        result = super().op("add", a, self.const(number, Type.I64))
        if result.const is None and result is not a:
            root, more = self.parts_of_sum(a)
            self._sums[result.id] = root, (more + number + (1 << 63)) % (1 << 64) - (1 << 63)
        return result

    def parts_of_sum(self, value: Value) -> tuple[int, int]:
        """``value`` as the id of another and a number added to it; all constants have one id."""
        if value.const is not None:
            return -1, value.const
        return self._sums.get(value.id, (value.id, 0))

    def effect(self, name: str, /, *args: Value, **attrs: object) -> None:
        """The same for ops without a result."""
        if name == "st":
            at = self._offset(args[1])
            if at is not None and at in _PART_AT:
                self.write_part(_PART_AT[at], at, args[0])
                return
        elif name in ("call", "callptr"):
            self._check_call(attrs)
        elif name in ("ret", "tail"):
            raise NotInRegion("leaves threaded code")
        super().effect(name, *map(self.plain, args), **attrs)

    def _check_call(self, attrs: dict[str, object]) -> None:
        raise NotInRegion(str(attrs.get("callee", "a host function")))

    def emit(self, name: str, /, *args: Value, **attrs: object) -> Value:
        """An op as it is: no state in locals is looked at."""
        return super().op(name, *args, **attrs)

    def emit_effect(self, name: str, /, *args: Value, **attrs: object) -> None:
        super().effect(name, *args, **attrs)

    # Parts -------------------------------------------------------------------------------------

    def whole(self, part: Part) -> Value:
        """A part's present value."""
        if part is TOP and self.top is not None:
            self.used.add(part.number)
            return self.const(self.top, Type.I32)
        thunk = self.flags.lazy.get(part.number)
        if thunk is not None:
            return thunk()
        if self.flags.merged and part.number in FLAG_NUMBERS:
            self.resolve_flags()
        value = self.known.get(part.number)
        if value is None:
            self.used.add(part.number)
            value = self.known[part.number] = self.get(self.locals[part.number])
        return value

    def read_part(self, part: Part, at: int, type_: Type) -> Value:
        """The ``type_`` at offset ``at`` within a part."""
        if part is TOP and self.top is None:
            raise NotInRegion("the x87 stack's top is not known")
        value = self.whole(part)
        if type_ is part.type:
            return value
        if part.type is Type.F80:
            raise NotInRegion("an x87 register in pieces")
        if part.type is Type.I128 and BITS[type_] >= 32:
            bits = BITS[type_]
            index = self.const((at - part.offset) * 8 // bits, Type.I64)
            return self.op("vlane", value, index, lane=bits, type=type_)
        return (value >> (at - part.offset) * 8).trunc(INT_OF_BITS[BITS[type_]])

    def write_part(self, part: Part, at: int, value: Value) -> None:
        """Store at offset ``at`` within a part."""
        if part is TOP:
            self.top = value.const
        if value.type is not part.type:
            if part.type is Type.F80:
                raise NotInRegion("an x87 register in pieces")
            value = self._merged(part, (at - part.offset) * 8, value)
        if part.number in FLAG_NUMBERS:
            if self.flags.merged:
                self.resolve_flags()
            self.flags.lazy.pop(part.number, None)
            self.flags.comparison = self.flags.recipe = None
        self.set_part(part, value)

    def set_part(self, part: Part, value: Value) -> None:
        self.used.add(part.number)
        self.dirty.add(part.number)
        self.known[part.number] = value
        self.set(self.locals[part.number], value)

    def _merged(self, part: Part, shift: int, value: Value) -> Value:
        old = self.whole(part)
        if part.type is Type.I128 and value.bits >= 32:
            index = self.const(shift // value.bits, Type.I64)
            return self.op("vinsert", old, value, index, lane=value.bits)
        mask = ((1 << value.bits) - 1) << shift
        return (old & ~mask) | (value.zext(part.type) << shift)

    def stored_top(self) -> Value:
        """The x87 stack's top as it is when the code runs."""
        self.used.add(TOP.number)
        return self.get(self.locals[TOP.number])

    # Flags -------------------------------------------------------------------------------------

    def defer(self, thunks: dict[int, Thunk], comparison: Comparison | None,
              recipe: Recipe | None) -> None:  # fmt: skip
        """Flag slots become what the thunks say."""
        if self.flags.merged:
            if thunks.keys() == FLAG_NUMBERS:
                self.flags = FlagState()
            else:
                self.resolve_flags(carry=recipe is not None)
        self.flags.lazy.update(thunks)
        self.flags.comparison = comparison
        self.flags.recipe = recipe
        self.dirty.update(thunks)
        self.used.update(thunks)

    def merge_flags(self) -> None:
        """Before a join: put the flags into locals, as slots or as an operation on operands."""
        state, self.flags = self.flags, FlagState(merged=True)
        if state.merged:
            return
        recipe = state.recipe
        if recipe is not None:
            carry = state.lazy.get(FLAG_PARTS["c"].number)
            if recipe.keeps_carry and carry is not None:
                self.set_part(FLAG_PARTS["c"], carry())
            for local, value in zip(self.cc, (recipe.a, recipe.b), strict=True):
                self.set(local, value.zext(Type.I64))
        else:
            for number, thunk in state.lazy.items():
                self.set_part(PARTS[number], thunk())
        self.set(self.kind, self.const(recipe.kind if recipe is not None else 0, Type.I32))
        self.dirty |= FLAG_NUMBERS
        self.used |= FLAG_NUMBERS

    def resolve_flags(self, *, carry: bool = False) -> None:
        """Make a merged state one in slots; ``carry`` if only CF is needed."""
        self.flags = FlagState()
        call, after = self.new_block("resolve"), self.new_block("resolved")
        kind, first = self.get(self.kind), self.known
        right = (kind & 15).ult(Operation.ADD) if carry else kind.eq(0)
        self.brif(right, after, call)
        self.place(call)
        self.store_flags()
        self.settle_stored_flags()
        for part in FLAG_PARTS.values():
            self.set_part(part, self.emit("ld", self.state_place(part.offset), type=part.type))
        self.br(after)
        self.place(after)
        self.known = {n: v for n, v in first.items() if n not in FLAG_NUMBERS}
        self.set(self.kind, self.const(0, Type.I32))

    def load_parts(self) -> None:
        """Load all parts that the region uses from env, and what the flags are the flags of."""
        for number in sorted(self.used | FLAG_NUMBERS):
            part = PARTS[number]
            value = self.emit("ld", self.state_place(part.offset), type=part.type)
            self.set(self.locals[number], value)
        for name, local, type_ in self._operation():
            self.set(local, self.emit("ld", self.state_place(ENV.offset(name)), type=type_))

    def store_parts(self, *, settled: bool) -> None:
        """Store what the region changes to env; with ``settled`` the flags all in their slots."""
        self.flags = FlagState(merged=True)
        self.store_flags()
        if settled:
            self.settle_if_needed()
        for number in sorted(self.dirty - FLAG_NUMBERS):
            part = PARTS[number]
            self.emit_effect("st", self.whole(part), self.state_place(part.offset))

    def settle_if_needed(self) -> None:
        """Put the flags of a stored state into their slots."""
        settle, settled = self.new_block("settle"), self.new_block("settled")
        self.brif(self.get(self.kind).eq(0), settled, settle)
        self.place(settle)
        self.settle_stored_flags()
        self.br(settled)
        self.place(settled)

    def _operation(self) -> list[tuple[str, Local, Type]]:
        a, b = self.cc
        return [("cc_kind", self.kind, Type.I32), ("cc_a", a, Type.I64), ("cc_b", b, Type.I64)]

    def store_flags(self) -> None:
        """Store a merged state, all of it, to env."""
        for part in FLAG_PARTS.values():
            self.emit_effect("st", self.get(self.locals[part.number]),
                             self.state_place(part.offset))  # fmt: skip
        for name, local, _ in self._operation():
            self.emit_effect("st", self.get(local), self.state_place(ENV.offset(name)))

    def settle_stored_flags(self) -> None:
        self.emit_effect("call", self.env, callee="flags_settle", type=Type.VOID, cold=True)

    def state_place(self, offset: int) -> Value:
        """A pointer into env, as an op."""
        return self.emit("ptradd", self.env, self.const(offset, Type.I64))


def truncate(function: Function, blocks: int, block: Block, ops: int) -> None:
    """Take back what was emitted since there were that many blocks and ops in ``block``."""
    del function.blocks[blocks:]
    del block.ops[ops:]
