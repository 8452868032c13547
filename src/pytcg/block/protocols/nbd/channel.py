"""A byte stream between NBD peers: a blocking socket, bare or under TLS.

One thread may receive while another sends. `shutdown` wakes both from any other thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time

Bytes = bytes | bytearray | memoryview

_TLS_STEP = 256 << 10  # bounds what waits inside the TLS buffers


class ConnectionLost(Exception):
    """The peer went away, or did not answer in time."""


class TlsFailed(ConnectionLost):
    """TLS can't be begun with this peer."""


class Channel:
    """A connected stream socket with exact reads and whole writes."""

    can_splice = hasattr(os, "splice")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._deadline: float | None = None
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_deadline(self, seconds: float | None) -> None:
        """All that follows must be over in this many seconds; None lifts it.

        Only while one thread uses the channel: during negotiation.
        """
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.sock.settimeout(None)

    def receive_into(self, view: memoryview) -> None:
        """Fill `view`."""
        while len(view):
            count = self._receive_some(view)
            if not count:
                raise ConnectionLost("disconnected")
            view = view[count:]

    def receive(self, count: int) -> bytearray:
        """Exactly `count` bytes."""
        data = bytearray(count)
        self.receive_into(memoryview(data))
        return data

    def drain(self, count: int) -> None:
        """Receive `count` bytes and forget them."""
        scratch = memoryview(bytearray(min(count, 64 << 10)))
        while count:
            step = min(count, len(scratch))
            self.receive_into(scratch[:step])
            count -= step

    def send(self, *parts: Bytes) -> None:
        """Send all parts, in order, without joining them."""
        self._send_raw(*parts)

    def splice(self, pipe: int, length: int) -> None:
        """Send `length` bytes that wait in a pipe."""
        try:
            while length:
                length -= os.splice(pipe, self.sock.fileno(), length)
        except OSError as error:
            raise ConnectionLost(_reason(error)) from None

    def finish(self) -> None:
        """Say goodbye, where the transport has a word for it; nobody may be sending."""

    def shutdown(self) -> None:
        """End the connection in both directions; whoever waits on it is woken."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def hear_out(self, seconds: float) -> None:
        """Say no more but let the peer end: closing on its unread words would take back ours."""
        scratch = memoryview(bytearray(4096))
        with contextlib.suppress(OSError, ConnectionLost):
            self.sock.shutdown(socket.SHUT_WR)
            self.set_deadline(seconds)
            while self._receive_raw(scratch):
                pass

    def close(self) -> None:
        """Release the socket; nobody may be using it."""
        self.shutdown()
        self.sock.close()

    def _receive_some(self, view: memoryview) -> int:
        return self._receive_raw(view)

    def _receive_raw(self, view: memoryview) -> int:
        try:
            self._apply_deadline()
            return self.sock.recv_into(view, 0, socket.MSG_WAITALL)
        except OSError as error:
            raise ConnectionLost(_reason(error)) from None

    def _send_raw(self, *parts: Bytes) -> None:
        views = [memoryview(part) for part in parts if len(part)]
        try:
            while views:
                self._apply_deadline()
                sent = self.sock.sendmsg(views)
                while views and sent >= len(views[0]):
                    sent -= len(views.pop(0))
                if sent:
                    views[0] = views[0][sent:]
        except OSError as error:
            raise ConnectionLost(_reason(error)) from None

    def _apply_deadline(self) -> None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self.sock.settimeout(left)


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


class TlsChannel(Channel):
    """A channel with TLS over it, begun on a bare one that has nothing in flight.

    OpenSSL's object is not to be used by two threads at once, and a blocking `SSLSocket` would
    hold it while it waits; so the records pass through memory and only that part is locked.
    """

    can_splice = False

    def __init__(self, bare: Channel, context: ssl.SSLContext, *, server_side: bool,
                 hostname: str | None = None) -> None:
        super().__init__(bare.sock)
        self._deadline = bare._deadline
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=hostname
        )
        self._tls_lock = threading.Lock()  # the TLS object
        self._out_lock = threading.Lock()  # the order of records on the socket
        self._scratch = memoryview(bytearray(_TLS_STEP))
        self._handshake()

    def send(self, *parts: Bytes) -> None:
        for part in parts:
            view = memoryview(part)
            while len(view):
                self._encrypt(view[:_TLS_STEP])
                view = view[_TLS_STEP:]
        self._flush_records()

    def finish(self) -> None:
        with contextlib.suppress(ssl.SSLError, OSError), self._tls_lock:
            self._tls.unwrap()
        with contextlib.suppress(ConnectionLost):
            self._flush_records()

    def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                self._flush_records()
                return
            except ssl.SSLWantReadError:
                self._flush_records()
                self._feed()
            except (ssl.SSLError, ssl.CertificateError) as error:
                with contextlib.suppress(ConnectionLost):
                    self._flush_records()  # the alert
                raise TlsFailed(self._why(error)) from None

    def _why(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _verify_reason(error, self._tls.server_hostname)
        return f"TLS handshake failed: {_tls_reason(error)}"

    def _encrypt(self, view: memoryview) -> None:
        with self._tls_lock:
            try:
                self._tls.write(view)
            except ssl.SSLError as error:
                raise ConnectionLost(_tls_reason(error)) from None
        self._flush_records()

    def _flush_records(self) -> None:
        with self._out_lock:
            while self._outgoing.pending:
                self._send_raw(self._outgoing.read())

    def _receive_some(self, view: memoryview) -> int:
        while True:
            try:
                with self._tls_lock:
                    return int(self._tls.read(len(view), view))
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    self._flush_records()
                self._feed()
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLError as error:
                raise ConnectionLost(_tls_reason(error)) from None

    def _feed(self) -> None:
        try:
            self._apply_deadline()
            count = self.sock.recv_into(self._scratch)
        except OSError as error:
            raise ConnectionLost(_reason(error)) from None
        if not count:
            raise ConnectionLost("disconnected")
        with self._tls_lock:
            self._incoming.write(self._scratch[:count])


#: OpenSSL's verify codes (X509_V_ERR_...) in QEMU's words; for the rest it has one for all.
_VERIFY_WORDS = {
    **dict.fromkeys((2, 18, 19, 20, 21), "The certificate hasn't got a known issuer"),
    23: "The certificate has been revoked",
    **dict.fromkeys((66, 67, 68), "The certificate uses an insecure algorithm"),
    **dict.fromkeys((62, 64), "Certificate does not match the hostname {}"),
}


def _verify_reason(error: ssl.SSLCertVerificationError, hostname: str | None) -> str:
    words = _VERIFY_WORDS.get(error.verify_code, "The certificate is not trusted")
    return words.format(hostname)


def _tls_reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error)
