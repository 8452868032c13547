"""The compile service looks at blocks that may have been dropped: whatever lies there now."""

from __future__ import annotations

import random

from pytcg import Cpu
from pytcg.exec import regions
from pytcg.softmmu.ram import HostBuffer


def test_what_is_no_block_any_more_has_no_seed() -> None:
    cpu = Cpu()._cpu
    room = HostBuffer(1 << 14)
    request = HostBuffer(regions.REQUEST_BYTES)
    noise = random.Random(8)
    for _ in range(50):
        room.view[:] = noise.randbytes(len(room.view))
        assert cpu.engine.call("seed_hash", cpu.address, room.address) == 0
        assert cpu.engine.call("region_grow", cpu.address, room.address, request.address) == 0
