"""From a connection to a viewer that may look: version, security (RFC 6143, 7.1 and 7.2)."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from typing import Final

from pytcg.ui.vnc.protocol import ProtocolError
from pytcg.ui.vnc.security import CHALLENGE, Doorkeeper, Password, Refused, Security
from pytcg.ui.vnc.stream import Stream

VERSION: Final = b"RFB 003.008\n"
VERSIONS: Final = {b"RFB 003.003\n": 3, b"RFB 003.007\n": 7, b"RFB 003.008\n": 8}
WRONG_PASSWORD: Final = "Authentication failed"


@dataclass
class Guard:
    """A server's rules for who comes in."""

    security: Security = Security.NONE
    password: Password = field(default_factory=Password)
    doorkeeper: Doorkeeper = field(default_factory=Doorkeeper)


async def shake_hands(stream: Stream, guard: Guard, host: str) -> None:
    """Agree on a version and let the viewer in; ProtocolError, Refused, Hangup, OSError."""
    version = await _version(stream)
    try:
        guard.doorkeeper.admit(host)
    except Refused as refusal:
        stream.write(struct.pack(">I" if version == 3 else ">B", Security.INVALID))
        stream.write(_reason(str(refusal)))
        raise
    if version == 3:
        stream.write(struct.pack(">I", guard.security))
    else:
        stream.write(bytes((1, guard.security)))
        if await stream.byte() != guard.security:
            raise ProtocolError("a security type that was not offered")
    if guard.security is Security.VNC:
        await _ask_password(stream, guard, host, version)
    if guard.security is not Security.NONE or version == 8:
        stream.write(struct.pack(">I", 0))


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
