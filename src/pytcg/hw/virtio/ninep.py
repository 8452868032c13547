"""virtio-9p: a file server's messages (virtio 1.2 reserves device ID 9; Linux's virtio_9p.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from pytcg.hw.pci.device import DmaError
from pytcg.hw.state import State, StateError
from pytcg.hw.virtio.chain import Chain, RingError
from pytcg.hw.virtio.device import VirtioDevice, Virtqueue

QUEUE_SIZE: Final = 128
MOUNT_TAG: Final = 0  # feature bit
HEADER: Final = 7  # of a 9P message
MOST: Final = 1 << 21  # bytes of a request
TAG_MAX: Final = 32


class Server(Protocol):
    """Who answers; replies come in any order, under the device lock."""

    def submit(self, request: bytes, done: Callable[[bytes], None]) -> None: ...

    def reset(self) -> None: ...

    @property
    def in_use(self) -> bool:
        """Whether a client has a file system mounted."""
        ...


class VirtioNinep(VirtioDevice):
    """Carries messages between a guest and a server."""

    kind = 9
    queue_sizes = (QUEUE_SIZE,)
    own_features = 1 << MOUNT_TAG

    def __init__(self, server: Server, tag: bytes) -> None:
        super().__init__()
        self._server = server
        self._tag = tag

    def config(self) -> bytes:
        return struct.pack("<H", len(self._tag)) + self._tag

    def reset(self) -> None:
        super().reset()
        self._server.reset()

    def state(self) -> State:
        if self._server.in_use:
            tag = self._tag.decode(errors="replace")
            raise StateError("Migration is disabled when a VirtFS export is mounted in the guest"
                             f" using mount_tag '{tag}'")  # fmt: skip
        return super().state()

    def notified(self, queue: Virtqueue) -> None:
        queue.take_all(partial(self._serve, queue))

    def _serve(self, queue: Virtqueue, chain: Chain) -> None:
        if not HEADER <= chain.to_read <= MOST or chain.to_write < HEADER:
            raise RingError("a request or a reply without room for its header, or one too long")
        self._server.submit(chain.read(), partial(self._end, self.generation, queue, chain))

    def _end(self, generation: int, queue: Virtqueue, chain: Chain, reply: bytes) -> None:
        if generation != self.generation:
            return
        if len(reply) > chain.to_write:
            self.fail()
            return
        try:
            chain.write(reply)
        except DmaError:
            self.fail()
            return
        queue.push(chain, len(reply))
