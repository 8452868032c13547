"""`udp`: datagrams to a peer, and what it sends back."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import ROOM_POLL

LONGEST = 65536

Place = tuple[str, str]
"""Host and port, as text."""


class UdpChardev(Chardev):
    """A datagram for each write. One that nobody receives is lost; the next may arrive."""

    def __init__(self, label: str, remote: Place, local: Place = ("", "0")) -> None:
        super().__init__(label)
        self._pending = b""
        self._context: Context | None = None
        self._frontend: Frontend | None = None
        self._waiting: asyncio.TimerHandle | None = None
        family, address = _resolve(*remote)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            if local != ("", "0"):
                self._socket.bind(_resolve(*local, family=family)[1])  # type: ignore[arg-type]
            self._socket.connect(address)  # type: ignore[arg-type]
        except OSError as error:
            self._socket.close()
            raise ChardevError(f"Failed to bind socket: {error.strerror}") from error
        except ChardevError:
            self._socket.close()
            raise

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._context, self._frontend = context, frontend
        if frontend is not None:
            context.loop.add_reader(self._socket.fileno(), self._readable)
        self.tell_open()

    def description(self) -> str:
        return "udp"

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self._socket.send(data)

    def accept_input(self) -> None:
        if self._waiting is not None and self._context is not None:
            self._context.loop.call_soon_threadsafe(self._hand_on)

    def close(self) -> None:
        if self._context is not None and not self._context.loop.is_closed():
            self._context.loop.remove_reader(self._socket.fileno())
            if self._waiting is not None:
                self._waiting.cancel()
        self._socket.close()

    def _readable(self) -> None:
        assert self._context is not None
        with suppress(OSError):  # a refusal of what was sent before
            self._pending = self._socket.recv(LONGEST)
        self._context.loop.remove_reader(self._socket.fileno())
        self._hand_on()

    def _hand_on(self) -> None:
        """Give the datagram to the front-end as it has room; then the next may come."""
        assert self._context is not None and self._frontend is not None
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        with self._context.lock:
            room = self._frontend.can_receive()
            if self._pending and room > 0:
                taken = self._frontend.receive(self._pending[:room])
                self._pending = self._pending[taken:]
        if self._pending:
            self._waiting = self._context.loop.call_later(ROOM_POLL, self._hand_on)
        elif self._socket.fileno() >= 0:
            self._context.loop.add_reader(self._socket.fileno(), self._readable)


def _resolve(host: str, port: str, family: int = 0) -> tuple[int, object]:
    try:
        found = socket.getaddrinfo(host or None, port, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ChardevError(f"address resolution failed for {host}:{port}: {reason}") from error
    return found[0][0], found[0][4]
