"""Memory that data passes through on its way from one file to another."""

from __future__ import annotations

import mmap


def page_aligned(length: int) -> mmap.mmap:
    """``length`` zeroed bytes that start at a page, for what moves large blocks again and again.

    The processor copies between page cache and program about 1.5 times as fast there as to and
    from a bytearray, whose memory starts 16 bytes into a page (bench/disk.py, "convert").
    """
    return mmap.mmap(-1, length)
