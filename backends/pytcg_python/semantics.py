"""The living definition of the IR: one Python expression an op.

`pytcg.ir.meaning` holds the pure ops (and says how to read an expression); here stand those that
read or change the machine: the floating-point unit ``fp``, the memory ``mem`` and the ``host``.
Control flow and locals are Python's own: `pytcg_python.compiler`.
"""

from __future__ import annotations

from pytcg.ir.meaning import PURE
from pytcg.ir.ops import X87

FLOATING: dict[str, str] = {
    "fadd": "fp.add(a, b, W)",
    "fsub": "fp.sub(a, b, W)",
    "fmul": "fp.mul(a, b, W)",
    "fdiv": "fp.div(a, b, W)",
    "fsqrt": "fp.sqrt(a, W)",
    "feq": "fp.eq(a, b, W)",
    "flt": "fp.lt(a, b, W)",
    "fle": "fp.le(a, b, W)",
    "funord": "fp.unordered(a, b, W)",
    "fext": "fp.convert(a, 32, 64)",
    "ftrunc": "fp.convert(a, 64, 32)",
    "sitof": "fp.from_int(a, W, N)",
    "ftosi": "fp.to_int(a, W, N, truncate=True)",
    "ftosi_round": "fp.to_int(a, W, N, truncate=False)",
    "vfadd": "fp.lanes(fp.add, a, b, L)",
    "vfsub": "fp.lanes(fp.sub, a, b, L)",
    "vfmul": "fp.lanes(fp.mul, a, b, L)",
    "vfdiv": "fp.lanes(fp.div, a, b, L)",
    "vfsqrt": "fp.sqrt_lanes(a, L)",
    "fround": "fp.round(a, W, K)",
    "vfround": "fp.round_lanes(a, L, K)",
    "fcmp": "fp.compare(a, b, W, K)",
    "vfcmp": "fp.compare_lanes(a, b, L, K)",
    "ffma": "fp.fma(a, b, c, W, K)",
    "vffma": "fp.fma_lanes(a, b, c, L, K)",
    "fexthalf": "fp.from_halves(a)",
    "ftrunchalf": "fp.to_halves(a, K)",
    "getmxcsr": "fp.mxcsr",
}

X87_UNIT: dict[str, str] = {
    "xext": "x87.from_float(a, W)",
    "xfromi": "x87.from_int(a)",
    "xneg": "a ^ x87.SIGN",
    "xabs": "a & ~x87.SIGN",
    # The rest needs an x87 unit. There is none here, and code finds out before it comes to these.
    **dict.fromkeys(sorted(X87), "x87.no_unit()"),
    "xclear": "None",
}

HOST: dict[str, str] = {
    "ld": "mem.load(a, (N + 7) >> 3)",
    "st": "mem.store(b, (W + 7) >> 3, a)",
    "ldg": "mem.load(a, (N + 7) >> 3)",
    "stg": "mem.store(b, (W + 7) >> 3, a)",
    "fill": "mem.fill(a, b, c)",
    "setmxcsr": "setattr(fp, 'mxcsr', a)",
    "cycles": "host.cycles()",
    "enter": "host.run(a, b, c, d)",
}

SEMANTICS: dict[str, str] = {**PURE, **FLOATING, **X87_UNIT, **HOST}
CONTROL = {"br", "brif", "switch", "ret", "unwind", "unreachable", "tail"}
NAMED = {"get", "set", "symbol", "call", "callptr"}
"""Ops that the compiler turns into statements of their own."""
