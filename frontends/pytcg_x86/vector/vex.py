"""VEX forms of SSE's instructions: the same lowerings, once for each 128-bit half.

AVX keeps its 256-bit instructions to 128-bit lanes, but for a few. So a lowering that makes 128
bits of 128 bits is run for both halves, with operands that are the halves' values: what it reads
of DEST is the first source's, and what it writes is collected. `vex_rows` makes the VEX rows of
SSE's, by the *shape* that VEX gives them:

    three   DEST := SSE's meaning of (SRC1, SRC2): a third operand where SSE reads DEST
    two     DEST := SSE's meaning of (SRC)
    scalar  three operands, of which SSE writes only DEST's low part: the rest is SRC1's
    count   three, and the last source is 128 bits at any width
    by      two, by an immediate, and DEST is VEX.vvvv (so is that of shifts by "count")
    splitN  three, and the upper half takes the immediate's bits from N on
    widen   two, DEST's halves made of the parts of a narrower source
    narrow  two, both halves of the source end in one
    plain   no YMM register is written: the lowering is as good for VEX as it is
    xmm0    plain, but it writes XMM0

Memory operands need no alignment, all sources are read before anything is written, and what VEX
does not write of a vector register is zero (SDM vol. 1, 14).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import YMM_HIGH, Operand, Translator
from pytcg_x86.decode import table
from pytcg_x86.decode.table import LOWERINGS, Lowering, Row, TableError
from pytcg_x86.vector.operands import xm_check

Halves = list[Value]

# Operands --------------------------------------------------------------------------------------


def read_halves(t: Translator, op: Operand) -> Halves:
    """A vector operand's 128-bit halves, low first; a narrower one is one, zero-extended."""
    if op.bits != 256:
        return [t.read(op).zext(Type.I128)]
    if op.is_memory:
        return t.load_wide(t.address(256))
    assert op.where is not None
    return [t.b.ld(Type.I128, op.where), t.b.ld(Type.I128, op.where, YMM_HIGH)]


def write_halves(t: Translator, op: Operand, halves: Halves) -> None:
    """Write a vector operand; of a register what is not given becomes zero."""
    if len(halves) == 1:
        t.write(op, halves[0].resize(op.type))
    elif op.is_memory:
        t.store_wide(t.address(256, write=True), halves)
    else:
        assert op.where is not None
        t.b.st(halves[0], op.where)
        t.b.st(halves[1], op.where, YMM_HIGH)


@contextmanager
def one_check(t: Translator) -> Iterator[None]:
    """Float exceptions of all lanes count together: one check behind them."""
    t.held = []
    yield
    raised, t.held = t.held, None
    if raised:
        xm_check(t)


# SSE's lowerings -------------------------------------------------------------------------------


def _meaning(t: Translator, sse: Lowering, bits: int, first: Value, second: Operand,
             rest: tuple[Operand, ...]) -> Value:  # fmt: skip
    """What SSE's lowering makes of ``first`` as DEST, of ``bits``, and ``second``."""
    found: list[Value] = []
    if sse.dst == "raw":
        dst = Operand("xmm", bits, value=first, sink=found.append)
        sse.function(t, dst, second, *rest)
    else:
        values = [t.read(op) for op in (second, *rest)]
        found.append(sse.function(t, *([first] if sse.dst == "rw" else []), *values))
    if len(found) != 1:
        raise TypeError(f"{sse.function} wrote {len(found)} times")
    return found[0]


def _values(t: Translator, op: Operand, count: int) -> list[Operand]:
    """The operand as ``count`` operands of 128 bits, read; one that is no vector stays."""
    if op.kind not in ("ymm", "mem"):
        return [op] * count
    if op.bits < 128:
        return [replace(op, value=t.read(op))] * count
    halves = read_halves(t, op)
    return [Operand("xmm", 128, value=half) for half in halves * (count // len(halves))]


def _three(sse: Lowering, t: Translator, dst: Operand, first: Operand, second: Operand,
           *rest: Operand, split: int = 0) -> None:  # fmt: skip
    a = read_halves(t, first)
    b = _values(t, second, len(a))
    if len(a) == 1:
        write_halves(t, dst, [_meaning(t, sse, 128, a[0], b[0], rest)])
        return
    others = tuple(replace(op, where=t.read(op) >> split) for op in rest)
    with one_check(t):
        result = [_meaning(t, sse, 128, x, y, z)
                  for x, y, z in zip(a, b, (rest, others), strict=True)]  # fmt: skip
    write_halves(t, dst, result)


def _by(sse: Lowering, t: Translator, dst: Operand, src: Operand, count: Operand) -> None:
    write_halves(t, dst, [_meaning(t, sse, 128, x, count, ()) for x in read_halves(t, src)])


def _two(sse: Lowering, t: Translator, dst: Operand, src: Operand, *rest: Operand) -> None:
    if dst.kind != "ymm":
        sse.function(t, dst, src, *rest)
        return
    count = max(dst.bits // 128, 1)
    unread = t.const(0, 128)
    with one_check(t):
        result = [_meaning(t, sse, 128, unread, x, rest) for x in _values(t, src, count)]
    write_halves(t, dst, result)


def _scalar(bits: int, sse: Lowering, t: Translator, dst: Operand, first: Operand,
            second: Operand, *rest: Operand) -> None:  # fmt: skip
    whole = t.read(first)
    lane = t.const(0, 64)
    low = t.b.op("vlane", whole, lane, lane=bits, type=t.const(0, bits).type)
    source = replace(second, value=t.read(second))
    result = _meaning(t, sse, bits, low, source, rest)
    t.write(dst, t.b.op("vinsert", whole, result, lane, lane=bits))


def _widen(sse: Lowering, t: Translator, dst: Operand, src: Operand) -> None:
    source = t.read(src).zext(Type.I128)
    count = dst.bits // 128
    unread = t.const(0, 128)
    with one_check(t):
        result = [_meaning(t, sse, 128, unread,
                           Operand("xmm", 128, value=source >> i * src.bits // count), ())
                  for i in range(count)]  # fmt: skip
    write_halves(t, dst, result)


def _narrow(sse: Lowering, t: Translator, dst: Operand, src: Operand) -> None:
    unread = t.const(0, 128)
    with one_check(t):
        parts = [_meaning(t, sse, 128, unread, x, ()) for x in _values(t, src, src.bits // 128)]
    t.write(dst, parts[0] if len(parts) == 1 else parts[0] | parts[1] << 64)


def _xmm0(sse: Lowering, t: Translator, *operands: Operand) -> None:
    sse.function(t, *operands)
    t.st_env("ymm_high", 0, 0)


SHAPES: dict[str, Callable[..., None]] = {
    "three": _three, "two": _two, "widen": _widen, "narrow": _narrow,
    **{f"split{n}": partial(_three, split=n) for n in (2, 3, 4)},
}  # fmt: skip

# Rows ------------------------------------------------------------------------------------------


def vex_rows(shape: str, mnemonics: str, *, wide: str | None = None, feature: str = "avx",
             vex_w: int | None = None) -> None:  # fmt: skip
    """VEX's forms of SSE rows, with a V before the name.

    ``wide`` is the feature that the 256-bit form needs, None if there is none; then VEX.L must be
    clear, but for scalars, which ignore it. ``vex_w`` is what VEX.W must be, if that matters.
    """
    for mnemonic in mnemonics.split():
        found = [row for row in table.ROWS if row.mnemonic == mnemonic and _has_form(row, shape)]
        if not found:
            raise TableError(f"no SSE row {mnemonic}")
        LOWERINGS["V" + mnemonic] = _lowering(shape, found[0], LOWERINGS[mnemonic])
        for row in found:
            table.ROWS.extend(_forms(replace(row, wide=vex_w), shape, wide, feature))


def _has_form(row: Row, shape: str) -> bool:
    """Whether an SSE row is one that VEX has, in that shape; shifts are in two."""
    kinds = [code[0] for code in row.operands]
    shifts = shape in ("by", "count")
    return ("sse" in row.attrs and not set(kinds) & set("PQN")
            and (not shifts or (kinds[1] == "I") == (shape == "by")))  # fmt: skip


def _lowering(shape: str, row: Row, sse: Lowering) -> Lowering:
    if shape == "plain":
        return sse
    if shape == "xmm0":
        return Lowering(partial(_xmm0, sse), "raw")
    if shape == "scalar":
        bits = {"d": 32, "q": 64}[row.operands[0][1]]
        return Lowering(partial(_scalar, bits, sse), "raw")
    if shape in ("by", "count"):
        return Lowering(partial(_shift, sse), "raw")
    return Lowering(partial(SHAPES[shape], sse), "raw")


def _shift(sse: Lowering, t: Translator, dst: Operand, first: Operand, count: Operand) -> None:
    """By an immediate or by a register."""
    (_by if count.kind == "imm" else _three)(sse, t, dst, first, count)


def _forms(row: Row, shape: str, wide: str | None, feature: str) -> Iterator[Row]:
    """The 128-bit and 256-bit rows of one SSE row, or one row for both."""
    operands = _operands(row, shape)
    made = replace(row, mnemonic="V" + row.mnemonic, vex=True, operands=operands,
                   attrs=row.attrs - {"sse"} | {"avx"}, features=(feature,))  # fmt: skip
    if wide is None:
        fixed = tuple(code.replace("x", "o") for code in operands)
        lig = shape == "scalar" or (shape == "plain" and fixed[-1][1] in "dq"
                                    and not row.mnemonic.endswith("MXCSR"))  # fmt: skip
        yield replace(made, operands=fixed, attrs=made.attrs | ({"lig"} if lig else set()),
                      length=None if lig else 0)  # fmt: skip
    elif wide == feature and shape != "widen":
        yield made
    else:
        yield replace(made, length=0)
        if shape == "widen":
            operands = (operands[0], "W" + _DOUBLED[operands[1][1]])
        yield replace(made, length=1, features=(wide,), operands=operands)


_DOUBLED = {"w": "d", "d": "q", "q": "o"}


def _operands(row: Row, shape: str) -> tuple[str, ...]:
    first, *others = row.operands
    if shape == "scalar":
        return (first[0] + "o", "Ho", *others)
    if shape == "count":
        return (first, "Hx", *(code.replace("x", "o") for code in others))
    if shape == "by":
        return ("Hx", *row.operands)
    if shape == "narrow":
        return (first.replace("x", "o"), *others)
    if shape == "three" or shape.startswith("split"):
        return (first, "Hx", *others)
    return row.operands
