"""ivshmem-plain and ivshmem-doorbell."""

from __future__ import annotations

import os
from functools import partial

from pytcg.chardev.socket import SocketChardev
from pytcg.hw.misc.ivshmem import Ivshmem
from pytcg.ivshmem.peers import Peers
from pytcg.ivshmem.protocol import MAX_VECTORS, IvshmemError
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError
from pytcg.machine.memory_backend import BackendError, MemoryBackend, place


def build_plain(rack: Rack, values: Values) -> object:
    """ivshmem-plain: memory alone."""
    name = "ivshmem-plain"
    if values["memdev"] is None:
        raise DeviceError(f"-device {name}: You must specify a 'memdev'")
    backend: MemoryBackend = rack.take_object(name, "memdev", values)
    try:
        card = Ivshmem(place(rack.board.memory, backend.fd, backend.size, share=backend.share))
    except (BackendError, ValueError) as error:
        raise DeviceError(f"-device {name}: {error}") from None
    rack.undo_by(partial(_unmap, rack, card))
    rack.plug_pci(card, name, values)
    return card


def build_doorbell(rack: Rack, values: Values) -> object:
    """ivshmem-doorbell: a peer of an ivshmem server."""
    name = "ivshmem-doorbell"
    chardev = rack.take_chardev(name, values)
    if not isinstance(chardev, SocketChardev):
        raise DeviceError(f"-device {name}: You must specify a 'chardev' that is a socket")
    if not 1 <= values["vectors"] <= MAX_VECTORS:
        raise DeviceError(f"-device {name}: vectors must be between 1 and {MAX_VECTORS}")
    try:
        peers = Peers(chardev.detach())
        peers.greet()
        memory = place(rack.board.memory, peers.memory, os.fstat(peers.memory).st_size)
        card = Ivshmem(memory, values["vectors"], peers.ring)
    except (IvshmemError, BackendError, ValueError) as error:
        raise DeviceError(f"-device {name}: {error}") from None
    card.position = peers.id
    rack.undo_by(partial(_unmap, rack, card))
    rack.undo_by(Doorbells(rack, card, peers).close)
    rack.plug_pci(card, name, values)
    return card


def _unmap(rack: Rack, card: Ivshmem) -> None:
    """Its place in the RAM window is empty from now on; nothing shows it any more."""
    memory = card.memory
    rack.board.memory.window.unshare(memory.offset, len(memory.view))


class Doorbells:
    """What a card hears in the main loop: its server, and its own eventfds."""

    def __init__(self, rack: Rack, card: Ivshmem, peers: Peers) -> None:
        context = rack.chardevs.context
        self._loop, self._lock = context.loop, context.lock
        self._card = card
        self._peers = peers
        peers.on_vector = self._listen
        peers.socket.setblocking(False)
        self._loop.add_reader(peers.socket.fileno(), self._hear)
        self._hear()

    def _hear(self) -> None:
        """The server: peers that come and go; when it is gone itself, all stays as it is."""
        try:
            with self._lock:
                while self._peers.take():
                    pass
        except IvshmemError:
            self._loop.remove_reader(self._peers.socket.fileno())

    def close(self) -> None:
        """The card is gone."""
        for fd in (self._peers.socket.fileno(), *self._peers.own):
            self._loop.remove_reader(fd)
        self._peers.close()

    def _listen(self, fd: int) -> None:
        self._loop.add_reader(fd, partial(self._rung, fd, self._peers.own.index(fd)))

    def _rung(self, fd: int, vector: int) -> None:
        try:
            os.eventfd_read(fd)
        except BlockingIOError:
            return
        with self._lock:
            self._card.interrupt(vector)
