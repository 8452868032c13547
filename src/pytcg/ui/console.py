"""A machine's screen and keyboard, for whoever shows or drives them.

Every call takes the device lock.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pytcg.hw.display.picture import FORMATS
from pytcg.hw.display.screen import VgaScreen
from pytcg.hw.input.ps2_keyboard import Ps2Keyboard
from pytcg.hw.input.ps2_mouse import Ps2Mouse
from pytcg.ui.keys import key_bytes

Pixels = npt.NDArray[np.uint32]


class Frame(NamedTuple):
    """A picture. It is drawn into by the next refresh, and is another once the size changes."""

    pixels: Pixels  # height x width of 00RRGGBBh
    stamps: npt.NDArray[np.int64]  # of each line: the serial of the frame that changed it
    serial: int


class Console:
    """The picture as it is now, and keys for the guest."""

    def __init__(self, lock: threading.RLock, screen: VgaScreen, keyboard: Ps2Keyboard,
                 mouse: Ps2Mouse | None = None) -> None:  # fmt: skip
        self._lock: Final = lock
        self._mouse = mouse
        self._screen = screen
        self._keyboard = keyboard
        self._serial = 0
        self._stamps = np.zeros(0, np.int64)

    def refresh(self) -> Frame:
        """Draw what has changed."""
        with self._lock:
            return self._refresh()

    def _refresh(self) -> Frame:
        lines = self._screen.refresh()
        pixels = self._screen.pixels
        if len(lines) or len(pixels) != len(self._stamps):
            self._serial += 1
        if len(pixels) != len(self._stamps):
            self._stamps = np.full(len(pixels), self._serial)
        self._stamps[lines] = self._serial
        return Frame(pixels, self._stamps, self._serial)

    def text(self) -> list[str] | None:
        """The lines of a text mode; None in graphics modes."""
        with self._lock:
            screen = self._screen.text()
            return None if screen is None else screen.lines()

    def screenshot(self, path: Path, kind: str) -> None:
        """Write the picture as ``ppm`` or ``png``; OSError."""
        with self._lock:
            pixels = self._refresh().pixels.copy()
        path.write_bytes(FORMATS[kind](pixels))

    def key(self, name: str, *, down: bool) -> None:
        """Press or release a key by its name (`keys.SCAN_CODES`); KeyError for no such key."""
        codes = key_bytes(name, down=down)
        with self._lock:
            self._keyboard.key(codes)

    @property
    def leds(self) -> int:
        """Those of the keyboard: 1 Scroll Lock, 2 Num Lock, 4 Caps Lock."""
        return self._keyboard.leds

    @property
    def absolute(self) -> bool:
        """Whether the guest is told where the pointer is, not how far it moved."""
        return False

    def point_at(self, x: int, y: int, size: tuple[int, int], buttons: int, wheel: int) -> None:
        """The pointer is there, on a screen of that size."""

    def point(self, dx: int, dy: int, buttons: int, wheel: int = 0) -> None:
        """Move the mouse by pixels, turn its wheel (towards the user), hold these `Button`s."""
        if self._mouse is None:
            return
        with self._lock:
            if dx or dy or wheel:
                self._mouse.move(dx, dy, wheel)
            if buttons != self._mouse.buttons:
                self._mouse.press(buttons)
