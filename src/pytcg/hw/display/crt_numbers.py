"""Numbers of the CRT controller whose bits lie in several registers."""

from __future__ import annotations

from pytcg.hw.display.registers import Crt


def overflow(crt: bytes | bytearray, low: int, *bits: tuple[int, int, int]) -> int:
    """A number whose high bits lie elsewhere: each (register, bit there, bit of the number)."""
    value = crt[low]
    for register, source, target in bits:
        value |= (crt[register] >> source & 1) << target
    return value


def vertical_total(crt: bytes | bytearray) -> int:
    """Lines of a frame."""
    return overflow(crt, Crt.V_TOTAL, (Crt.OVERFLOW, 0, 8), (Crt.OVERFLOW, 5, 9)) + 2


def display_end(crt: bytes | bytearray) -> int:
    """Lines shown."""
    return overflow(crt, Crt.V_DISPLAY_END, (Crt.OVERFLOW, 1, 8), (Crt.OVERFLOW, 6, 9)) + 1


def retrace_start(crt: bytes | bytearray) -> int:
    """The line where vertical retrace begins."""
    return overflow(crt, Crt.V_RETRACE_START, (Crt.OVERFLOW, 2, 8), (Crt.OVERFLOW, 7, 9))


def line_compare(crt: bytes | bytearray) -> int:
    """The last line of the upper part of a split screen."""
    return overflow(crt, Crt.LINE_COMPARE, (Crt.OVERFLOW, 4, 8), (Crt.MAX_SCAN_LINE, 6, 9))
