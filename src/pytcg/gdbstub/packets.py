"""Framing of GDB's remote serial protocol: ``$data#checksum``, acknowledgements, Ctrl-C.

"Debugging with GDB", appendix E. Whatever bytes come, nothing but packets, breaks and bad
checksums goes out.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

PACKET_SIZE: Final = 0x4000
"""Bytes of a packet's data that are taken; what is longer is bad."""
_ESCAPED: Final = b"#$*}"
_MARK: Final = 0x7D


class Event(Enum):
    """What comes beside packets."""

    BREAK = auto()      # Ctrl-C
    BAD = auto()        # a packet whose checksum is wrong, or too long
    AGAIN = auto()      # the peer wants the last packet once more


def checksum(data: bytes) -> bytes:
    """The two digits behind ``#``."""
    return b"%02x" % (sum(data) & 0xFF)


def frame(data: bytes) -> bytes:
    """A packet."""
    return b"$" + data + b"#" + checksum(data)


def escape(data: bytes) -> bytes:
    """Binary data as it is in a packet."""
    out = bytearray()
    for byte in data:
        if byte in _ESCAPED:
            out += bytes((_MARK, byte ^ 0x20))
        else:
            out.append(byte)
    return bytes(out)


def unescape(data: bytes) -> bytes:
    """The binary data of a packet."""
    out, rest = bytearray(), iter(data)
    for byte in rest:
        out.append(next(rest, 0) ^ 0x20 if byte == _MARK else byte)
    return bytes(out)


class Decoder:
    """Bytes in, packets' data and `Event`s out."""

    def __init__(self) -> None:
        self._data: bytearray | None = None  # of the packet under way
        self._digits: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """What is complete after these bytes."""
        for byte in data:
            found = self._feed(byte)
            if found is not None:
                yield found

    def _feed(self, byte: int) -> bytes | Event | None:
        if self._digits is not None:
            self._digits.append(byte)
            return self._finish() if len(self._digits) == 2 else None
        if byte == ord("$"):
            self._data = bytearray()
        elif self._data is not None:
            if byte == ord("#"):
                self._digits = bytearray()
            elif len(self._data) <= PACKET_SIZE:
                self._data.append(byte)
        elif byte == 3:
            return Event.BREAK
        elif byte == ord("-"):
            return Event.AGAIN
        return None

    def _finish(self) -> bytes | Event:
        assert self._data is not None and self._digits is not None
        data, digits = bytes(self._data), bytes(self._digits).lower()
        self._data = self._digits = None
        good = digits == checksum(data) and len(data) <= PACKET_SIZE
        return data if good else Event.BAD
