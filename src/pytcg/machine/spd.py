"""Serial presence detect of the memory modules a board of so much RAM would have (JEDEC 21-C)."""

from __future__ import annotations

from typing import Final

SLOTS: Final = 8
LARGEST: Final = 1 << 30
SMALLEST: Final = 4 << 20
CHECKSUM: Final = 63


def modules(ram_size: int) -> list[bytes]:
    """128 bytes for each module, the largest first; at most eight, so not all of a large RAM."""
    sizes: list[int] = []
    left = ram_size
    while left >= SMALLEST and len(sizes) < SLOTS:
        size = min(LARGEST, 1 << left.bit_length() - 1)
        sizes.append(size)
        left -= size
    return [module(size) for size in sizes]


def module(size: int) -> bytes:
    """An unbuffered, non-ECC SDRAM module of one row (revision 1.2)."""
    spd = bytearray(128)
    spd[0:2] = 128, 8  # bytes used; log2 of the EEPROM's size
    spd[2] = 4  # SDRAM
    spd[3:6] = 12, 10, 1  # row and column address bits, rows
    spd[6] = 64  # data width
    spd[8] = 1  # LVTTL
    spd[9:11] = 0x75, 0x54  # cycle time and access time at the highest CAS latency: PC133
    spd[12:14] = 0x82, 8  # self refresh; chip width
    spd[15:19] = 1, 0x8F, 4, 4  # back-to-back delay, burst lengths, banks, CAS latencies 2 and 3
    spd[19:21] = 1, 1
    spd[22] = 0x0E
    spd[27:31] = 20, 15, 20, 45  # tRP, tRRD, tRCD, tRAS in ns
    spd[31] = size >> 22 & 0xFF or 1  # density of a row in units of 4 MiB, one bit set
    spd[62] = 0x12
    spd[CHECKSUM] = sum(spd[:CHECKSUM]) & 0xFF
    return bytes(spd)
