"""Sockets: `unix:` and `tcp:`, listening or connecting, as telnet or raw.

A server has one peer at a time; others wait in the backlog. Output without a peer is lost, as a
cable that nobody has plugged in.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass

from pytcg.chardev import telnet
from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend
from pytcg.chardev.stream import FdInput, FdOutput


@dataclass(frozen=True)
class SocketOptions:
    """What the `socket` backend takes."""

    path: str | None = None  # a UNIX socket's; else TCP
    host: str = ""
    port: str = ""
    fd: int | None = None  # a socket that this process was given
    server: bool = False
    wait: bool = False  # a server waits for its first client before the machine starts
    telnet: bool = False
    nodelay: bool = False
    reconnect: int = 0  # seconds between attempts of a client; 0: none

    def address(self) -> str:
        """The address as messages and `query-chardev` show it."""
        if self.path is not None:
            place = f"unix:{self.path}"
        elif self.fd is not None:
            place = f"fd:{self.fd}"
        else:
            kind = "telnet" if self.telnet else "tcp"
            host = f"[{self.host}]" if ":" in self.host else self.host
            place = f"{kind}:{host}:{self.port}"
        return f"{place},server=on" if self.server else place


class SocketChardev(Chardev):
    """A listening socket and at most one connection."""

    def __init__(self, label: str, options: SocketOptions) -> None:
        super().__init__(label)
        self.options = options
        self._context: Context | None = None
        self._frontend: Frontend | None = None
        self._listener: socket.socket | None = None
        self._peer: socket.socket | None = None
        self._input: FdInput | None = None
        self._output: FdOutput | None = None
        self._telnet = telnet.TelnetFilter()
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        if options.server:
            self._listen()
        elif not options.reconnect:
            self._adopt(self._dial())

    def description(self) -> str:
        state = "" if self._peer is not None else "disconnected:"
        return state + self.options.address()

    @property
    def connected(self) -> bool:
        """Is there a peer?"""
        return self._peer is not None

    # Opening -----------------------------------------------------------------------------------

    def _endpoint(self) -> tuple[int, object]:
        """(address family, address); ChardevError if the host or port is unknown."""
        options = self.options
        if options.path is not None:
            if len(os.fsencode(options.path)) > 107:
                raise ChardevError(f"UNIX socket path '{options.path}' is too long")
            return socket.AF_UNIX, options.path
        try:
            flags = socket.AI_PASSIVE if options.server else 0
            found = socket.getaddrinfo(
                options.host or None, options.port, type=socket.SOCK_STREAM, flags=flags
            )
        except (OSError, UnicodeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ChardevError(
                f"address resolution failed for {options.host}:{options.port}: {reason}"
            ) from error
        if not options.host:  # everywhere, by IPv4: what a dual-stack host offers first varies
            found.sort(key=lambda row: row[0] != socket.AF_INET)
        return found[0][0], found[0][4]

    def _given(self, fd: int) -> socket.socket:
        """The descriptor as a socket; ChardevError if it is none, or not of the kind wanted."""
        try:
            given = socket.socket(fileno=fd)
            listens = given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise ChardevError(f"File descriptor '{fd}' is not a socket") from error
        given.set_inheritable(False)
        if bool(listens) != self.options.server:
            given.detach()
            wanted = "does not listen" if self.options.server else "listens"
            raise ChardevError(f"File descriptor '{fd}' is a socket that {wanted}")
        return given

    def _listen(self) -> None:
        listener = (self._bind() if self.options.fd is None
                    else self._given(self.options.fd))  # fmt: skip
        self._listener = listener
        if self.options.wait:
            address_text = f"disconnected:{self.options.address()}"
            print(f"info: waiting for connection on: {address_text}", file=sys.stderr, flush=True)
            self._adopt(listener.accept()[0])
        listener.setblocking(False)

    def _bind(self) -> socket.socket:
        family, address = self._endpoint()
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if self.options.path is not None:
                with suppress(FileNotFoundError):
                    os.unlink(self.options.path)
            else:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)  # type: ignore[arg-type]
            listener.listen(1)
        except OSError as error:
            listener.close()
            where = self.options.path or f"{self.options.host}:{self.options.port}"
            verb = "bind socket to" if self.options.path else "find an available port on"
            raise ChardevError(f"Failed to {verb} {where}: {error.strerror}") from error
        return listener

    def _dial(self) -> socket.socket:
        if self.options.fd is not None:
            return self._given(self.options.fd)
        family, address = self._endpoint()
        peer = socket.socket(family, socket.SOCK_STREAM)
        try:
            peer.connect(address)  # type: ignore[arg-type]
        except OSError as error:
            peer.close()
            where = self.options.path or f"{self.options.host}:{self.options.port}"
            raise ChardevError(f"Failed to connect to '{where}': {error.strerror}") from error
        return peer

    def detach(self) -> socket.socket:
        """The connection itself, for a front-end that speaks for itself; ChardevError."""
        peer, self._peer = self._peer, None
        if peer is None:
            raise ChardevError(f"'{self.label}' is not connected")
        peer.setblocking(True)
        self._closed = True
        return peer

    def start(self, context: Context, frontend: Frontend | None) -> None:
        self._context, self._frontend = context, frontend
        if self._listener is not None:
            context.loop.add_reader(self._listener.fileno(), self._accept)
        if self._peer is not None:
            self._converse()
        elif self.options.reconnect:
            self._redial()

    # One connection ----------------------------------------------------------------------------

    def _adopt(self, peer: socket.socket) -> None:
        """Keep the connection; nobody else is let in meanwhile."""
        peer.setblocking(False)
        if self.options.nodelay and self.options.path is None:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        self._telnet = telnet.TelnetFilter()
        if self._context is not None:
            if self._listener is not None:
                self._context.loop.remove_reader(self._listener.fileno())
            self._converse()

    def _accept(self) -> None:
        assert self._listener is not None and self._context is not None
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return  # it has gone again
        with self._context.lock:
            self._adopt(peer)

    def _converse(self) -> None:
        assert self._peer is not None and self._context is not None
        if self._listener is not None:
            self._context.loop.remove_reader(self._listener.fileno())
        self._output = FdOutput(self._peer.fileno(), lambda: self.on_room())
        self._output.start(self._context)
        if self.options.telnet and self.options.server:
            self._output.write(telnet.GREETING)
        self._input = FdInput(self._peer.fileno(), self._context, self, self._gone)
        self.tell_open()

    def _gone(self) -> None:
        """The peer hung up: wait for the next one."""
        if self._peer is None:
            return
        self._drop()
        self.on_room()  # a front-end that held back goes on, into the void
        self.tell_closed()
        if self._closed or self._context is None:
            return
        if self._listener is not None:
            self._context.loop.add_reader(self._listener.fileno(), self._accept)
        elif self.options.reconnect:
            self._retry = self._context.loop.call_later(self.options.reconnect, self._redial)

    def _redial(self) -> None:
        assert self._context is not None
        try:
            with self._context.lock:
                self._adopt(self._dial())
        except ChardevError:
            self._retry = self._context.loop.call_later(self.options.reconnect, self._redial)

    def disconnect(self) -> None:
        """Hang up on the peer; main loop, device lock held."""
        self._gone()

    def _drop(self) -> None:
        if self._input is not None:
            self._input.stop()
        if self._output is not None:
            self._output.stop()
        if self._peer is not None:
            self._peer.close()
        self._peer = self._input = self._output = None

    # The front-end's side ----------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if self._output is not None:
            self._output.write(telnet.escape(data) if self.options.telnet else data)

    def full(self) -> bool:
        return self._output is not None and self._output.full()

    def accept_input(self) -> None:
        if self._input is not None:
            self._input.resume()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._drop()
        if self._listener is not None:
            if self._context is not None and not self._context.loop.is_closed():
                self._context.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            if self.options.path is not None:
                with suppress(OSError):
                    os.unlink(self.options.path)

    # What FdInput sees: the front-end, behind telnet's filter; without one, input is read away so
    # that a hang-up is noticed.

    def can_receive(self) -> int:
        """Room at the front-end."""
        return self._frontend.can_receive() if self._frontend is not None else 4096

    def receive(self, data: bytes) -> int:
        """Bytes from the peer."""
        wanted = self._telnet.strip(data) if self.options.telnet else data
        if self._frontend is not None:
            if wanted:
                self._frontend.receive(wanted)
            while self._telnet.breaks:
                self._telnet.breaks -= 1
                self._frontend.receive_break()
        return len(data)

    def receive_break(self) -> None:
        """Sockets have none but telnet's."""
