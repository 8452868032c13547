"""How pytcg-io prints: sizes, times, rates and hex dumps, in qemu-io's formats."""

from __future__ import annotations

from collections.abc import Iterator

_UNITS = ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB")


def size_text(value: float) -> str:
    """`1.500 KiB`, `64 KiB`, `0 bytes`."""
    for power, unit in zip(range(60, 0, -10), _UNITS, strict=True):
        if value >= 1 << power:
            return f"{value / (1 << power):.3f}".removesuffix(".000") + f" {unit}"
    return f"{value:f}".removesuffix(".000000") + " bytes"


def time_text(seconds: float, *, fixed: bool = False) -> str:
    """`00.12 sec`, or `0:01:02.50` when long or `fixed`."""
    hundredths = int(seconds * 100)
    whole, part = divmod(hundredths, 100)
    minutes, rest = divmod(whole, 60)
    if not minutes and not fixed:
        return f"{rest:02d}.{part:02d} sec"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}.{part:02d}"


def report_lines(verb: str, seconds: float, offset: int, count: int, *, machine: bool
                 ) -> list[str]:
    """What a finished request says of itself."""
    seconds = max(seconds, 1e-6)
    rate, ops = count / seconds, 1 / seconds
    if machine:
        return [f"{count},1,{time_text(seconds, fixed=True)},{rate:.3f},{ops:.3f}"]
    return [
        f"{verb} {count}/{count} bytes at offset {offset}",
        f"{size_text(count)}, 1 ops; {time_text(seconds)} "
        f"({size_text(rate)}/sec and {ops:.4f} ops/sec)",
    ]


def dump_lines(data: memoryview, offset: int) -> Iterator[str]:
    """Sixteen bytes a line, letters and digits shown as such."""
    for at in range(0, len(data), 16):
        row = bytes(data[at : at + 16])
        text = "".join(chr(c) if c < 128 and chr(c).isalnum() else "." for c in row)
        yield f"{offset + at:08x}:  {row.hex(' ')}  {text}"
