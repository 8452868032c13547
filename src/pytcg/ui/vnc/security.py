"""Who may look: passwords, and what is offered to a viewer (RFC 6143, 7.1.2 and 7.2).

A wrong password is answered late, and too many of them from one host close the door to it for a
while, which doubles each time.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from pytcg.ui.vnc.des import encrypt_block

CHALLENGE: Final = 16
PASSWORD_BYTES: Final = 8  # of a password that count
FAILURE_SECONDS: Final = 1.0  # how late a wrong password is answered
FAILURES: Final = 5           # wrong ones before the door is closed
CLOSED_SECONDS: Final = 10.0  # the first time
MAX_CLOSED: Final = 3600.0
MAX_HOSTS: Final = 4096       # that are remembered


class Security(IntEnum):
    """Security types."""

    INVALID = 0
    NONE = 1
    VNC = 2
    VENCRYPT = 19


class Refused(Exception):
    """Somebody who may not look; the text is for them."""


def vnc_response(password: bytes, challenge: bytes) -> bytes:
    """The answer to a challenge (7.2.2): DES by the password, each byte's bits mirrored."""
    padded = password[:PASSWORD_BYTES].ljust(PASSWORD_BYTES, b"\0")
    key = bytes(int(f"{byte:08b}"[::-1], 2) for byte in padded)
    return b"".join(encrypt_block(key, challenge[at : at + 8]) for at in range(0, CHALLENGE, 8))


class Password:
    """What viewers have to know. Nobody gets in before there is one, and after it has expired."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._value: bytes | None = None
        self._expires: float | None = None

    def set(self, value: bytes) -> None:
        """Another password."""
        self._value = value

    def expire(self, when: float | None) -> None:
        """When it stops being valid, in seconds since 1970; None: never."""
        self._expires = when

    def challenge(self) -> bytes:
        """What a viewer is to encrypt."""
        return os.urandom(CHALLENGE)

    def accepts(self, challenge: bytes, response: bytes) -> bool:
        """Whether that is the answer to the challenge."""
        if self._value is None or (self._expires is not None and self._now() >= self._expires):
            return False
        return hmac.compare_digest(vnc_response(self._value, challenge), response)


@dataclass
class _Visitor:
    failures: int = 0
    closed_until: float = 0.0


@dataclass
class Doorkeeper:
    """Counts wrong passwords by host."""

    now: Callable[[], float] = time.monotonic
    delay: float = FAILURE_SECONDS
    _visitors: dict[str, _Visitor] = field(default_factory=dict)

    def admit(self, host: str) -> None:
        """Refused, if that host has been wrong too often."""
        visitor = self._visitors.get(host)
        if visitor is not None and self.now() < visitor.closed_until:
            raise Refused("Too many security failures")

    def failed(self, host: str) -> None:
        """A wrong password."""
        if len(self._visitors) >= MAX_HOSTS:
            self._visitors.pop(next(iter(self._visitors)))
        visitor = self._visitors.setdefault(host, _Visitor())
        visitor.failures += 1
        beyond = visitor.failures - FAILURES
        if beyond >= 0:
            seconds = min(CLOSED_SECONDS * 2.0 ** min(beyond, 16), MAX_CLOSED)
            visitor.closed_until = self.now() + seconds

    def succeeded(self, host: str) -> None:
        """A right one: all is forgotten."""
        self._visitors.pop(host, None)

    def failures(self, host: str) -> int:
        """How many wrong passwords came since the last right one."""
        visitor = self._visitors.get(host)
        return visitor.failures if visitor is not None else 0
