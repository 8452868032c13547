"""What a peer knows: its id, the shared memory, and everybody's doorbells."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from pytcg.ivshmem.protocol import (
    MAX_ID,
    MAX_VECTORS,
    SHARED_MEMORY,
    VERSION,
    IvshmemError,
    Message,
    Receiver,
)


class Peers:
    """One connection to a server. ``own`` are this peer's eventfds, `others` those of the rest."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.id = -1
        self.memory = -1
        self.own: list[int] = []
        self.others: dict[int, list[int]] = {}
        self.on_vector: Callable[[int], None] = lambda fd: None
        """Called with each eventfd of this peer's own, as it comes."""
        self._receiver = Receiver(peer)

    def greet(self) -> None:
        """Wait for version, id and memory; IvshmemError."""
        version = self._wait()
        if version.value != VERSION:
            raise IvshmemError(f"server sent version {version.value}, expecting {VERSION}")
        self.id = self._wait().value
        if not 0 <= self.id <= MAX_ID:
            raise IvshmemError(f"server sent invalid ID {self.id}")
        memory = self._wait()
        if memory.value != SHARED_MEMORY or memory.fd < 0:
            raise IvshmemError("server sent no shared memory")
        self.memory = memory.fd

    def _wait(self) -> Message:
        while True:
            message = self._receiver.receive()
            if message is not None:
                return message

    def take(self) -> bool:
        """One message of those that follow, if there is one; IvshmemError."""
        message = self._receiver.receive()
        if message is None:
            return False
        value, fd = message
        if not 0 <= value <= MAX_ID:
            raise IvshmemError(f"server sent invalid message {value}")
        if fd < 0:
            if value == self.id:
                raise IvshmemError("server sent our own disconnect")
            for old in self.others.pop(value, []):
                os.close(old)
            return True
        bells = self.own if value == self.id else self.others.setdefault(value, [])
        if len(bells) == MAX_VECTORS:
            os.close(fd)
            raise IvshmemError(f"too many vectors of peer {value}")
        os.set_blocking(fd, False)
        bells.append(fd)
        if value == self.id:
            self.on_vector(fd)
        return True

    def ring(self, peer: int, vector: int) -> bool:
        """Interrupt a peer (oneself too); False if there is no such doorbell."""
        bells = self.own if peer == self.id else self.others.get(peer, [])
        if vector >= len(bells):
            return False
        with suppress(BlockingIOError):  # it has been rung 2^64 times and not been heard
            os.eventfd_write(bells[vector], 1)
        return True

    def close(self) -> None:
        """Leave."""
        self._receiver.close()
        self.socket.close()
        fds = [*self.own, *(fd for bells in self.others.values() for fd in bells)]
        for fd in [*fds, *([self.memory] if self.memory >= 0 else [])]:
            os.close(fd)
        self.own, self.others, self.memory = [], {}, -1
