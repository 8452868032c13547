"""An NBD server: listening sockets, a bounded number of clients, and an orderly end.

Threads, not a task per request: a blocking socket and a disk read drop the GIL, and a request
that stays in the thread which received it pays for no hand-over. `start` returns at once, so the
main loop of a machine can hold a server too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterable

from pytcg.block.protocols.nbd.channel import Channel, ConnectionLost, TlsFailed
from pytcg.block.protocols.nbd.export import Export
from pytcg.block.protocols.nbd.negotiation import Handshake
from pytcg.block.protocols.nbd.protocol import NbdError
from pytcg.block.protocols.nbd.transmission import Transmission

log = logging.getLogger("pytcg.nbd")

#: What "no limit" means: each client costs threads and buffers.
MAX_CLIENTS = 1000
#: A client that has not chosen an export by then is dropped (QEMU's handshake limit).
HANDSHAKE_SECONDS = 10.0


class Client:
    """One connection, from accept to close, in a thread of its own."""

    def __init__(self, server: NbdServer, sock: socket.socket) -> None:
        self._server = server
        self._channel = Channel(sock)
        self._transmission: Transmission | None = None
        self.thread = threading.Thread(target=self._run, name="nbd-client", daemon=True)

    def stop(self) -> None:
        """Break the connection; the thread ends soon after."""
        self._channel.shutdown()  # TLS shares the socket
        if self._transmission is not None:
            self._transmission.stop()

    def _run(self) -> None:
        try:
            self._serve()
        except TlsFailed as error:
            log.info("negotiation failed: %s", error)
            self._channel.hear_out(1.0)  # it is told why by an alert
        except (ConnectionLost, NbdError) as error:
            log.info("negotiation failed: %s", error)
        except Exception:
            log.exception("client thread failed")
        finally:
            with contextlib.suppress(ConnectionLost):
                self._channel.finish()
            self._channel.close()
            self._server.client_left(self)

    def _serve(self) -> None:
        self._channel.set_deadline(self._server.handshake_seconds)
        handshake = Handshake(self._channel, self._server.exports, self._server.tls)
        try:
            session = handshake.run()
        finally:
            self._channel = handshake.channel
        self._channel.set_deadline(None)
        if session is not None:
            self._transmission = Transmission(session)
            if not self._server.closing:
                self._transmission.run()


class NbdServer:
    """Serves exports on the sockets given to `start` until `close`.

    `max_clients` 0 means no limit of one's own; clients above it wait in the backlog.
    `on_last_client` is called, from a client's thread, each time the last one has left.
    """

    def __init__(self, exports: Iterable[Export], *, tls: ssl.SSLContext | None = None,
                 max_clients: int = 1, handshake_seconds: float = HANDSHAKE_SECONDS,
                 on_last_client: Callable[[], None] | None = None) -> None:
        self.exports = {export.name: export for export in exports}
        self.tls = tls
        self.handshake_seconds = handshake_seconds
        self.closing = False
        self._limit = min(max_clients or MAX_CLIENTS, MAX_CLIENTS)
        self._on_last_client = on_last_client
        self._clients: set[Client] = set()
        self._changed = threading.Condition()
        self._listeners: list[socket.socket] = []
        self._wake_in, self._wake_out = socket.socketpair()
        self._thread = threading.Thread(target=self._accept_loop, name="nbd-accept", daemon=True)

    def start(self, *listeners: socket.socket) -> None:
        """Accept clients on these listening sockets; they are the server's from now on."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting, drop all clients and wait until their last request has ended."""
        with self._changed:
            already, self.closing = self.closing, True
            self._changed.notify_all()
        if not already:
            self._wake_out.send(b"x")
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:
            clients = list(self._clients)
        for client in clients:
            client.stop()
        for client in clients:
            client.thread.join()
        for sock in (*self._listeners, self._wake_in, self._wake_out):
            sock.close()

    def client_left(self, client: Client) -> None:
        """A client's thread is about to end."""
        with self._changed:
            self._clients.discard(client)
            last = not self._clients
            self._changed.notify_all()
        if last and self._on_last_client is not None:
            self._on_last_client()

    def _accept_loop(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_in, selectors.EVENT_READ)
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while self._has_room():
                for key, _ in selector.select():
                    if key.fileobj is not self._wake_in:
                        self._accept(key.fileobj)  # type: ignore[arg-type]

    def _has_room(self) -> bool:
        """Wait until another client may come; False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing or len(self._clients) < self._limit)
            return not self.closing

    def _accept(self, listener: socket.socket) -> None:
        if not self._has_room():
            return
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors left: don't spin on a ready socket
            log.warning("accept: %s", error.strerror)
            with self._changed:
                self._changed.wait(0.1)
            return
        sock.setblocking(True)
        client = Client(self, sock)
        with self._changed:
            self._clients.add(client)
        try:
            client.thread.start()
        except RuntimeError as error:  # no threads left
            log.warning("%s", error)
            sock.close()
            self.client_left(client)


def listen_tcp(host: str, port: int, *, backlog: int = 128) -> list[socket.socket]:
    """Listen on every address `host` resolves to. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM,
                               flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in found:
            sock = socket.socket(family, kind, protocol)
            listeners.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(backlog)
    except OSError:
        for sock in listeners:
            sock.close()
        raise
    return listeners


def listen_unix(path: str, *, backlog: int = 128) -> socket.socket:
    """Listen on a unix socket, replacing a socket nobody needs any more. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock
