"""The x87's 80-bit numbers in Python: what can be had without a unit that computes.

A number is its bit pattern: the significand with its leading one in bits 0-63, the biased exponent
in 64-78, the sign in 79. The Python back-end has no x87 unit, and the guest's `fp_unit` says so:
arithmetic on it is softfloat's.
"""

from __future__ import annotations

from pytcg_python.floating import FORMATS
from pytcg_python.memory import HostFault

BIAS = 16383
SIGN = 1 << 79


def from_int(value: int) -> int:
    """A signed 64-bit integer."""
    magnitude = min(value, (1 << 64) - value)
    if magnitude == 0:
        return 0
    shift = 64 - magnitude.bit_length()
    return (value >> 63) << 79 | (BIAS + 63 - shift) << 64 | magnitude << shift


def from_float(value: int, width: int) -> int:
    """A binary32 or binary64 number that is zero or normal."""
    form = FORMATS[width]
    sign = (value >> (width - 1)) << 79
    field = (value & form.infinity) >> form.fraction
    if not field:
        return sign
    exponent = field - 1 + form.low + form.fraction
    mantissa = 1 << form.fraction | value & ((1 << form.fraction) - 1)
    return sign | (BIAS + exponent) << 64 | mantissa << (63 - form.fraction)


def no_unit() -> int:
    """Arithmetic."""
    raise HostFault("no x87 unit here")
