"""Flag instructions, NOP and its relatives, BOUND, SALC, undefined instructions."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.exceptions import raise_exception
from pytcg_x86.core.state import ENV, Flag, Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED: dict[str, str] = {}

rows("""
90          NOP               nosize
f3:90       PAUSE             nosize
0f.19       NOP     Ev        nosize ?cmov
0f.1a       NOP     Ev        nosize ?cmov
0f.1b       NOP     Ev        nosize ?cmov
0f.1c       NOP     Ev        nosize ?cmov
0f.1d       NOP     Ev        nosize ?cmov
0f.1e       NOP     Ev        nosize ?cmov
0f.1f       NOP     Ev        nosize ?cmov
9e          SAHF              i64 nosize
9f          LAHF              i64 nosize
9e          SAHF              o64 nosize ?lahf-lm
9f          LAHF              o64 nosize ?lahf-lm
f5          CMC               nosize
f8          CLC               nosize
f9          STC               nosize
fc          CLD               nosize
fd          STD               nosize
62/m        BOUND   Gv,Mv     i64
d6          SALC              i64 nosize
0f.0b       UD2               nosize
0f.b9       UD1     Gv,Ev     nosize
0f.ff       UD0     Gv,Ev     nosize
""")


@lower("NOP", "PAUSE", dst="raw")
def nop(t: Translator, *operands: Operand) -> None:
    """NOP, hint NOPs (ENDBR among them), PAUSE: nothing, not even a load (SDM vol. 2B)."""


@lower("UD0", "UD1", "UD2", dst="raw")
def undefined(t: Translator, *operands: Operand) -> None:
    """UD: #UD, for ever (SDM vol. 2D)."""
    t.call(raise_exception, t.env, t.const(Vector.UD, 32))


def _register_ah(t: Translator) -> Operand:
    return Operand("reg", 8, t.b.ptradd(t.env, ENV.offset("gpr") + 1))


@lower("LAHF", dst="raw")
def lahf(t: Translator) -> None:
    """LAHF: AH := SF ZF 0 AF 0 PF 1 CF (SDM vol. 2A)."""
    t.write(_register_ah(t), t.flags.image().trunc(Type.I8) | Flag.FIXED)


@lower("SAHF", dst="raw")
def sahf(t: Translator) -> None:
    """SAHF: SF ZF AF PF CF := AH; OF stays (SDM vol. 2B)."""
    t.flags.load(t.read(_register_ah(t)))


@lower("CLC", dst="raw")
def clc(t: Translator) -> None:
    """CLC: CF := 0."""
    t.flags.put(cf=t.b.const(0, Type.I1))


@lower("STC", dst="raw")
def stc(t: Translator) -> None:
    """STC: CF := 1."""
    t.flags.put(cf=t.b.const(1, Type.I1))


@lower("CMC", dst="raw")
def cmc(t: Translator) -> None:
    """CMC: CF := NOT CF."""
    t.flags.put(cf=t.flags.cf() ^ 1)


@lower("CLD", dst="raw")
def cld(t: Translator) -> None:
    """CLD: DF := 0."""
    t.st_env("eflags", t.ld_env("eflags") & ~Flag.DF)


@lower("STD", dst="raw")
def std(t: Translator) -> None:
    """STD: DF := 1."""
    t.st_env("eflags", t.ld_env("eflags") | Flag.DF)


@lower("BOUND", dst="raw")
def bound(t: Translator, index: Operand, bounds: Operand) -> None:
    """BOUND: #BR unless the signed index is within the two bounds in memory (SDM vol. 2A)."""
    bits = index.bits
    value, lower_bound = t.read(index), t.read(bounds)
    upper_offset = t.wrap_offset(t.offset() + bits // 8)
    upper_bound: Value = t.load(bits, t.address_at(upper_offset, bits))
    t.raise_if(value.slt(lower_bound) | upper_bound.slt(value), Vector.BR)


@lower("SALC", dst="raw")
def salc(t: Translator) -> None:
    """SALC, undocumented: AL := CF ? FFH : 0."""
    t.write(t.reg(0, 8), -t.flags.cf().zext(Type.I8))
