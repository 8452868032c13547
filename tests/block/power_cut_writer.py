"""Writes to an image until it is killed, telling on standard output what is flushed.

Each sector carries its number and a generation, so that a reader can tell which write it sees.
"""

from __future__ import annotations

import os
import random
import struct
import sys

from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.snapshot import create_snapshot, delete_snapshot
from pytcg.block.open import open_image

SECTOR = 512


def content(sector: int, generation: int) -> bytes:
    """What generation ``generation`` writes to a sector; generation 0 is zeroes."""
    return struct.pack("<QQ", sector, generation) * (SECTOR // 16) if generation else bytes(SECTOR)


def main() -> None:
    """``power_cut_writer IMAGE SEED``."""
    path, seed = sys.argv[1], int(sys.argv[2])
    rng = random.Random(seed)
    disk = open_image(path, format="qcow2")
    assert isinstance(disk, Qcow2Device)
    sectors = disk.size // SECTOR
    out = sys.stdout.buffer
    generation = snapshots = 0
    while True:
        generation += 1
        start = rng.randrange(sectors)
        count = min(sectors - start, rng.choice([1, 8, 200, 2000]))
        kind = rng.randrange(10)
        # Said before it is done: a killed write may have reached the disk in part.
        zero = kind == 0
        out.write(b"w %d %d %d\n" % (start, count, 0 if zero else generation))
        out.flush()
        if zero:
            disk.write_zeroes(start * SECTOR, count * SECTOR)
        else:
            data = b"".join(content(start + index, generation) for index in range(count))
            disk.pwrite(start * SECTOR, data)
        if kind < 3:  # changes COPIED flags and refcounts in turn
            out.write(b"s\n")
            out.flush()
        if kind == 1 and disk.refcounts.bits >= 16:
            snapshots += 1
            create_snapshot(disk, f"s{snapshots}")
        elif kind == 2 and snapshots:
            delete_snapshot(disk, f"s{snapshots}")
            snapshots -= 1
        elif 3 <= kind < 6:
            disk.flush()
            out.write(b"f\n")
            out.flush()
        if kind < 3:
            out.write(b"e\n")
            out.flush()


if __name__ == "__main__":
    os.nice(1)
    main()
