"""Arithmetic flags: lowerings say what the flags become; the slots are stored after write-back.

The slots and their meaning are described in `pytcg_x86.core.state`. A faulting store must leave the
flags alone, so everything here is deferred until `commit`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type

FLAG_BITS = {"flag_z": 1, "flag_s": 2, "flag_c": 4, "flag_o": 8, "flag_x": 16}
ALL_FLAGS = 31
OPAQUE = 1 << 16
"""In a form's effects: it may fault or call helpers."""

if TYPE_CHECKING:
    from pytcg_x86.core.translate import Translator

_SLOTS = {"z": ("flag_z", Type.I64), "s": ("flag_s", Type.I64), "c": ("flag_c", Type.I8),
          "o": ("flag_o", Type.I8), "x": ("flag_x", Type.I8)}  # fmt: skip


class Flags:
    """Deferred updates and tests of the arithmetic flags of one instruction."""

    def __init__(self, translator: Translator):
        self.t = translator
        self.pending: dict[str, Value] = {}

    # What the flags become ---------------------------------------------------------------------

    def result(self, value: Value) -> None:
        """ZF, SF and PF from ``value``."""
        wide = value.sext(Type.I64)
        self.pending["z"] = self.pending["s"] = wide

    def add(self, result: Value, a: Value, b: Value) -> None:
        """All flags of result = a + b."""
        op = self.t.b.op
        self.put(cf=op("addc", a, b), of=op("addo", a, b))
        self._auxiliary(a ^ b)
        self.result(result)

    def sub(self, result: Value, a: Value, b: Value) -> None:
        """All flags of result = a - b."""
        op = self.t.b.op
        self.put(cf=op("subb", a, b), of=op("subo", a, b))
        self._auxiliary(a ^ b)
        self.result(result)

    def adc(self, result: Value, a: Value, b: Value, carry: Value) -> None:
        """All flags of result = a + b + carry (carry: i1)."""
        op = self.t.b.op
        c = op("or", op("addc", a, b), op("addc", a + b, carry.zext(a.type)))
        self.put(cf=c, of=((a ^ result) & (b ^ result)).slt(0))
        self._auxiliary(a ^ b)
        self.result(result)

    def sbb(self, result: Value, a: Value, b: Value, borrow: Value) -> None:
        """All flags of result = a - b - borrow (borrow: i1)."""
        op = self.t.b.op
        c = op("or", op("subb", a, b), op("subb", a - b, borrow.zext(a.type)))
        self.put(cf=c, of=((a ^ b) & (a ^ result)).slt(0))
        self._auxiliary(a ^ b)
        self.result(result)

    def logic(self, result: Value) -> None:
        """AND, OR, XOR, TEST: CF = OF = 0; AF, undefined, becomes 0 as on hardware."""
        zero = self.t.b.const(0, Type.I1)
        self.put(cf=zero, of=zero)
        self.result(result)
        self.put(af=zero)

    def put(self, *, cf: Value | None = None, of: Value | None = None, zf: Value | None = None,
            af: Value | None = None) -> None:  # fmt: skip
        """Set single flags from i1 values; the others stay. AF comes after `result`."""
        if cf is not None:
            self.pending["c"] = cf.zext(Type.I8)
        if of is not None:
            self.pending["o"] = of.zext(Type.I8)
        if zf is not None:
            self.pending["z"] = (zf ^ 1).zext(Type.I64)
        if af is not None:
            sign = self.pending["s"] if "s" in self.pending else self.t.ld_env("flag_s")
            self.pending["x"] = (af.zext(Type.I8) << 4) ^ sign.trunc(Type.I8)

    def keep_carry(self) -> None:
        """CF stays what it was."""
        self.pending.pop("c", None)

    def load(self, value: Value) -> None:
        """SF ZF AF PF CF and OF from an EFLAGS image (any width of 8 or more bits)."""
        wide = value.zext(Type.I64) if value.bits < 64 else value
        pf, sf = (wide >> 2) & 1, (wide >> 7) & 1
        self.pending["z"] = ((wide >> 6) & 1) ^ 1
        self.pending["s"] = (sf << 63) | (pf ^ 1)
        self.pending["c"] = (wide & 1).trunc(Type.I8)
        if value.bits > 8:
            self.pending["o"] = ((wide >> 11) & 1).trunc(Type.I8)
        self.pending["x"] = (wide & 0x10).trunc(Type.I8) ^ (pf ^ 1).trunc(Type.I8)

    def _auxiliary(self, difference: Value) -> None:
        self.pending["x"] = difference.resize(Type.I8)

    def commit(self) -> None:
        """Store what was deferred; nothing when the form knows the flags to be dead."""
        effects = self.t.effects
        for slot, value in self.pending.items():
            name = _SLOTS[slot][0]
            if self.t.unconditional:
                effects.writes |= FLAG_BITS[name]
            else:
                effects.reads |= FLAG_BITS[name]
            if not self.t.cx.dead_flags:
                self.t.st_env(name, value)
        self.pending = {}

    # What the flags are ------------------------------------------------------------------------

    def cf(self) -> Value:
        return self.t.ld_env("flag_c").ne(0)

    def of(self) -> Value:
        return self.t.ld_env("flag_o").ne(0)

    def zf(self) -> Value:
        return self.t.ld_env("flag_z").eq(0)

    def sf(self) -> Value:
        return self.t.ld_env("flag_s").slt(0)

    def pf(self) -> Value:
        low = self.t.ld_env("flag_s").trunc(Type.I8)
        return (self.t.b.op("popcnt", low) & 1).eq(0)

    def af(self) -> Value:
        mixed = self.t.ld_env("flag_x") ^ self.t.ld_env("flag_s").trunc(Type.I8)
        return (mixed & 0x10).ne(0)

    def condition(self, code: int) -> Value:
        """Condition code 0-15 as encoded in Jcc, SETcc, CMOVcc (SDM vol. 1, appendix B)."""
        tests = (self.of, self.cf, self.zf, self._below_or_equal, self.sf, self.pf, self._less,
                 self._less_or_equal)  # fmt: skip
        value = tests[code >> 1]()
        return value ^ 1 if code & 1 else value

    def _below_or_equal(self) -> Value:
        return self.cf() | self.zf()

    def _less(self) -> Value:
        return self.sf() ^ self.of()

    def _less_or_equal(self) -> Value:
        return self.zf() | self._less()

    def image(self) -> Value:
        """SF ZF AF PF CF OF at their places in EFLAGS (i32)."""
        bits = ((self.cf, 0), (self.pf, 2), (self.af, 4), (self.zf, 6), (self.sf, 7), (self.of, 11))
        total = self.t.b.const(0, Type.I32)
        for flag, position in bits:
            total = total | (flag().zext(Type.I32) << position)
        return total
