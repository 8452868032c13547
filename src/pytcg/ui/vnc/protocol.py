"""Numbers of the protocol (RFC 6143, and IANA's registry of what came later)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ClientMessage(IntEnum):
    """What viewers send."""

    SET_PIXEL_FORMAT = 0
    SET_ENCODINGS = 2
    UPDATE_REQUEST = 3
    KEY = 4
    POINTER = 5
    CUT_TEXT = 6
    CONTINUOUS_UPDATES = 150
    FENCE = 248
    SET_DESKTOP_SIZE = 251
    QEMU = 255


class ServerMessage(IntEnum):
    """What they are sent."""

    UPDATE = 0
    COLOUR_MAP = 1
    END_OF_CONTINUOUS_UPDATES = 150
    FENCE = 248


class Encoding(IntEnum):
    """Rectangles, and what is told as if it were one."""

    RAW = 0
    COPY_RECT = 1
    HEXTILE = 5
    ZLIB = 6
    TIGHT = 7
    ZRLE = 16
    DESKTOP_SIZE = -223
    CURSOR = -239
    POINTER_MOTION = -257
    EXTENDED_KEY = -258
    LED_STATE = -261
    DESKTOP_NAME = -307
    EXTENDED_DESKTOP_SIZE = -308
    FENCE = -312
    CONTINUOUS_UPDATES = -313


FIRST_LEVEL: Final = -256
"""Encodings from here on ask for compression levels 0 to 9."""
LEVELS: Final = 10
FENCE_REQUEST: Final = 1 << 31
FENCE_FLAGS: Final = 0b111  # block before, block after, synchronise next: what order gives anyhow
MOST_FENCE: Final = 64  # bytes of a fence
QEMU_KEY: Final = 0


class VencryptType(IntEnum):
    """What VeNCrypt does inside of TLS, with certificates or without."""

    TLS_NONE = 257
    TLS_VNC = 258
    X509_NONE = 260
    X509_VNC = 261

    @property
    def word(self) -> str:
        """QMP's name of it."""
        return self.name.lower().replace("_", "-")


class ProtocolError(Exception):
    """A viewer that doesn't keep to the protocol."""
