"""x87 instructions on the host's x87 unit.

The host's control word is 37Fh while guest code runs: nearest, 64 bits, all exceptions masked.
Under that control word (`env.fp_unit`; no other, and none where the host has no such unit) the
host computes what `softfloat80` does, C1 and all, as the registers in question are full: stack
faults are softfloat's.

The host's exception flags stick, as the guest's do, but come and go with other guests' programs. So
what was computed counts only if all the host's flags are the guest's already. If not, one was
raised just now or was left from elsewhere: the host's flags are cleared and softfloat, which is
exact, does the instruction. As flags stick, this is seldom.

Each function here emits one such shortcut into a lowering; `Translator.shortcut` has it and what
stands beside it in threaded code.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.exec.layout import PAGE_SIZE
from pytcg.ir.blocks import Block, Value
from pytcg.ir.ops import Type
from pytcg_x86.core.state import ENV
from pytcg_x86.core.translate import Translator
from pytcg_x86.x87.softfloat80 import Fsw
from pytcg_x86.x87.softfloat80_arith import Arith

_OPS = {Arith.ADD: ("xadd", False), Arith.MUL: ("xmul", False), Arith.SUB: ("xsub", False),
        Arith.SUBR: ("xsub", True), Arith.DIV: ("xdiv", False),
        Arith.DIVR: ("xdiv", True)}  # fmt: skip


class Stack:
    """The register stack as IR."""

    def __init__(self, t: Translator, other: Block):
        self.t = t
        self.other = other
        self.top = t.ld_env("fp_top")

    def _number(self, i: Value | int) -> Value:
        return ((self.top + i) & 7).zext(Type.I64)

    def tag(self, i: Value | int) -> Value:
        """Pointer to a tag."""
        return self.t.b.ptradd(self.t.b.ptradd(self.t.env, ENV.offset("fp_tag")), self._number(i))

    def place(self, i: Value | int) -> Value:
        """Pointer to a register."""
        registers = self.t.b.ptradd(self.t.env, ENV.offset("fp_register"))
        return self.t.b.ptradd(registers, self._number(i) << 4)

    def get(self, i: Value | int) -> Value:
        return self.t.b.ld(Type.F80, self.place(i))

    def put(self, i: Value | int, value: Value) -> None:
        self.t.b.st(value, self.place(i))

    def bits(self, i: Value | int) -> tuple[Value, ...]:
        """A register to be moved: as integers, since the unit takes its time over ten bytes, or
        as the value that a region has it as."""
        if self.t.registers_are_values:
            return (self.get(i),)
        place = self.place(i)
        return self.t.b.ld(Type.I64, place), self.t.b.ld(Type.I16, place, 8)

    def put_bits(self, i: Value | int, bits: tuple[Value, ...]) -> None:
        if self.t.registers_are_values:
            self.put(i, bits[0])
            return
        place = self.place(i)
        self.t.b.st(bits[0], place)
        self.t.b.st(bits[1], place, 8)

    def need_full(self, *indices: Value | int) -> None:
        tags = [self.t.b.ld(Type.I8, self.tag(i)) for i in indices]
        empty = tags[0] if len(tags) == 1 else tags[0] | tags[1]
        self.t.need(empty.eq(0), self.other)

    def pop(self, count: int) -> None:
        """Pop full registers."""
        for i in range(count):
            self.t.b.st(self.t.const(1, 8), self.tag(i))
        if count:
            self.t.st_env("fp_top", (self.top + count) & 7)

    def push(self, value: Value) -> None:
        """Push where `need_room` has looked."""
        self.put(7, value)
        self.pushed()

    def pushed(self) -> None:
        """Register 7 is the top now."""
        self.t.b.st(self.t.const(0, 8), self.tag(7))
        self.t.st_env("fp_top", (self.top + 7) & 7)

    def need_room(self) -> None:
        self.t.need(self.t.b.ld(Type.I8, self.tag(7)).ne(0), self.other)

    # The unit ----------------------------------------------------------------------------------

    def need_unit(self) -> None:
        """The host's unit must be the guest's."""
        control = self.t.ld_env("fp_control").zext(Type.I32)
        self.t.need(control.eq(self.t.ld_env("fp_unit")), self.other, once="the host's unit")

    def settled(self, status: Value | None = None) -> Value:
        """The status word of the last operation; all its exceptions must be the guest's."""
        word = self.t.b.op("xstatus") if status is None else status
        word = word.trunc(Type.I16)
        new = word & Fsw.EXCEPTIONS & ~self.t.ld_env("fp_status")
        self.t.need(new.eq(0), self.other)
        return word

    def codes(self, word: Value | None = None, which: int = Fsw.C1) -> None:
        """Condition codes out of a status word; C1 is cleared if there is none."""
        status = self.t.ld_env("fp_status") & (0xFFFF ^ which)
        self.t.st_env("fp_status", status if word is None else status | (word & which))


def _shortcut(t: Translator, fast: Callable[[Stack], None], slow: Callable[[], None]) -> None:
    def settle() -> None:
        t.b.effect("xclear")
        slow()

    t.shortcut(lambda other: fast(Stack(t, other)), settle)


def number(t: Translator, stack: Stack, value: Value) -> Value:
    """A float of 32 or 64 bits as 80; denormals, infinities and NaNs are left."""
    bits = value.bits
    fraction = 23 if bits == 32 else 52
    exponents = (1 << (bits - 1 - fraction)) - 1
    exponent = (value >> fraction) & exponents
    t.need((exponent - 1).ult(exponents - 1) | (value << 1).eq(0), stack.other)
    return t.b.op("xext", value.bitcast(Type.F32 if bits == 32 else Type.F64))


def arith(t: Translator, operation: Arith, i: Value, to: Value | int, pops: int,
          slow: Callable[[], None]) -> None:  # fmt: skip
    """ST(to) := ST(0) op ST(i)."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0, i)
        result = _computed(t, operation, stack.get(0), stack.get(i))
        word = stack.settled()
        stack.put(to, result)
        stack.codes(word)
        stack.pop(pops)

    _shortcut(t, fast, slow)


def arith_memory(t: Translator, operation: Arith, value: Value, slow: Callable[[], None], *,
                 integer: bool) -> None:  # fmt: skip
    """ST(0) := ST(0) op a memory operand."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0)
        b = _operand(t, stack, value, integer=integer)
        result = _computed(t, operation, stack.get(0), b)
        word = stack.settled()
        stack.put(0, result)
        stack.codes(word)

    _shortcut(t, fast, slow)


def _operand(t: Translator, stack: Stack, value: Value, *, integer: bool) -> Value:
    return t.b.op("xfromi", value) if integer else number(t, stack, value)


def _computed(t: Translator, operation: Arith, a: Value, b: Value) -> Value:
    name, reverse = _OPS[operation]
    return t.b.op(name, b, a) if reverse else t.b.op(name, a, b)


def unary(t: Translator, name: str, slow: Callable[[], None]) -> None:
    """ST(0) := op ST(0) (xsqrt, xrint)."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0)
        result = t.b.op(name, stack.get(0))
        word = stack.settled()
        stack.put(0, result)
        stack.codes(word)

    _shortcut(t, fast, slow)


def sign(t: Translator, name: str, slow: Callable[[], None]) -> None:
    """FCHS and FABS: nothing to compute with (xneg, xabs)."""

    def fast(stack: Stack) -> None:
        stack.need_full(0)
        stack.put(0, t.b.op(name, stack.get(0)))
        stack.codes()

    _shortcut(t, fast, slow)


def compare(t: Translator, other: Value | int, *, quiet: int, pops: int,
            slow: Callable[[], None], note: Callable[[Stack, Value], None] | None = None,
            ) -> None:  # fmt: skip
    """Compare ST(0) with ST(i)."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0, other)
        _compared(t, stack, stack.get(other), quiet, pops, note)

    _shortcut(t, fast, slow)


def compare_memory(t: Translator, value: Value, pops: int, slow: Callable[[], None], *,
                   integer: bool) -> None:  # fmt: skip
    """Compare ST(0) with a memory operand."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0)
        _compared(t, stack, _operand(t, stack, value, integer=integer), 0, pops, None)

    _shortcut(t, fast, slow)


def _compared(t: Translator, stack: Stack, b: Value, quiet: int, pops: int,
              note: Callable[[Stack, Value], None] | None) -> None:  # fmt: skip
    word = stack.settled(t.b.op("xucom" if quiet else "xcom", stack.get(0), b))
    if note is None:
        stack.codes(word, Fsw.CODES)
    else:
        note(stack, word)
    stack.pop(pops)


# Moves -----------------------------------------------------------------------------------------


def load_register(t: Translator, i: Value, slow: Callable[[], None]) -> None:
    """FLD ST(i)."""

    def fast(stack: Stack) -> None:
        stack.need_full(i)
        stack.need_room()
        stack.put_bits(7, stack.bits(i))
        stack.pushed()
        stack.codes()

    _shortcut(t, fast, slow)


def load_number(t: Translator, value: Value, slow: Callable[[], None], *,
                integer: bool) -> None:  # fmt: skip
    """FLD m32 and m64, FILD, FLD1, FLDZ."""

    def fast(stack: Stack) -> None:
        stack.need_room()
        stack.push(_operand(t, stack, value, integer=integer))
        stack.codes()

    _shortcut(t, fast, slow)


def load_ten(t: Translator, parts: tuple[Value, ...], slow: Callable[[], None]) -> None:
    """FLD m80."""

    def fast(stack: Stack) -> None:
        stack.need_room()
        stack.put_bits(7, parts)
        stack.pushed()
        stack.codes()

    _shortcut(t, fast, slow)


def store_register(t: Translator, i: Value, pops: int, slow: Callable[[], None]) -> None:
    """FST ST(i)."""

    def fast(stack: Stack) -> None:
        stack.need_full(0)
        stack.put_bits(i, stack.bits(0))
        t.b.st(t.const(0, 8), stack.tag(i))
        stack.codes()
        stack.pop(pops)

    _shortcut(t, fast, slow)


def exchange(t: Translator, i: Value, slow: Callable[[], None]) -> None:
    """FXCH."""

    def fast(stack: Stack) -> None:
        stack.need_full(0, i)
        a, b = stack.bits(0), stack.bits(i)
        stack.put_bits(0, b)
        stack.put_bits(i, a)
        stack.codes()

    _shortcut(t, fast, slow)


def store_number(t: Translator, type_: Type, bits: int, pops: int, note: Callable[[], None],
                 slow: Callable[[], None]) -> None:  # fmt: skip
    """FST m32 and m64, FIST: the store has the faults, nothing is changed before it."""

    def fast(stack: Stack) -> None:
        stack.need_unit()
        stack.need_full(0)
        name = "xtrunc" if type_ in (Type.F32, Type.F64) else "xtosi"
        value = t.b.op(name, stack.get(0), type=type_)
        word = stack.settled()
        if name == "xtrunc":
            value = value.bitcast(Type.I32 if bits == 32 else Type.I64)
        t.store(bits, t.address(bits, write=True), value)
        note()
        stack.codes(word)
        stack.pop(pops)

    _shortcut(t, fast, slow)


def store_ten(t: Translator, note: Callable[[], None], slow: Callable[[], None]) -> None:
    """FSTP m80, on one page."""

    def fast(stack: Stack) -> None:
        stack.need_full(0)
        address = t.address(80, write=True)
        t.need((address & (PAGE_SIZE - 1)).ule(PAGE_SIZE - 10), stack.other)
        t.store_ten(address, stack.bits(0))
        note()
        stack.codes()
        stack.pop(1)

    _shortcut(t, fast, slow)
