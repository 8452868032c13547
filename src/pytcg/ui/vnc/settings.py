"""What a VNC server is told: where it listens, and whom it lets in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

CONNECTIONS: Final = 32
KEY_DELAY_MS: Final = 10


class Share(Enum):
    """What becomes of the others when a viewer wants the screen for itself (RFC 6143, 7.3.1)."""

    ALLOW_EXCLUSIVE = "allow-exclusive"  # they have to go
    FORCE_SHARED = "force-shared"        # it is turned away
    IGNORE = "ignore"                    # nothing


@dataclass(frozen=True)
class VncSettings:
    """A `-vnc` option."""

    address: str  # [HOST]:DISPLAY, unix:PATH, or none
    ident: str = "default"
    to: int | None = None  # the last display to try
    families: tuple[bool, bool] = (True, True)  # IPv4, IPv6
    share: Share = Share.ALLOW_EXCLUSIVE
    connections: int = CONNECTIONS  # shared viewers at a time
    password: bool = False
    websocket: str | None = None  # on, PORT or HOST:PORT
    page: bool = True  # whether browsers that ask there are shown one
    key_delay: float = KEY_DELAY_MS / 1000  # seconds between two keys
