"""virtio-rng: entropy (virtio 1.2, 5.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pytcg.hw.virtio.chain import Chain
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

MOST: Final = 1 << 16  # bytes a buffer gets; the driver asks again


class VirtioRng(VirtioDevice):
    """Fills the buffers it is offered from ``source(length)``."""

    kind = 4
    queue_sizes = (8,)

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        super().__init__()

    def notified(self, queue: Virtqueue) -> None:
        def serve(chain: Chain) -> None:
            data = self._source(min(chain.to_write, MOST))
            chain.write(data)
            queue.push(chain, len(data))

        queue.take_all(serve)
