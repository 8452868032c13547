"""The protocol between an ivshmem server and its peers: numbers, some with a descriptor.

A server says its version, the peer's id, and -1 with the shared memory. Then a peer's id with a
descriptor is that peer's next interrupt vector (an eventfd), one's own included; an id without one
says that the peer is gone. Peers say nothing.
"""

from __future__ import annotations

import os
import socket
from typing import Final, NamedTuple

VERSION: Final = 0
SHARED_MEMORY: Final = -1
MAX_ID: Final = 65535
MAX_VECTORS: Final = 64
_SIZE: Final = 8


class IvshmemError(Exception):
    """A server or peer that does not keep to the protocol, or went away."""


class Message(NamedTuple):
    """A number, and the descriptor that came with it or -1; whoever has it closes it."""

    value: int
    fd: int = -1


def send(peer: socket.socket, value: int, fd: int = -1) -> None:
    """One message; OSError, BlockingIOError too if the peer doesn't read."""
    data = value.to_bytes(_SIZE, "little", signed=True)
    sent = socket.send_fds(peer, [data], [fd]) if fd >= 0 else peer.send(data)
    if sent != _SIZE:
        raise BlockingIOError(0, "the peer reads too slowly")


class Receiver:
    """Takes messages from a socket, in whatever pieces they come."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._data = b""
        self._fd = -1

    def receive(self) -> Message | None:
        """The next message; None if there is not all of one yet. IvshmemError at the end."""
        try:
            data, fds, flags, _ = socket.recv_fds(self._peer, _SIZE - len(self._data), 1)
        except BlockingIOError:
            return None
        except OSError as error:
            raise IvshmemError(f"receive error: {error.strerror}") from error
        if (fds and self._fd >= 0) or flags & socket.MSG_CTRUNC:
            for fd in fds:
                os.close(fd)
            raise IvshmemError("more descriptors than messages")
        if fds:
            self._fd = fds[0]
        if not data:
            self.close()
            raise IvshmemError("the server has closed the connection")
        self._data += data
        if len(self._data) < _SIZE:
            return None
        value, fd = int.from_bytes(self._data, "little", signed=True), self._fd
        self._data, self._fd = b"", -1
        return Message(value, fd)

    def close(self) -> None:
        """Drop a descriptor whose message never came whole."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
