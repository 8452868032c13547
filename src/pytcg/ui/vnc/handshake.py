"""From a connection to a viewer that may look: version, security (RFC 6143, 7.1 and 7.2)."""

from __future__ import annotations

import asyncio
import ssl
import struct
from dataclasses import dataclass, field
from typing import Final

from pytcg.ui.vnc.protocol import ProtocolError, VencryptType
from pytcg.ui.vnc.security import CHALLENGE, Doorkeeper, Password, Refused, Security
from pytcg.ui.vnc.stream import Stream
from pytcg.ui.vnc.tls import TlsStream

VERSION: Final = b"RFB 003.008\n"
VERSIONS: Final = {b"RFB 003.003\n": 3, b"RFB 003.007\n": 7, b"RFB 003.008\n": 8}
VENCRYPT_VERSION: Final = (0, 2)
WRONG_PASSWORD: Final = "Authentication failed"


@dataclass
class Guard:
    """A server's rules for who comes in."""

    security: Security = Security.NONE  # inside of TLS, if there is any
    password: Password = field(default_factory=Password)
    doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)
    tls: ssl.SSLContext | None = None
    anonymous: bool = False  # TLS without certificates

    @property
    def vencrypt(self) -> VencryptType:
        """The one subtype that is offered where there is TLS."""
        names = "TLS" if self.anonymous else "X509", self.security.name
        return VencryptType["_".join(names)]


async def shake_hands(stream: Stream, guard: Guard, host: str, *, secure: bool) -> Stream:
    """Agree on a version and let the viewer in; what goes on is the stream that is returned.

    ``secure`` is for streams that are TLS already. ProtocolError, Refused, Hangup, OSError.
    """
    offered = guard.security if guard.tls is None or secure else Security.VENCRYPT
    version = await _version(stream)
    try:
        guard.doorkeeper.admit(host)
    except Refused as refusal:
        stream.write(struct.pack(">I" if version == 3 else ">B", Security.INVALID))
        stream.write(_reason(str(refusal)))
        raise
    if version == 3:
        if offered is Security.VENCRYPT:
            stream.write(struct.pack(">I", Security.INVALID) + _reason("TLS needs version 3.8"))
            raise Refused("TLS")
        stream.write(struct.pack(">I", offered))
    else:
        stream.write(bytes((1, offered)))
        if await stream.byte() != offered:
            raise ProtocolError("a security type that was not offered")
    if offered is Security.VENCRYPT:
        stream = await _encrypt(stream, guard)
    if guard.security is Security.VNC:
        await _ask_password(stream, guard, host, version)
    if guard.security is not Security.NONE or version == 8:
        stream.write(struct.pack(">I", 0))
    return stream


async def _encrypt(stream: Stream, guard: Guard) -> Stream:
    """VeNCrypt 0.2 (the community's "The RFB Protocol", 7.2.13)."""
    assert guard.tls is not None
    stream.write(bytes(VENCRYPT_VERSION))
    if await stream.unpack(">BB") != VENCRYPT_VERSION:
        stream.write(b"\xff")
        raise ProtocolError("a VeNCrypt version that was not offered")
    stream.write(struct.pack(">BBI", 0, 1, guard.vencrypt))
    if (await stream.unpack(">I"))[0] != guard.vencrypt:
        stream.write(b"\0")
        raise ProtocolError("a VeNCrypt type that was not offered")
    stream.write(b"\1")
    tls = TlsStream(stream, guard.tls)
    await tls.shake_hands()
    return tls


async def _version(stream: Stream) -> int:
    stream.write(VERSION)
    said = await stream.read(len(VERSION))
    version = VERSIONS.get(said, 8 if said.startswith(b"RFB 00") else None)
    if version is None:
        raise ProtocolError(f"not a viewer: {said!r}")
    return version


async def _ask_password(stream: Stream, guard: Guard, host: str, version: int) -> None:
    challenge = guard.password.challenge()
    stream.write(challenge)
    if guard.password.accepts(challenge, await stream.read(CHALLENGE)):
        guard.doorkeeper.succeeded(host)
        return
    guard.doorkeeper.failed(host)
    await asyncio.sleep(guard.doorkeeper.delay)
    stream.write(struct.pack(">I", 1) + (_reason(WRONG_PASSWORD) if version == 8 else b""))
    raise Refused(WRONG_PASSWORD)


def _reason(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()
