"""TLS on a viewer's connection."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final

from pytcg.ui.vnc.stream import Hangup, LayeredStream, Stream

_CHUNK: Final = 1 << 16


class TlsStream(LayeredStream):
    """What TLS carries on another stream. Errors of TLS are OSErrors."""

    def __init__(self, below: Stream, context: ssl.SSLContext) -> None:
        super().__init__(below)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        """The server's side of the handshake; OSError, Hangup."""
        while True:
            try:
                self._tls.do_handshake()
                self._flush()
                return
            except ssl.SSLWantReadError:
                self._flush()
                await self._fill()
            except ssl.SSLError:
                self._flush()  # the alert
                raise

    @property
    def peer_name(self) -> str | None:
        """The distinguished name of the peer's certificate, if it has shown one."""
        certificate = self._tls.getpeercert()
        if not certificate:
            return None
        subject = certificate.get("subject", ())
        return ",".join(f"{_SHORT.get(name, name)}={value}" for part in reversed(subject)
                        for name, value in part)  # fmt: skip

    async def some(self) -> bytes:
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                self._flush()
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def _fill(self) -> None:
        data = await self._below.chunk()
        if not data:
            raise Hangup
        self._incoming.write(data)

    def write(self, data: bytes) -> None:
        if data and not self.closing:
            try:
                self._tls.write(data)
            except ssl.SSLError:
                self._below.close()
            self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def close(self) -> None:
        if not self.closing:
            with suppress(OSError):  # the peer answers, or not
                self._tls.unwrap()
            self._flush()
        self._below.close()

_SHORT: Final = {"commonName": "CN", "countryName": "C", "organizationName": "O",
                 "organizationalUnitName": "OU", "localityName": "L",
                 "stateOrProvinceName": "ST"}  # fmt: skip
