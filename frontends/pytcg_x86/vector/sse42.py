"""SSE4.2's string comparisons: PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM (SDM vol. 1, 4.1 of 2B)."""

from __future__ import annotations

from enum import IntFlag

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_native import i8, i16, i64, native, u8, u16, u32, u64
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector.operands import immediate, lane
from pytcg_x86.vector.sse_lanes import bit_mask

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.3a.60 PCMPESTRM Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.61 PCMPESTRI Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.62 PCMPISTRM Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.63 PCMPISTRI Vx,Wx,Ib   sse ?sse4.2
""")


class Control(IntFlag):
    """Bits of the immediate (SDM vol. 2B, 4.1)."""

    WORDS = 1 << 0
    SIGNED = 1 << 1
    AGGREGATION = 3 << 2
    NEGATE = 1 << 4
    MASKED = 1 << 5       # negate only where the second string is
    HIGHEST = 1 << 6      # the index of the last; a mask of whole elements


EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED = range(4)


@native
def element(low: u64, high: u64, index: u32, control: u32) -> i64:
    """Element ``index`` of a string, extended as the control says."""
    shift: u64 = u64(index) << (4 if (control & Control.WORDS) != 0 else 3)
    half: u64 = low if shift < 64 else high
    bits: u64 = half >> (shift & 63)
    if (control & Control.WORDS) != 0:
        return i64(i16(u16(bits))) if (control & Control.SIGNED) != 0 else i64(bits & 0xFFFF)
    return i64(i8(u8(bits))) if (control & Control.SIGNED) != 0 else i64(bits & 0xFF)


@native
def string_length(low: u64, high: u64, control: u32) -> u32:
    """Elements before the first that is 0."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    length: u32 = 0
    while length < count and element(low, high, length, control) != 0:
        length += 1
    return length


@native
def explicit_length(value: u64, control: u32) -> u32:
    """The absolute value of a length register, at most the number of elements."""
    count: u64 = 8 if (control & Control.WORDS) != 0 else 16
    size: u64 = value
    if i64(value) < 0:
        size = 0 - value
    return u32(size) if size < count else u32(count)


@native
def strings_match(low: u64, high: u64, length: u32, low2: u64, high2: u64, length2: u32, at: u32,
                  control: u32) -> bool:  # fmt: skip
    """Whether the first string, as the aggregation reads it, matches the second's element."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    aggregation: u32 = control >> 2 & 3
    if aggregation == EQUAL_ORDERED:
        i: u32 = 0
        while i < length and at + i < count:
            if at + i >= length2:
                return False
            if element(low, high, i, control) != element(low2, high2, at + i, control):
                return False
            i += 1
        return True
    if aggregation == EQUAL_EACH:
        if at >= length or at >= length2:
            return at >= length and at >= length2
        return element(low, high, at, control) == element(low2, high2, at, control)
    if at >= length2:
        return False
    wanted: i64 = element(low2, high2, at, control)
    k: u32 = 0
    while k < length:
        first: i64 = element(low, high, k, control)
        if aggregation == EQUAL_ANY:
            if first == wanted:
                return True
            k += 1
        else:
            if k + 1 >= length:
                return False
            if first <= wanted and wanted <= element(low, high, k + 1, control):
                return True
            k += 2
    return False


@native
def compare_strings(low: u64, high: u64, length: u32, low2: u64, high2: u64, length2: u32,
                    control: u32) -> u32:  # fmt: skip
    """IntRes2: a bit an element of the second string."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    result: u32 = 0
    for at in range(count):
        if strings_match(low, high, length, low2, high2, length2, at, control):
            result |= u32(1) << at
    if (control & Control.NEGATE) != 0:
        all_: u32 = (u32(1) << count) - 1
        result ^= (u32(1) << length2) - 1 if (control & Control.MASKED) != 0 else all_
    return result


# Lowerings -------------------------------------------------------------------------------------


def compared(t: Translator, a: Value, b: Value, control: Value, *, explicit: bool) -> Value:
    """IntRes2 (i32) of two vectors; the flags that it makes. ``control`` is an i32."""
    halves = [[lane(t, v, i, 64) for i in (0, 1)] for v in (a, b)]
    if explicit:
        wide = t.cx.operand_size == 64
        registers = (t.ld_env("gpr", 0), t.ld_env("gpr", 2))
        numbers = [r if wide else r.trunc(Type.I32).sext(Type.I64) for r in registers]
        lengths = [t.call(explicit_length, n, control) for n in numbers]
    else:
        lengths = [t.call(string_length, *v, control) for v in halves]
    first, second = lengths
    assert first is not None and second is not None
    result = t.call(compare_strings, *halves[0], first, *halves[1], second, control)
    assert result is not None
    count = _count(t, control)
    clear = t.const(0, 1)
    short = first.ult(count)
    t.flags.result(t.b.select(short, t.const((1 << 64) - 2, 64), t.const(1, 64)))  # PF clear
    t.flags.put(cf=result.ne(0), of=(result & 1).ne(0), af=clear, zf=second.ult(count))
    return result


def _count(t: Translator, control: Value) -> Value:
    return t.b.select((control & 1).ne(0), t.const(8, 32), t.const(16, 32))


def _index(t: Translator, result: Value, control: Value) -> Value:
    """The place of the first or last bit, the number of elements if there is none."""
    last = 31 - t.b.op("clz", result)
    found = t.b.select((control & Control.HIGHEST).ne(0), last, t.b.op("ctz", result))
    return t.b.select(result.eq(0), _count(t, control), found)


def _mask(t: Translator, result: Value, control: Value) -> Value:
    """The bits themselves, or elements of ones."""
    wide = result.zext(Type.I64)
    whole = t.b.select((control & 1).ne(0), bit_mask(t, wide, 16), _byte_mask(t, wide))
    return t.b.select((control & Control.HIGHEST).ne(0), whole, wide.zext(Type.I128))


def _byte_mask(t: Translator, bits: Value) -> Value:
    """Byte i all ones where bit i is set."""
    numbers = t.const(sum(1 << (i & 7) << 8 * i for i in range(16)), 128)
    every = t.const(0x0101_0101_0101_0101, 64)
    low, high = ((bits >> at & 0xFF) * every for at in (0, 8))
    spread = low.zext(Type.I128) | high.zext(Type.I128) << 64
    return t.b.op("veq", spread & numbers, numbers, lane=8)


def _string_comparison(mnemonic: str, *, explicit: bool, mask: bool) -> None:
    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, first: Operand, second: Operand, control: Operand) -> None:
        number = immediate(t.read(control)).trunc(Type.I32)
        result = compared(t, t.read(first), t.read(second), number, explicit=explicit)
        if mask:
            t.st_env("xmm", _mask(t, result, number), 0)
        else:
            t.write(t.reg(1, 32), _index(t, result, number))


for _letter, _explicit in (("E", True), ("I", False)):
    _string_comparison(f"PCMP{_letter}STRI", explicit=_explicit, mask=False)
    _string_comparison(f"PCMP{_letter}STRM", explicit=_explicit, mask=True)
