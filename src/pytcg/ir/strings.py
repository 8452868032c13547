"""What the ops of SSE4.2's string comparisons mean, on 128-bit integers (SDM vol. 2B, 4.1)."""

from __future__ import annotations

from enum import IntFlag


class Control(IntFlag):
    """Bits of the immediate, which is the ops' mode."""

    WORDS = 1 << 0
    SIGNED = 1 << 1
    AGGREGATION = 3 << 2
    NEGATE = 1 << 4
    MASKED = 1 << 5       # negate only where the second string is
    HIGHEST = 1 << 6      # the index of the last; a mask of whole elements


EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED = range(4)
CF, ZF, SF, OF = 1 << 0, 1 << 6, 1 << 7, 1 << 11
"""The flags that the comparisons make, at their places in EFLAGS."""


def width_of(mode: int) -> int:
    """Bits of an element."""
    return 16 if mode & Control.WORDS else 8


def elements(vector: int, mode: int) -> list[int]:
    bits = width_of(mode)
    sign = 1 << (bits - 1) if mode & Control.SIGNED else 0
    parts = [vector >> at & (1 << bits) - 1 for at in range(0, 128, bits)]
    return [(part ^ sign) - sign for part in parts]


def implicit_length(vector: int, mode: int) -> int:
    """Elements before the first that is 0."""
    found = elements(vector, mode)
    return found.index(0) if 0 in found else len(found)


def explicit_length(number: int, mode: int) -> int:
    """The magnitude of a 32-bit number, at most the number of elements."""
    return min(abs((number ^ 1 << 31) - (1 << 31)), 128 // width_of(mode))


def _matches(first: list[int], second: list[int], at: int, count: int, aggregation: int) -> bool:
    """Whether the first string, as the aggregation reads it, matches the second's at ``at``."""
    if aggregation == EQUAL_ORDERED:
        wanted = first[:count - at]
        return second[at:at + len(wanted)] == wanted
    if aggregation == EQUAL_EACH:
        inside = [at < len(string) for string in (first, second)]
        return first[at] == second[at] if all(inside) else not any(inside)
    if at >= len(second):
        return False
    if aggregation == EQUAL_ANY:
        return second[at] in first
    bounds = zip(first[::2], first[1::2], strict=False)
    return any(low <= second[at] <= high for low, high in bounds)


def compared(a: int, length: int, b: int, length2: int, mode: int) -> int:
    """IntRes2: a bit an element of the second string."""
    count = 128 // width_of(mode)
    first, second = elements(a, mode)[:length], elements(b, mode)[:length2]
    aggregation = (mode & Control.AGGREGATION) >> 2
    result = sum(_matches(first, second, at, count, aggregation) << at for at in range(count))
    if mode & Control.NEGATE:
        result ^= (1 << (length2 if mode & Control.MASKED else count)) - 1
    return result


def index(a: int, length: int, b: int, length2: int, mode: int) -> int:
    """The place of the first or last bit, the number of elements if there is none."""
    result = compared(a, length, b, length2, mode)
    if not result:
        return 128 // width_of(mode)
    return (result if mode & Control.HIGHEST else result & -result).bit_length() - 1


def mask(a: int, length: int, b: int, length2: int, mode: int) -> int:
    """The bits themselves, or elements of ones."""
    result, bits = compared(a, length, b, length2, mode), width_of(mode)
    if not mode & Control.HIGHEST:
        return result
    return sum(((1 << bits) - 1) << i * bits for i in range(128 // bits) if result >> i & 1)


def flags(a: int, length: int, b: int, length2: int, mode: int) -> int:
    """CF: any bit; ZF, SF: the second, the first string is short; OF: bit 0."""
    result, count = compared(a, length, b, length2, mode), 128 // width_of(mode)
    return (CF * (result != 0) | ZF * (length2 < count) | SF * (length < count)
            | OF * (result & 1))  # fmt: skip


_IMPLICIT = "a, strings.implicit_length(a, K), b, strings.implicit_length(b, K), K"
_EXPLICIT = "a, strings.explicit_length(b, K), c, strings.explicit_length(d, K), K"
MEANING = {f"pcmp{kind}str{letter}": f"strings.{function}({operands})"
           for kind, operands in (("i", _IMPLICIT), ("e", _EXPLICIT))
           for letter, function in (("i", "index"), ("m", "mask"), ("f", "flags"))}  # fmt: skip
"""The ops' expressions, for `pytcg.ir.meaning`."""
