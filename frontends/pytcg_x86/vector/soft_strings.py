"""SSE4.2's string comparisons as code: where the immediate is not known, as the host's instruction
wants, or the host has none (`pytcg_llvm.strings` calls ``soft_`` and the op's name).

They compute what `pytcg.ir.strings` says.
"""

from __future__ import annotations

from pytcg.ir.strings import CF, EQUAL_ANY, EQUAL_EACH, EQUAL_ORDERED, OF, SF, ZF, Control
from pytcg_native import clz, ctz, i8, i16, i32, i64, native, u8, u16, u32, u64, u128


@native
def element(vector: u128, index: u32, control: u32) -> i64:
    """Element ``index`` of a string, extended as the control says."""
    shift: u32 = index << (4 if (control & Control.WORDS) != 0 else 3)
    bits: u64 = u64(vector >> u128(shift))
    if (control & Control.WORDS) != 0:
        return i64(i16(u16(bits))) if (control & Control.SIGNED) != 0 else i64(bits & 0xFFFF)
    return i64(i8(u8(bits))) if (control & Control.SIGNED) != 0 else i64(bits & 0xFF)


@native
def string_length(vector: u128, control: u32) -> u32:
    """Elements before the first that is 0."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    length: u32 = 0
    while length < count and element(vector, length, control) != 0:
        length += 1
    return length


@native
def explicit_length(value: u32, control: u32) -> u32:
    """The magnitude of a length, at most the number of elements."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    size: u32 = value
    if i32(value) < 0:
        size = 0 - value
    return size if size < count else count


@native
def strings_match(a: u128, length: u32, b: u128, length2: u32, at: u32, control: u32) -> bool:
    """Whether the first string, as the aggregation reads it, matches the second's element."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    aggregation: u32 = control >> 2 & 3
    if aggregation == EQUAL_ORDERED:
        i: u32 = 0
        while i < length and at + i < count:
            if at + i >= length2:
                return False
            if element(a, i, control) != element(b, at + i, control):
                return False
            i += 1
        return True
    if aggregation == EQUAL_EACH:
        if at >= length or at >= length2:
            return at >= length and at >= length2
        return element(a, at, control) == element(b, at, control)
    if at >= length2:
        return False
    wanted: i64 = element(b, at, control)
    k: u32 = 0
    while k < length:
        first: i64 = element(a, k, control)
        if aggregation == EQUAL_ANY:
            if first == wanted:
                return True
            k += 1
        else:
            if k + 1 >= length:
                return False
            if first <= wanted and wanted <= element(a, k + 1, control):
                return True
            k += 2
    return False


@native
def compare_strings(a: u128, length: u32, b: u128, length2: u32, control: u32) -> u32:
    """IntRes2: a bit an element of the second string."""
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    result: u32 = 0
    for at in range(count):
        if strings_match(a, length, b, length2, at, control):
            result |= u32(1) << at
    if (control & Control.NEGATE) != 0:
        all_: u32 = (u32(1) << count) - 1
        result ^= (u32(1) << length2) - 1 if (control & Control.MASKED) != 0 else all_
    return result


@native
def string_index(result: u32, control: u32) -> u32:
    """The place of the first or last bit, the number of elements if there is none."""
    if result == 0:
        return 8 if (control & Control.WORDS) != 0 else 16
    return 31 - clz(result) if (control & Control.HIGHEST) != 0 else ctz(result)


@native
def string_mask(result: u32, control: u32) -> u128:
    """The bits themselves, or elements of ones."""
    if (control & Control.HIGHEST) == 0:
        return u128(result)
    bits: u32 = 16 if (control & Control.WORDS) != 0 else 8
    mask: u128 = 0
    for i in range(128 // bits):
        if (result >> i & 1) != 0:
            mask |= ((u128(1) << u128(bits)) - 1) << u128(i * bits)
    return mask


@native
def string_flags(result: u32, length: u32, length2: u32, control: u32) -> u32:
    count: u32 = 8 if (control & Control.WORDS) != 0 else 16
    flags: u32 = CF if result != 0 else 0
    if length2 < count:
        flags |= ZF
    if length < count:
        flags |= SF
    if (result & 1) != 0:
        flags |= OF
    return flags


@native
def compare_implicit(a: u128, b: u128, control: u32) -> u64:
    """Strings that end before a 0: IntRes2, and the flags above 32 bits."""
    length: u32 = string_length(a, control)
    length2: u32 = string_length(b, control)
    result: u32 = compare_strings(a, length, b, length2, control)
    return u64(string_flags(result, length, length2, control)) << 32 | u64(result)


@native
def compare_explicit(a: u128, la: u32, b: u128, lb: u32, control: u32) -> u64:
    """Strings of given lengths: IntRes2, and the flags above 32 bits."""
    length: u32 = explicit_length(la, control)
    length2: u32 = explicit_length(lb, control)
    result: u32 = compare_strings(a, length, b, length2, control)
    return u64(string_flags(result, length, length2, control)) << 32 | u64(result)


# The ops ---------------------------------------------------------------------------------------


@native
def soft_pcmpistri(a: u128, b: u128, mode: u32) -> u32:
    return string_index(u32(compare_implicit(a, b, mode)), mode)


@native
def soft_pcmpistrm(a: u128, b: u128, mode: u32) -> u128:
    return string_mask(u32(compare_implicit(a, b, mode)), mode)


@native
def soft_pcmpistrf(a: u128, b: u128, mode: u32) -> u32:
    return u32(compare_implicit(a, b, mode) >> 32)


@native
def soft_pcmpestri(a: u128, la: u32, b: u128, lb: u32, mode: u32) -> u32:
    return string_index(u32(compare_explicit(a, la, b, lb, mode)), mode)


@native
def soft_pcmpestrm(a: u128, la: u32, b: u128, lb: u32, mode: u32) -> u128:
    return string_mask(u32(compare_explicit(a, la, b, lb, mode)), mode)


@native
def soft_pcmpestrf(a: u128, la: u32, b: u128, lb: u32, mode: u32) -> u32:
    return u32(compare_explicit(a, la, b, lb, mode) >> 32)
