"""The server: hands shared memory and everybody's doorbells to each peer that connects."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

from pytcg.ivshmem.protocol import MAX_ID, SHARED_MEMORY, VERSION, send


class Peer:
    """A connection with its id and eventfds."""

    def __init__(self, connection: socket.socket, number: int, vectors: int) -> None:
        self.connection = connection
        self.id = number
        self.vectors = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(vectors)]

    def close(self) -> None:
        self.connection.close()
        for fd in self.vectors:
            os.close(fd)


class IvshmemServer:
    """Serves ``listener``, a UNIX socket, until `stop`; ``memory`` is the memory's descriptor."""

    def __init__(self, listener: socket.socket, memory: int, vectors: int,
                 say: Callable[[str], None] = lambda text: None) -> None:  # fmt: skip
        self._listener = listener
        self._memory = memory
        self._vectors = vectors
        self._say = say
        self._peers: dict[int, Peer] = {}
        self._next = 0
        self._stopping = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector = selectors.DefaultSelector()
        listener.setblocking(False)
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._selector.register(self._wake, selectors.EVENT_READ, None)

    def serve(self) -> None:
        """Until `stop`; then all peers are dropped."""
        try:
            while not self._stopping:
                for key, _ in self._selector.select():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.data, Peer):
                        self._heard(key.data)
        finally:
            for peer in list(self._peers.values()):
                self._drop(peer)
            self._selector.close()
            os.close(self._wake)

    def stop(self) -> None:
        """From a signal handler or another thread."""
        self._stopping = True
        os.eventfd_write(self._wake, 1)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            self._say(f"cannot accept() {error.strerror}")
            return
        connection.setblocking(False)
        number = self._free_id()
        if number is None:
            self._say("cannot allocate new client id")
            connection.close()
            return
        try:
            peer = Peer(connection, number, self._vectors)
        except OSError as error:
            self._say(f"cannot create eventfd: {error.strerror}")
            connection.close()
            return
        self._welcome(peer)

    def _free_id(self) -> int | None:
        for _ in range(MAX_ID + 1):
            number, self._next = self._next, (self._next + 1) % (MAX_ID + 1)
            if number not in self._peers:
                return number
        return None

    def _welcome(self, peer: Peer) -> None:
        try:
            send(peer.connection, VERSION)
            send(peer.connection, peer.id)
            send(peer.connection, SHARED_MEMORY, self._memory)
        except OSError as error:
            self._say(f"cannot send initial info: {error.strerror}")
            peer.close()
            return
        for other in list(self._peers.values()):
            self._tell(other, peer)
        self._peers[peer.id] = peer
        self._selector.register(peer.connection, selectors.EVENT_READ, peer)
        self._say(f"new peer id = {peer.id}")
        for other in list(self._peers.values()):
            if other is not peer:
                self._tell(peer, other)
        self._tell(peer, peer)

    def _tell(self, listener: Peer, about: Peer) -> None:
        """Hand one peer's doorbells to another; who can't take them is dropped."""
        if listener.connection.fileno() < 0:
            return
        try:
            for fd in about.vectors:
                send(listener.connection, about.id, fd)
        except OSError:
            self._drop(listener)

    def _heard(self, peer: Peer) -> None:
        """A peer has nothing to say: it leaves, or is shown out."""
        if peer.connection.fileno() >= 0:
            self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        if self._peers.pop(peer.id, None) is None:
            return
        self._say(f"free peer {peer.id}")
        with suppress(KeyError, ValueError):
            self._selector.unregister(peer.connection)
        peer.close()
        for other in list(self._peers.values()):
            try:
                send(other.connection, peer.id)
            except OSError:
                self._drop(other)
