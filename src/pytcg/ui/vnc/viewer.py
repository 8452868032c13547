"""One viewer: its messages, and the updates it is sent.

The server's side of RFC 6143. A viewer asks for updates; it gets one as soon as something it has
not seen has changed. Whatever it says that can't be ends its connection and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import numpy as np

from pytcg.ui.console import Console, Frame
from pytcg.ui.keys import KEYSYMS
from pytcg.ui.vnc.encodings import ENCODERS, RAW, Encoder, Raw
from pytcg.ui.vnc.handshake import ProtocolError
from pytcg.ui.vnc.pixelformat import FormatError, PixelFormat
from pytcg.ui.vnc.stream import Stream

DESKTOP_SIZE: Final = -223
MAX_TEXT: Final = 1 << 20  # of a clipboard, which is not looked at
MAX_ENCODINGS: Final = 4096
MAX_UNREAD: Final = 32 << 20  # bytes that a viewer may have asked for and not read
_WHEEL_UP, _WHEEL_DOWN = 8, 16


class Message(IntEnum):
    """What viewers send."""

    SET_PIXEL_FORMAT = 0
    SET_ENCODINGS = 2
    UPDATE_REQUEST = 3
    KEY = 4
    POINTER = 5
    CUT_TEXT = 6


class Viewer:
    """A connection; `run` serves it until it ends."""

    def __init__(self, console: Console, stream: Stream, wake: Callable[[], None]) -> None:
        self._console = console
        self._stream = stream
        self._wake = wake
        self._format = PixelFormat()
        self._encoding = RAW
        self._encoder: Encoder = Raw()
        self._kept: dict[int, Encoder] = {}
        self._resizes = False
        self._size = (0, 0)
        self._seen = -1  # the serial of the frame it was sent last; -1: nothing
        self.wants_update = False
        self._pressed: dict[str, None] = {}
        self._place: tuple[int, int] | None = None
        self._mask = 0

    def greet(self, name: str) -> None:
        """Say what there is to see (7.3.2)."""
        height, width = self._console.refresh().pixels.shape
        self._size = width, height
        said = name.encode()
        self._stream.write(struct.pack(">HH", width, height) + self._format.pack()
                           + struct.pack(">I", len(said)) + said)  # fmt: skip

    async def run(self) -> None:
        """Serve until it ends; ProtocolError, Hangup, OSError."""
        try:
            while True:
                await self._serve(await self._stream.byte())
        finally:
            for name in self._pressed:
                self._console.key(name, down=False)

    # --- messages ------------------------------------------------------------------------------

    async def _serve(self, kind: int) -> None:
        match kind:
            case Message.SET_PIXEL_FORMAT:
                data = await self._stream.read(19)
                try:
                    self._format = PixelFormat.parse(data[3:])
                except FormatError as error:
                    raise ProtocolError(f"pixel format: {error}") from error
                self._seen = -1
            case Message.SET_ENCODINGS:
                await self._set_encodings()
            case Message.UPDATE_REQUEST:
                incremental, *_ = await self._stream.unpack(">BHHHH")
                if not incremental:
                    self._seen = -1
                self.wants_update = True
                self._wake()
            case Message.KEY:
                down, keysym = await self._stream.unpack(">B2xI")
                self._key(keysym, down=bool(down))
            case Message.POINTER:
                self._point(*await self._stream.unpack(">BHH"))
            case Message.CUT_TEXT:
                length, = await self._stream.unpack(">3xI")
                if length > MAX_TEXT:
                    raise ProtocolError(f"a clipboard of {length} bytes")
                await self._stream.read(length)
            case _:
                raise ProtocolError(f"message type {kind}")

    async def _set_encodings(self) -> None:
        count, = await self._stream.unpack(">xH")
        if count > MAX_ENCODINGS:
            raise ProtocolError(f"{count} encodings")
        wanted = await self._stream.unpack(f">{count}i")
        self._resizes = DESKTOP_SIZE in wanted
        self._encoding = next((number for number in wanted if number in ENCODERS), RAW)
        if self._encoding not in self._kept:  # its zlib stream goes on
            self._kept[self._encoding] = ENCODERS[self._encoding]()
        self._encoder = self._kept[self._encoding]

    def _key(self, keysym: int, *, down: bool) -> None:
        name = KEYSYMS.get(keysym)
        if name is None:
            return
        if down:
            self._pressed[name] = None
        else:
            self._pressed.pop(name, None)
        self._console.key(name, down=down)

    def _point(self, mask: int, x: int, y: int) -> None:
        """Where the pointer is: the mouse moves by how far it came (RFC 6143, 7.5.5)."""
        before = self._place or (x, y)
        self._place = x, y
        new, self._mask = mask & ~self._mask, mask
        wheel = bool(new & _WHEEL_DOWN) - bool(new & _WHEEL_UP)
        buttons = mask & 1 | (mask & 2) << 1 | (mask & 4) >> 1
        self._console.point(x - before[0], y - before[1], buttons, wheel)

    # --- updates -------------------------------------------------------------------------------

    def update(self, frame: Frame) -> None:
        """Send what it has not seen of a frame, if it asked; waits for more if there is nothing."""
        if self._stream.closing or self._stream.unsent > MAX_UNREAD:
            return
        height, width = frame.pixels.shape
        if (width, height) != self._size and self._resizes:
            self._size, self._seen = (width, height), -1
            self._send([struct.pack(">HHHHi", 0, 0, width, height, DESKTOP_SIZE)])
            return
        pixels = self._fitted(frame)
        if pixels is frame.pixels:
            changed = np.flatnonzero(frame.stamps > self._seen)
        else:
            changed = np.arange(len(pixels) if frame.serial > self._seen else 0)
        if len(changed) == 0:
            return
        self._seen = frame.serial
        self._send([self._rectangle(pixels, first, last) for first, last in _runs(changed)])

    def _fitted(self, frame: Frame) -> np.ndarray:
        """The picture at the size the viewer knows: cut off, or with black around."""
        width, height = self._size
        if frame.pixels.shape == (height, width):
            return frame.pixels
        made = np.zeros((height, width), np.uint32)
        part = frame.pixels[:height, :width]
        made[: part.shape[0], : part.shape[1]] = part
        return made

    def _rectangle(self, pixels: np.ndarray, first: int, last: int) -> bytes:
        width = pixels.shape[1]
        head = struct.pack(">HHHHi", 0, first, width, last - first, self._encoding)
        return head + self._encoder.encode(pixels[first:last], self._format)

    def _send(self, rectangles: list[bytes]) -> None:
        self.wants_update = False
        self._stream.write(struct.pack(">BxH", 0, len(rectangles)) + b"".join(rectangles))


def _runs(lines: np.ndarray) -> list[tuple[int, int]]:
    """Runs of neighbouring lines, as (first, behind the last)."""
    breaks = np.flatnonzero(np.diff(lines) != 1)
    starts = [0, *(breaks + 1).tolist()]
    ends = [*breaks.tolist(), len(lines) - 1]
    return [(int(lines[a]), int(lines[b]) + 1) for a, b in zip(starts, ends, strict=True)]
