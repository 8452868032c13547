"""Every op, driven through the Python and the LLVM back-end with random operands."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ir.engines import Case, Engines, make_case
from pytcg.ir.blocks import Value
from pytcg.ir.builder import Builder
from pytcg.ir.ops import BITS, FLOATS, INT_OF_BITS, OPS, STICKY, TERMINALS, X87, Type
from pytcg_python.compiler import PythonHost
from pytcg_python.semantics import CONTROL, NAMED, SEMANTICS

INTS = [Type.I1, Type.I8, Type.I16, Type.I32, Type.I64, Type.I128]
WIDE = INTS[1:]
CONVERSIONS = ("zext", "sext", "trunc")
ELSEWHERE = {
    # Tested by test_functions.py, which needs more than one op to make sense of them.
    *TERMINALS, "get", "set", "call", "callptr", "enter", "symbol",
    # Read by nothing but its own test below: no two readings agree.
    "cycles",
    # In every floating-point case here, and every case loads and stores.
    "getmxcsr", "setmxcsr", "ld", "st",
    "fill",  # test_fill.py
    *X87, "xext", "xfromi", "xneg", "xabs",  # test_x87_ops.py
    "ldg", "stg",  # every access of a region: the jit cases of tests/x86
}  # fmt: skip
PREDICATES = (0, 1, 2, 3, 7, 9, 11, 14, 17, 20, 24, 27, 30)
MODES = {"fcmp": PREDICATES, "vfcmp": PREDICATES, "ffma": range(4), "vffma": range(6),
         "ftrunchalf": range(8)}  # fmt: skip
COMPARED = (0x0C, 0x35, 0x4A)
"""PCMPISTRI's immediates; tests/x86/test_string_comparisons.py has all, and likelier strings."""
NO_NATIVE_DIVISION = {Type.I128}  # LLVM calls a compiler-runtime function, which pytcg never links


def one_op(name: str, **attrs: object) -> Callable[[Builder, list[Value]], Value]:
    if name in ("vlane", "vinsert"):  # their last operand is a lane's number
        last = 128 // int(str(attrs["lane"])) - 1
        return lambda b, args: b.op(name, *args[:-1], args[-1] & last, **attrs)
    return lambda b, args: b.op(name, *args, **attrs)


def variants(name: str) -> list[tuple[list[Type], dict[str, object]]]:
    """(operand types, attributes) of every variant of an op worth a function."""
    row = OPS[name]
    if name in CONVERSIONS:
        return [([a], {"type": b}) for a in INTS for b in INTS
                if (BITS[b] < BITS[a] if name == "trunc" else BITS[b] > BITS[a])]  # fmt: skip
    if name == "bitcast":
        pairs = [(Type.I32, Type.F32), (Type.F32, Type.I32), (Type.I64, Type.F64),
                 (Type.F64, Type.I64)]  # fmt: skip
        return [([a], {"type": b}) for a, b in pairs]
    if name == "sitof":
        return [([a], {"type": b}) for a in (Type.I32, Type.I64) for b in FLOATS]
    if name in ("ftosi", "ftosi_round"):
        return [([a], {"type": b}) for a in FLOATS for b in (Type.I32, Type.I64)]
    if name in ("vlane", "vinsert"):
        return [([Type.I128, *([INT_OF_BITS[n]] if name == "vinsert" else []), Type.I64],
                 {"lane": n, **({"type": INT_OF_BITS[n]} if name == "vlane" else {})})
                for n in (8, 16, 32, 64)]  # fmt: skip
    if name == "vshuffle":
        orders = {8: (31, 0, *range(14)), 16: (1, 3, 5, 7, 9, 11, 13, 15), 32: (4, 0, 5, 1),
                  64: (1, 2)}  # fmt: skip
        return [([Type.I128, Type.I128], {"lane": n, "order": o}) for n, o in orders.items()]
    if name == "crc32c":
        return [([Type.I32, INT_OF_BITS[n]], {}) for n in (8, 16, 32, 64)]
    if name == "sha1rnds4":
        return [([Type.I128, Type.I128], {"mode": mode}) for mode in range(4)]
    if name.startswith("pcmp"):
        return [([fixed(a, Type.I128) for a in row.args], {"mode": mode}) for mode in COMPARED]
    if name in MODES:
        types = FLOATS if "F" in row.args else [Type.I128]
        lane_attrs = [{"lane": n} for n in (32, 64)] if "lane" in row.attrs else [{}]
        return [([t] * len(row.args), {**lane, "mode": mode}) for t in types for lane in lane_attrs
                for mode in MODES[name]]  # fmt: skip
    if "mode" in row.attrs:
        shapes = ([(t, {}) for t in FLOATS] if name == "fround" else
                  [(Type.I128, {"lane": n}) for n in (32, 64)])  # fmt: skip
        return [([t], {**attrs, "mode": mode}) for t, attrs in shapes
                for mode in (*range(5), *range(8, 13))]  # fmt: skip
    if "lane" in row.attrs:
        types = [Type.I128 if a == "V" else Type(a) for a in row.args]
        return [(types, {"lane": lane}) for lane in lanes(name)]
    return [([fixed(a, type_) for a in row.args], {}) for type_ in first_types(name)]


def lanes(name: str) -> tuple[int, ...]:
    if name.startswith("vf"):
        return (32, 64)
    if name.startswith("vpack"):
        return (16, 32)
    if name in ("vmulhrs", "vpshufb"):
        return (16,) if name == "vmulhrs" else (8,)
    if name in ("vmulhu", "vmulhs", "vavg"):
        return (8, 16, 32)
    return (8, 16, 32, 64)


def fixed(letter: str, type_: Type) -> Type:
    fixed_types = {"P": Type.PTR, "B": Type.I1, "V": Type.I128}
    if letter in "TAF":
        return type_
    return fixed_types.get(letter) or Type(letter)


def first_types(name: str) -> list[Type]:
    letters = OPS[name].args
    if "F" in letters:
        return sorted(FLOATS, key=str)
    if "T" in letters:
        if name in ("bswap",):
            return INTS[2:]
        if name == "udivw":
            return [Type.I16, Type.I32, Type.I64]
        if name.startswith(("sdiv", "srem", "udiv", "urem")):
            return [t for t in WIDE if t not in NO_NATIVE_DIVISION]
        return WIDE if name in ("neg", "mulhu", "mulhs", "addo", "subo") else INTS
    return [*INTS, Type.PTR] if "A" in letters else [Type.PTR]


@functools.cache
def engines() -> tuple[Engines, list[tuple[str, Case]]]:
    cases: list[tuple[str, Case]] = []
    for name in OPS:
        if name in ELSEWHERE:
            continue
        for types, attrs in variants(name):
            label = f"{name}_{len(cases)}"
            floating = name in STICKY
            cases.append((name, make_case(label, types, one_op(name, **attrs), floating=floating)))
    return Engines([case for _, case in cases]), cases


INTERESTING = {
    32: [0, 1, 0x8000_0000, 0x007F_FFFF, 0x0080_0000, 0x3F80_0000, 0x7F7F_FFFF, 0x7F80_0000,
         0x7F80_0001, 0x7FC0_0001, 0xFFC0_0000, 0xFF80_0000, 0x4F00_0000, 0xCF00_0000, 0x0080_0001,
         0x3F00_0000, 0x4B00_0001],
    64: [0, 1, 1 << 63, (1 << 52) - 1, 1 << 52, 0x3FF0 << 48, 0x7FEF_FFFF_FFFF_FFFF, 0x7FF0 << 48,
         (0x7FF0 << 48) + 1, 0x7FF8 << 48, 0xFFF0 << 48, 0x43E0 << 48, 0xC3E0 << 48, 0x41E0 << 48,
         0x3FE0 << 48, 0x36A0 << 48, 0x3810 << 48, 0x47EF_FFFF_F000_0000],
}  # fmt: skip


def patterns(type_: Type) -> st.SearchStrategy[int]:
    """Bit patterns of a type: all over, and where rounding and saturation turn."""
    bits = BITS[type_]
    top = (1 << bits) - 1
    edges = [0, 1, top, top >> 1, (top >> 1) + 1, min(bits, top), min(bits - 1, top)]
    edges += INTERESTING.get(bits, [])
    choices = [st.integers(0, top), st.sampled_from([e & top for e in edges])]
    if bits == 128:
        for lane in (32, 64):
            pool = st.one_of(st.sampled_from(INTERESTING[lane]), st.integers(0, (1 << lane) - 1))
            choices.append(st.lists(pool, min_size=128 // lane, max_size=128 // lane).map(
                functools.partial(_join, lane)))  # fmt: skip
    return st.one_of(choices)


def _join(lane: int, values: list[int]) -> int:
    return sum(v << (i * lane) for i, v in enumerate(values))


MXCSRS = st.builds(lambda rc, modes: 0x1F80 | rc << 13 | modes, st.integers(0, 3),
                   st.sampled_from([0, 0, 0, 1 << 6, 1 << 15, 1 << 6 | 1 << 15]))  # fmt: skip


def test_every_op_has_a_meaning() -> None:
    assert set(SEMANTICS) | CONTROL | NAMED == set(OPS)


def excluded(name: str, case: Case, args: list[int]) -> bool:
    """Division by zero and the one quotient that has no room are the caller's to exclude."""
    if name in ("udiv", "urem", "sdiv", "srem"):
        bits = BITS[case.types[0]]
        return args[1] == 0 or (args[0] == 1 << (bits - 1) and args[1] == (1 << bits) - 1)
    if name == "udivw":
        return args[0] >= args[2]
    return False


def check(both: Engines, name: str, case: Case) -> None:
    """Compare the two engines on one variant."""
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.tuples(*map(patterns, case.types)), MXCSRS)
    def compare(args: tuple[int, ...], mxcsr: int) -> None:
        if excluded(name, case, list(args)):
            return
        native, python = both.run(case, args, mxcsr)
        what = f"{name} {[f'{a:#x}' for a in args]} mxcsr={mxcsr:#x}"
        pair = f"native {native[0]:#x}, python {python[0]:#x}"
        assert native[0] == python[0], f"{what}: {pair}"
        assert native[1] == python[1], f"{what}: MXCSR {native[1]:#x}, python {python[1]:#x}"

    compare()


@pytest.mark.parametrize("name", [name for name in OPS if name not in ELSEWHERE])
def test_back_ends_agree(name: str) -> None:
    both, cases = engines()
    for case in (case for op, case in cases if op == name):
        check(both, name, case)


def test_cycles_go_forward() -> None:
    case = make_case("cycles", [], lambda b, _: b.op("cycles"))
    both = Engines([case])
    first, second = both.run(case, []), both.run(case, [])
    assert 0 < first[0][0] < second[0][0]
    assert 0 < first[1][0] < second[1][0]


def test_python_host_knows_default_mxcsr() -> None:
    assert PythonHost().fp.mxcsr == 0x1F80
