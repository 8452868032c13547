"""Data movement: MOV MOVZX MOVSX XCHG CMPXCHG LEA XLAT BSWAP MOVBE CMOVcc SETcc CBW CWD.

One vCPU runs at a time, so a locked exchange needs nothing that an unlocked one has not.
"""

from __future__ import annotations

from collections.abc import Callable

from pytcg.ir.blocks import Value
from pytcg.ir.ops import INT_OF_BITS, Type
from pytcg_x86.core.state import Vector
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.opcodes import CONDITIONS
from pytcg_x86.decode.table import lower, rows

UNDEFINED: dict[str, str] = {}

rows("""
88          MOV     Eb,Gb
89          MOV     Ev,Gv
8a          MOV     Gb,Eb
8b          MOV     Gv,Ev
a0          MOV     AL,Ob
a1          MOV     rAX,Ov
a2          MOV     Ob,AL
a3          MOV     Ov,rAX
b0+         MOV     Zb,Ib
b8+         MOV     Zv,Iv
c6/0        MOV     Eb,Ib
c7/0        MOV     Ev,Iz
0f.b6       MOVZX   Gv,Eb
0f.b7       MOVZX   Gv,Ew
0f.be       MOVSX   Gv,Eb
0f.bf       MOVSX   Gv,Ew
63          MOVSXD  Gv,Ez         o64
86          XCHG    Eb,Gb         lock
87          XCHG    Ev,Gv         lock
90+         XCHG    Zv,rAX
8d/m        LEA     Gv,M
d7          XLAT    Xb
0f.c8+      BSWAP   Zv
np:0f.38.f0/m  MOVBE  Gv,Mv ?movbe
np:0f.38.f1/m  MOVBE  Mv,Gv ?movbe
66:0f.38.f0/m  MOVBE  Gv,Mv ?movbe
66:0f.38.f1/m  MOVBE  Mv,Gv ?movbe
98          CBW
99          CWD
0f.b0       CMPXCHG Eb,Gb         lock
0f.b1       CMPXCHG Ev,Gv         lock
0f.c7/1/m   CMPXCHG8B My          lock ?cx8
""")


@lower("MOV", dst="w")
def mov(t: Translator, src: Value) -> Value:
    """MOV: DEST := SRC (SDM vol. 2B)."""
    return src


@lower("MOVZX", dst="w")
def movzx(t: Translator, src: Value) -> Value:
    """MOVZX: DEST := SRC, zero-extended (SDM vol. 2B)."""
    return src.zext(INT_OF_BITS[t.cx.operand_size])


@lower("MOVSX", "MOVSXD", dst="w")
def movsx(t: Translator, src: Value) -> Value:
    """MOVSX, MOVSXD: DEST := SRC, sign-extended (SDM vol. 2B)."""
    return src.sext(INT_OF_BITS[t.cx.operand_size])


@lower("XCHG", dst="raw")
def xchg(t: Translator, dst: Operand, src: Operand) -> None:
    """XCHG: DEST and SRC swapped; the memory store, which may fault, first (SDM vol. 2D)."""
    left, write_back = t.modify(dst)
    right = t.read(src)
    write_back(right)
    t.write(src, left)


@lower("LEA", dst="raw")
def lea(t: Translator, dst: Operand, src: Operand) -> None:
    """LEA: DEST := the effective address; no segment is looked at (SDM vol. 2A)."""
    t.write(dst, t.offset().resize(dst.type))


@lower("XLAT", dst="raw")
def xlat(t: Translator, table: Operand) -> None:
    """XLAT: AL := [DS:rBX + AL] (SDM vol. 2D); its row's X stands for the segment alone."""
    accumulator = t.reg(0, 8)
    offset = t.wrap_offset(t.ld_env("gpr", 3) + t.read(accumulator).zext(Type.I64))
    t.write(accumulator, t.load(8, t.address_at(offset, 8)))


@lower("BSWAP")
def bswap(t: Translator, dst: Value) -> Value:
    """BSWAP: bytes reversed; of a word, undefined, processors make 0 (SDM vol. 2A)."""
    return t.const(0, 16) if dst.bits == 16 else t.b.op("bswap", dst)


@lower("MOVBE", dst="w")
def movbe(t: Translator, src: Value) -> Value:
    """MOVBE: DEST := SRC, bytes reversed (SDM vol. 2B)."""
    return t.b.op("bswap", src)


@lower("CBW", dst="raw")
def cbw(t: Translator) -> None:
    """CBW, CWDE, CDQE: the lower half of rAX sign-extended into rAX (SDM vol. 2A)."""
    size = t.cx.operand_size
    half = t.read(t.reg(0, size // 2))
    t.write(t.reg(0, size), half.sext(INT_OF_BITS[size]))


@lower("CWD", dst="raw")
def cwd(t: Translator) -> None:
    """CWD, CDQ, CQO: the sign of rAX in all of rDX (SDM vol. 2A)."""
    size = t.cx.operand_size
    t.write(t.reg(2, size), t.read(t.reg(0, size)).ashr(size - 1))


def merged(t: Translator, register: Operand, condition: Value, value: Value) -> None:
    """Write a general register if ``condition``; else leave it whole, upper half included."""
    if register.bits == 32:
        wide = Operand("reg", 64, register.where)
        old = t.read(wide)
        t.write(wide, t.b.select(condition, value.zext(Type.I64), old))
    else:
        t.write(register, t.b.select(condition, value, t.read(register)))


@lower("CMPXCHG", dst="raw")
def cmpxchg(t: Translator, dst: Operand, src: Operand) -> None:
    """CMPXCHG: if rAX = DEST then DEST := SRC else rAX := DEST (SDM vol. 2A).

    DEST is written in both cases, as the bus sees it: a read-only page faults either way.
    """
    accumulator = t.reg(0, dst.bits)
    old, write_back = t.modify(dst)
    new, expected = t.read(src), t.read(accumulator)
    equal = expected.eq(old)
    if dst.is_memory:
        write_back(t.b.select(equal, new, old))
    else:
        merged(t, dst, equal, new)
    merged(t, accumulator, equal ^ 1, old)
    t.flags.sub(expected - old, expected, old)


@lower("CMPXCHG8B", dst="raw")
def cmpxchg8b(t: Translator, dst: Operand) -> None:
    """CMPXCHG8B, CMPXCHG16B: the same with rDX:rAX and rCX:rBX (SDM vol. 2A)."""
    half = dst.bits
    wide = INT_OF_BITS[2 * half]
    if half == 64:
        t.require("cx16")
        t.raise_if((t.offset() & 15).ne(0), Vector.GP, 0)
    expected, new = (_joined(t, half, wide, high, low) for high, low in ((2, 0), (1, 3)))
    old, write_back = t.modify_at(2 * half, t.address(2 * half, write=True))
    equal = expected.eq(old)
    write_back(t.b.select(equal, new, old))
    differs = equal ^ 1
    merged(t, t.reg(0, half), differs, old.trunc(dst.type))
    merged(t, t.reg(2, half), differs, (old >> half).trunc(dst.type))
    t.flags.put(zf=equal)


def _joined(t: Translator, half: int, wide: Type, high: int, low: int) -> Value:
    upper, lower_half = t.read(t.reg(high, half)), t.read(t.reg(low, half))
    return (upper.zext(wide) << half) | lower_half.zext(wide)


def _conditional(code: int, name: str) -> None:
    rows(f"""
    0f.{0x40 + code:02x}  CMOV{name}  Gv,Ev  ?cmov
    0f.{0x90 + code:02x}  SET{name}   Eb
    """)
    lower(f"CMOV{name}")(_cmov(code))
    lower(f"SET{name}", dst="w")(_set(code))


def _cmov(code: int) -> Callable[[Translator, Value, Value], Value]:
    def cmov(t: Translator, dst: Value, src: Value) -> Value:
        """CMOVcc: the load happens, and DEST's upper half is cleared, in either case."""
        return t.b.select(t.flags.condition(code), src, dst)

    return cmov


def _set(code: int) -> Callable[[Translator], Value]:
    def setcc(t: Translator) -> Value:
        """SETcc: DEST := 1 if the condition holds, else 0 (SDM vol. 2B)."""
        return t.flags.condition(code).zext(Type.I8)

    return setcc


for _code, _name in enumerate(CONDITIONS):
    _conditional(_code, _name)
