"""Opens damaged images in a process with little memory; anything but a BlockError is a bug.

``hostile_reader BASE SEED COUNT``: BASE is copied, damaged at random and used, COUNT times.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import resource
import struct
import sys
from collections.abc import Callable

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.snapshot import apply_snapshot, create_snapshot, delete_snapshot
from pytcg.block.open import open_image

SECONDS = 20
MEMORY = 1 << 30
EDGES = (0, 1, 511, 512, 0x10000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 56, (1 << 63) - 512,
         (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 512)


def damage(image: bytearray, rng: random.Random) -> None:
    """Change some fields: in the header, or wherever there is something."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        if rng.random() < 0.5:
            at = rng.randrange(0, 112)
        else:
            at = rng.choice([index for index in range(0, len(image) - 8, 8)
                             if any(image[index : index + 8])])
        kind = rng.randrange(4)
        if kind == 0:
            image[at] = rng.randrange(256)
        elif kind == 1:
            image[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            struct.pack_into(">I", image, at & ~3, rng.choice(EDGES) & 0xFFFF_FFFF)
        else:
            struct.pack_into(">Q", image, at & ~7, rng.choice(EDGES))


def use(disk: BlockDevice, *, write: bool) -> None:
    """Read, look and perhaps write."""
    acts: list[Callable[[], object]] = [
            lambda: disk.pread(0, min(disk.size, 1 << 20)),
            lambda: disk.pread(max(0, disk.size - 65536), min(65536, disk.size)),
            lambda: disk.block_status(0, min(disk.size, 1 << 30), limit=100)]
    if isinstance(disk, Qcow2Device):
        acts.append(disk.check)
        acts.append(lambda: [disk.bitmap_status(name, 0, min(disk.size, 1 << 20))
                             for name in disk.bitmap_names()])
        if write:
            acts += [lambda: create_snapshot(disk, "new"), lambda: apply_snapshot(disk, "one"),
                     lambda: delete_snapshot(disk, "one"),
                     lambda: disk.check(repair="all")]
    elif (check := getattr(disk, "check", None)) is not None:
        acts.append(lambda: check(repair="all" if write else None, report=lambda line: None))
    if write:
        acts += [lambda: disk.pwrite(0, b"x" * 100_000),
                 lambda: disk.write_zeroes(0, min(disk.size, 1 << 20)),
                 lambda: disk.discard(0, min(disk.size, 1 << 20)), disk.flush]
    for act in acts:
        with contextlib.suppress(BlockError):
            act()


def main() -> None:
    """Run the cases; the number of the failing one is on standard error."""
    base, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with open(base, "rb") as file:
        good = file.read()
    path = base + ".damaged"
    for case in range(seed, seed + count):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        rng = random.Random(case)
        image = bytearray(good)
        damage(image, rng)
        with open(path, "wb") as file:
            file.write(image)
        write = rng.random() < 0.5
        try:
            with (contextlib.suppress(BlockError),
                  open_image(path, read_only=not write, check=rng.random() < 0.3) as disk):
                use(disk, write=write)
            assert os.path.getsize(path) < 64 << 20 or os.stat(path).st_blocks < 1 << 17
        except BaseException:
            print(f"case {case}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main()
