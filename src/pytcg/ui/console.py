"""A machine's screen and keyboard, for whoever shows or drives them.

Every call takes the device lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pytcg.chardev.text_console import COLUMNS, PLAIN
from pytcg.hw.display.picture import FORMATS
from pytcg.hw.virtio.input import (
    ABSOLUTE_MAX,
    VirtioInput,
    VirtioKeyboard,
    VirtioMouse,
    VirtioTablet,
)
from pytcg.ui.keys import EVDEV, key_bytes

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence
    from pathlib import Path

    from pytcg.hw.display.screen import VgaScreen
    from pytcg.hw.input.ps2_keyboard import Ps2Keyboard
    from pytcg.hw.input.ps2_mouse import Ps2Mouse

Pixels = npt.NDArray[np.uint32]


_Input = TypeVar("_Input", bound=VirtioInput)


class Frame(NamedTuple):
    """A picture. It is drawn into by the next refresh, and is another once the size changes."""

    pixels: Pixels  # height x width of 00RRGGBBh
    stamps: npt.NDArray[np.int64]  # of each line: the serial of the frame that changed it
    serial: int


def _said(words: str) -> list[list[tuple[str, int]]]:
    """Words in the middle of a text screen."""
    blank = [(" ", PLAIN)] * COLUMNS
    return [blank] * 12 + [[(character, PLAIN) for character in words.center(COLUMNS)]]


class Console:
    """The picture as it is now, and keys for the guest."""

    def __init__(self, lock: threading.RLock, screen: VgaScreen, keyboard: Ps2Keyboard,
                 mouse: Ps2Mouse | None = None,
                 inputs: Sequence[VirtioInput] = ()) -> None:  # fmt: skip
        self.lock: Final = lock
        self._inputs = inputs
        self.buttons = 0  # that are held, `Button`s
        self.place = 0, 0  # of the pointer, of 0 to `ABSOLUTE_MAX`, where it was set last
        self._mouse = mouse
        self._screen = screen
        self._keyboard = keyboard
        self._serial = 0
        self._stamps = np.zeros(0, np.int64)

    def refresh(self) -> Frame:
        """Draw what has changed."""
        with self.lock:
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
        with self.lock:
            screen = self._screen.text()
            return None if screen is None else screen.lines()

    def cells(self) -> tuple[list[list[tuple[str, int]]], tuple[int, int] | None]:
        """Rows of (character, attribute), and the cursor; of a graphics mode its size in words."""
        with self.lock:
            screen = self._screen.text()
            if screen is None:
                height, width = self._refresh().pixels.shape
                return _said(f"{width} x {height} Graphic mode"), None
        return screen.rows(), screen.cursor

    def screenshot(self, path: Path, kind: str) -> None:
        """Write the picture as ``ppm`` or ``png``; OSError."""
        with self.lock:
            pixels = self._refresh().pixels.copy()
        path.write_bytes(FORMATS[kind](pixels))

    # --- the user's hands ----------------------------------------------------------------------

    def _active(self, kind: type[_Input]) -> _Input | None:
        """The virtio device of that kind whose driver runs, if there is one."""
        return next((each for each in self._inputs if isinstance(each, kind) and each.running),
                    None)  # fmt: skip

    def key(self, name: str, *, down: bool) -> None:
        """Press or release a key by its name (`keys.SCAN_CODES`); KeyError for no such key."""
        codes = key_bytes(name, down=down)
        with self.lock:
            keyboard = self._active(VirtioKeyboard)
            if keyboard is not None:
                keyboard.key(EVDEV[name], down=down)
            else:
                self._keyboard.key(codes)

    @property
    def leds(self) -> int:
        """Those of the keyboard: 1 Scroll Lock, 2 Num Lock, 4 Caps Lock."""
        keyboard = self._active(VirtioKeyboard)
        if keyboard is None:
            return self._keyboard.leds
        return keyboard.leds << 1 & 6 | keyboard.leds >> 2 & 1  # evdev: Num, Caps, Scroll

    @property
    def absolute(self) -> bool:
        """Whether the guest is told where the pointer is, not how far it moved."""
        return self._active(VirtioTablet) is not None

    def point_at(self, x: int, y: int, size: tuple[int, int], buttons: int, wheel: int = 0) -> None:
        """The pointer is there, on a screen of that size; `point` has the rest."""
        across, down = (min(max(at, 0), most - 1) * ABSOLUTE_MAX // max(most - 1, 1)
                        for at, most in zip((x, y), size, strict=True))  # fmt: skip
        self.place, self.buttons = (across, down), buttons
        with self.lock:
            tablet = self._active(VirtioTablet)
            if tablet is not None:
                tablet.point(across, down, wheel, buttons)

    def press(self, buttons: int, wheel: int = 0) -> None:
        """Hold these `Button`s and turn the wheel, wherever the pointer is."""
        if self.absolute:
            self.point_at(*self.place, (ABSOLUTE_MAX + 1, ABSOLUTE_MAX + 1), buttons, wheel)
        else:
            self.point(0, 0, buttons, wheel)

    def point(self, dx: int, dy: int, buttons: int, wheel: int = 0) -> None:
        """Move the mouse by pixels, turn its wheel (towards the user), hold these `Button`s."""
        self.buttons = buttons
        with self.lock:
            mouse = self._active(VirtioMouse)
            if mouse is not None:
                mouse.move(dx, dy, wheel, buttons)
            elif self._mouse is not None:
                if dx or dy or wheel:
                    self._mouse.move(dx, dy, wheel)
                if buttons != self._mouse.buttons:
                    self._mouse.press(buttons)
