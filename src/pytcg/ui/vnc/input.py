"""Keys and pointers of viewers, for the guest.

A guest's keyboard holds a few keys only, so they come to it one after the other with a pause
between, however fast they were typed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from pytcg.ui.console import Console
from pytcg.ui.keys import KEYSYMS, NUMBERS

MOST_KEYS: Final = 1024  # that wait; who types more is not heard
CENTRE: Final = 0x7FFF   # where a relative pointer stands still
_WHEEL_UP, _WHEEL_DOWN = 8, 16


class Keys:
    """A queue of keys before a console, for all viewers together."""

    def __init__(self, loop: asyncio.AbstractEventLoop, console: Console, delay: float) -> None:
        self._loop = loop
        self._console = console
        self._delay = delay
        self._waiting: deque[tuple[str, bool]] = deque(maxlen=MOST_KEYS)
        self._pausing = False

    def put(self, name: str, *, down: bool) -> None:
        """A key goes down or up, once those before it have."""
        self._waiting.append((name, down))
        if not self._pausing:
            self._next()

    def _next(self) -> None:
        self._pausing = bool(self._waiting)
        if self._waiting:
            name, down = self._waiting.popleft()
            self._console.key(name, down=down)
            self._loop.call_later(self._delay, self._next)


class Input:
    """One viewer's hands: what it holds is let go when it leaves."""

    def __init__(self, console: Console, keys: Keys) -> None:
        self._console = console
        self._keys = keys
        self._pressed: dict[str, None] = {}
        self._place: tuple[int, int] | None = None
        self._mask = 0

    def key(self, keysym: int, code: int = 0, *, down: bool) -> None:
        """By its number (set 1's code, 80h added to extended ones) if that is known, or keysym."""
        name = NUMBERS.get(code) or KEYSYMS.get(keysym)
        if name is None:
            return
        if down:
            self._pressed[name] = None
        else:
            self._pressed.pop(name, None)
        self._keys.put(name, down=down)

    def point(self, mask: int, x: int, y: int, size: tuple[int, int], *, relative: bool) -> None:
        """Where the pointer is: a mouse moves by how far it came (RFC 6143, 7.5.5)."""
        before = (CENTRE, CENTRE) if relative else self._place or (x, y)
        self._place = None if relative else (x, y)
        new, self._mask = mask & ~self._mask, mask
        wheel = bool(new & _WHEEL_DOWN) - bool(new & _WHEEL_UP)
        buttons = mask & 1 | (mask & 2) << 1 | (mask & 4) >> 1
        if self._console.absolute and not relative:
            self._console.point_at(x, y, size, buttons, wheel)
        else:
            self._console.point(x - before[0], y - before[1], buttons, wheel)

    def release(self) -> None:
        """Let go of everything."""
        for name in self._pressed:
            self._keys.put(name, down=False)
        self._pressed.clear()
        if self._mask & 7:
            self._console.press(0)
        self._mask = 0
