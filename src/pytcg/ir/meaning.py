"""What every pure op means: one Python expression an op, read by the folder and by `pytcg_python`.

Operands are non-negative ints (bit patterns). In an expression

    a b c d are the operands         W  the first operand's width in bits
    M  the first operand's mask      H  its sign bit
    R  the result's mask             N  its width       S  the second operand's width
    L  the op's lane width           O  its order      K  its mode

so ``(a ^ H) - H`` reads operand a as a signed number. Ops that depend on the floating-point
environment, memory or control flow are not pure; `pytcg_python` defines those.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

from pytcg.ir import crypto, strings
from pytcg.ir.blocks import Op
from pytcg.ir.ops import BITS, Type

PURE: dict[str, str] = {
    "add": "(a + b) & M",
    "sub": "(a - b) & M",
    "mul": "(a * b) & M",
    "udiv": "a // b",
    "urem": "a % b",
    "sdiv": "quotient((a ^ H) - H, (b ^ H) - H) & M",
    "srem": "remainder((a ^ H) - H, (b ^ H) - H) & M",
    "udivw": "(a << W | b) // c",
    "mulhu": "(a * b) >> W",
    "mulhs": "((((a ^ H) - H) * ((b ^ H) - H)) >> W) & M",
    "and": "a & b",
    "or": "a | b",
    "xor": "a ^ b",
    "shl": "(a << b % W) & M",
    "lshr": "a >> b % W",
    "ashr": "(((a ^ H) - H) >> b % W) & M",
    "rotl": "((a << b % W) | (a >> -b % W)) & M",
    "rotr": "((a >> b % W) | (a << -b % W)) & M",
    "neg": "-a & M",
    "not": "a ^ M",
    "bswap": "int.from_bytes(a.to_bytes(W // 8, 'little'), 'big')",
    "clz": "W - a.bit_length()",
    "ctz": "(a & -a).bit_length() - 1 if a else W",
    "popcnt": "a.bit_count()",
    "addc": "int(a + b > M)",
    "addo": "int(not -H <= ((a ^ H) - H) + ((b ^ H) - H) < H)",
    "subb": "int(a < b)",
    "subo": "int(not -H <= ((a ^ H) - H) - ((b ^ H) - H) < H)",
    "eq": "int(a == b)",
    "ne": "int(a != b)",
    "ult": "int(a < b)",
    "ule": "int(a <= b)",
    "ugt": "int(a > b)",
    "uge": "int(a >= b)",
    "slt": "int((a ^ H) < (b ^ H))",
    "sle": "int((a ^ H) <= (b ^ H))",
    "sgt": "int((a ^ H) > (b ^ H))",
    "sge": "int((a ^ H) >= (b ^ H))",
    "select": "b if a else c",
    "zext": "a",
    "sext": "((a ^ H) - H) & R",
    "trunc": "a & R",
    "bitcast": "a",
    "ptradd": "(a + b) & M",
    "ptrdiff": "(a - b) & M",
    "vadd": "lanes(L, a, b, lambda x, y: x + y)",
    "vsub": "lanes(L, a, b, lambda x, y: x - y)",
    "vmul": "lanes(L, a, b, lambda x, y: x * y)",
    "vmulhu": "lanes(L, a, b, lambda x, y: (x * y) >> L)",
    "vmulhs": "signed_lanes(L, a, b, lambda x, y: (x * y) >> L)",
    "vmulhrs": "signed_lanes(L, a, b, lambda x, y: ((x * y >> L - 2) + 1) >> 1)",
    "vadds": "signed_lanes(L, a, b, lambda x, y: saturate(L, x + y))",
    "vaddus": "lanes(L, a, b, lambda x, y: saturate_unsigned(L, x + y))",
    "vsubs": "signed_lanes(L, a, b, lambda x, y: saturate(L, x - y))",
    "vsubus": "lanes(L, a, b, lambda x, y: saturate_unsigned(L, x - y))",
    "vmins": "signed_lanes(L, a, b, min)",
    "vmaxs": "signed_lanes(L, a, b, max)",
    "vminu": "lanes(L, a, b, min)",
    "vmaxu": "lanes(L, a, b, max)",
    "vavg": "lanes(L, a, b, lambda x, y: (x + y + 1) >> 1)",
    "veq": "lanes(L, a, b, lambda x, y: -(x == y))",
    "vgt": "signed_lanes(L, a, b, lambda x, y: -(x > y))",
    "vshl": "join(L, [x << b if b < L else 0 for x in split(L, a)])",
    "vlshr": "join(L, [x >> b if b < L else 0 for x in split(L, a)])",
    "vashr": "join(L, [x >> min(b, L - 1) for x in split_signed(L, a)])",
    "vshlv": "lanes(L, a, b, lambda x, n: x << n if n < L else 0)",
    "vlshrv": "lanes(L, a, b, lambda x, n: x >> n if n < L else 0)",
    "vashrv": "join(L, [x >> min(n, L - 1) for x, n in zip(split_signed(L, a), split(L, b))])",
    "vpackss": "join(L // 2, [saturate(L // 2, x)"
               " for x in split_signed(L, a) + split_signed(L, b)])",
    "vpackus": "join(L // 2, [saturate_unsigned(L // 2, x)"
               " for x in split_signed(L, a) + split_signed(L, b)])",
    "vunpackl": "interleave(L, a, b, 0)",
    "vunpackh": "interleave(L, a, b, 64 // L)",
    "vshuffle": "join(L, [(split(L, a) + split(L, b))[i] for i in O])",
    "vpshufb": "join(8, [0 if i & 0x80 else split(8, a)[i & 15] for i in split(8, b)])",
    **crypto.MEANING,
    **strings.MEANING,
    "vlane": "(a >> b * L) & R",
    "vinsert": "a & ~((1 << L) - 1 << c * L) | b << c * L",
    "vmsb": "sum(x >> L - 1 << i for i, x in enumerate(split(L, a)))",
}  # fmt: skip


def quotient(a: int, b: int) -> int:
    """Division that rounds toward zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def remainder(a: int, b: int) -> int:
    """The remainder of `quotient`: it has the dividend's sign."""
    return a - b * quotient(a, b)


def split(lane: int, vector: int) -> list[int]:
    """The lanes of a 128-bit vector, lowest first."""
    mask = (1 << lane) - 1
    return [(vector >> at) & mask for at in range(0, 128, lane)]


def split_signed(lane: int, vector: int) -> list[int]:
    sign = 1 << (lane - 1)
    return [(x ^ sign) - sign for x in split(lane, vector)]


def join(lane: int, values: list[int]) -> int:
    """A vector of the low ``lane`` bits of each value."""
    mask = (1 << lane) - 1
    return sum((x & mask) << (i * lane) for i, x in enumerate(values))


def lanes(lane: int, a: int, b: int, meaning: Callable[[int, int], int]) -> int:
    return join(lane, list(map(meaning, split(lane, a), split(lane, b))))


def signed_lanes(lane: int, a: int, b: int, meaning: Callable[[int, int], int]) -> int:
    return join(lane, list(map(meaning, split_signed(lane, a), split_signed(lane, b))))


def saturate(lane: int, value: int) -> int:
    return max(-(1 << (lane - 1)), min((1 << (lane - 1)) - 1, value))


def saturate_unsigned(lane: int, value: int) -> int:
    return max(0, min((1 << lane) - 1, value))


def interleave(lane: int, a: int, b: int, first: int) -> int:
    """Lanes of a and b in turn, 64 bits of each from lane ``first``."""
    pairs = list(zip(split(lane, a), split(lane, b), strict=True))[first:first + 64 // lane]
    return join(lane, [x for pair in pairs for x in pair])


NAMES: dict[str, object] = {
    f.__name__: f for f in (quotient, remainder, split, split_signed, join, lanes, signed_lanes,
                            saturate, saturate_unsigned, interleave)
}  # fmt: skip
NAMES |= {"crypto": crypto, "strings": strings}
_VARIABLE = re.compile(r"\b[abcdMWHRNLOKS]\b")


def expression(template: str, op: Op, operands: list[str]) -> str:
    """``template`` with the operands' texts and the op's widths put in."""
    width = BITS[op.args[0].type] if op.args else 0
    result = BITS[op.out.type] if op.out is not None else 0
    values = dict(zip("abcd", operands, strict=False))
    values |= {"M": f"{(1 << width) - 1:#x}", "W": str(width), "H": f"{(1 << width) >> 1:#x}",
               "R": f"{(1 << result) - 1:#x}", "N": str(result),
               "L": str(op.attrs.get("lane", 0)), "O": str(op.attrs.get("order", ())),
               "K": str(op.attrs.get("mode", 0)),
               "S": str(BITS[op.args[1].type] if len(op.args) > 1 else 0)}  # fmt: skip
    return _VARIABLE.sub(lambda match: values[match[0]], template)


@functools.cache
def _evaluator(name: str) -> Callable[..., int]:
    # The table's own expressions, never input.
    function: Callable[..., int] = eval(
        f"lambda a, b, c, d, M, W, H, R, N, L, O, K, S: {PURE[name]}", dict(NAMES)
    )
    return function


def evaluate(name: str, args: list[int], type_: Type, result: Type,
             attrs: Mapping[str, object], second: int = 0) -> int:  # fmt: skip
    """The value of a pure op on constants; ``type_`` is the first operand's type, ``second`` the
    second one's width."""
    width = BITS[type_]
    a, b, c, d = [*args, 0, 0, 0][:4]
    return _evaluator(name)(a, b, c, d, (1 << width) - 1, width, (1 << width) >> 1,
                            (1 << BITS[result]) - 1, BITS[result], attrs.get("lane", 0),
                            attrs.get("order", ()), attrs.get("mode", 0), second)  # fmt: skip
