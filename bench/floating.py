"""A guest program of scalar floating point."""

from __future__ import annotations

import math
import struct
from typing import Final

from bench.program import Program

_FLOAT: Final = f"""
    movabs rax, {struct.unpack("<Q", struct.pack("<d", 3.9))[0]}
    movq xmm4, rax
    movabs rax, {struct.unpack("<Q", struct.pack("<d", 1.0))[0]}
    movq xmm5, rax
    movabs rax, {struct.unpack("<Q", struct.pack("<d", 0.3))[0]}
    movq xmm0, rax
    pxor xmm1, xmm1
.Lloop:
    movapd xmm2, xmm5
    subsd xmm2, xmm0
    mulsd xmm0, xmm4
    mulsd xmm0, xmm2
    mulsd xmm1, xmm1
    addsd xmm1, xmm0
    sqrtsd xmm1, xmm1
    movapd xmm3, xmm0
    divsd xmm3, xmm1
    addsd xmm1, xmm3
    dec rsi
    jnz .Lloop
    movq rax, xmm1
    ret
"""


def _float(count: int) -> int:
    x, y = 0.3, 0.0
    for _ in range(count):
        x = x * 3.9 * (1.0 - x)
        y = math.sqrt(y * y + x)
        y += x / y
    bits, = struct.unpack("<Q", struct.pack("<d", y))
    return int(bits)


PROGRAMS: Final = (
    Program(
        "float", "the logistic map: SSE2 doubles, a division and a square root",
        _FLOAT, _float, 30_000_000, 8_000,
    ),
)
