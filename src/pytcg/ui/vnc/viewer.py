"""One viewer: its messages, and when it is sent what.

The server's side of RFC 6143. A viewer asks for updates; it gets one as soon as something it has
not seen has changed. Whatever it says that can't be ends its connection and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import Final

from pytcg.ui.console import Console, Frame
from pytcg.ui.vnc.encodings.encoder import Encoder
from pytcg.ui.vnc.encodings.table import ENCODERS
from pytcg.ui.vnc.encodings.tight import Tight
from pytcg.ui.vnc.input import Input
from pytcg.ui.vnc.notes import Notes
from pytcg.ui.vnc.pixelformat import FormatError, PixelFormat, colour_map
from pytcg.ui.vnc.protocol import (
    FENCE_FLAGS,
    FENCE_REQUEST,
    FIRST_LEVEL,
    LEVELS,
    MOST_FENCE,
    QEMU_KEY,
    ClientMessage,
    Encoding,
    ProtocolError,
    ServerMessage,
)
from pytcg.ui.vnc.stream import Stream
from pytcg.ui.vnc.updates import Area, Job, Updates

MAX_TEXT: Final = 1 << 20  # of a clipboard, which is not looked at
MAX_ENCODINGS: Final = 4096
MAX_UNREAD: Final = 32 << 20  # bytes that a viewer may have asked for and not read


class Viewer:
    """A connection; `run` serves it until it ends.

    ``wake`` is called when it wants something. ``work`` encodes an update and calls back with it.
    """

    def __init__(self, console: Console, stream: Stream, input: Input, name: str,
                 wake: Callable[[], None],
                 work: Callable[[Job, Callable[[bytes], None]], None]) -> None:  # fmt: skip
        self._console = console
        self._stream = stream
        self._input = input
        self._name = name
        self._wake = wake
        self._work = work
        height, width = console.refresh().pixels.shape
        self._updates = Updates(width, height)
        self._notes = Notes(console, name)
        self._encoders: dict[int, Encoder] = {Encoding.RAW: self._updates.encoder}
        self._wanted: Area | None = None
        self._always: Area | None = None  # of continuous updates
        self._busy = False  # an update is being encoded
        self._serve: dict[int, Callable[[], Awaitable[None]]] = {
            ClientMessage.SET_PIXEL_FORMAT: self._set_format,
            ClientMessage.SET_ENCODINGS: self._set_encodings,
            ClientMessage.UPDATE_REQUEST: self._request,
            ClientMessage.KEY: self._key,
            ClientMessage.POINTER: self._pointer,
            ClientMessage.CUT_TEXT: self._cut_text,
            ClientMessage.CONTINUOUS_UPDATES: self._continuous,
            ClientMessage.FENCE: self._fence,
            ClientMessage.SET_DESKTOP_SIZE: self._set_size,
            ClientMessage.QEMU: self._extended_key,
        }

    def greet(self) -> None:
        """Say what there is to see (7.3.2)."""
        said = self._name.encode()
        self._stream.write(struct.pack(">HH", *self._updates.size) + self._updates.format.pack()
                           + struct.pack(">I", len(said)) + said)  # fmt: skip

    async def run(self) -> None:
        """Serve until it ends; ProtocolError, Hangup, OSError."""
        try:
            while True:
                kind = await self._stream.byte()
                if kind not in self._serve:
                    raise ProtocolError(f"message type {kind}")
                await self._serve[kind]()
        finally:
            self._input.release()

    # --- what it wants to see ------------------------------------------------------------------

    async def _set_format(self) -> None:
        data = await self._stream.read(19)
        try:
            self._updates.format = PixelFormat.parse(data[3:])
        except FormatError as error:
            raise ProtocolError(f"pixel format: {error}") from error
        if self._updates.format.mapped:
            self._stream.write(colour_map())
        self._updates.forget()

    async def _set_encodings(self) -> None:
        count, = await self._stream.unpack(">xH")
        if count > MAX_ENCODINGS:
            raise ProtocolError(f"{count} encodings")
        wanted = await self._stream.unpack(f">{count}i")
        self._choose(wanted)
        self._updates.copies = Encoding.COPY_RECT in wanted
        fresh = self._notes.set(wanted)
        if Encoding.CONTINUOUS_UPDATES in fresh:
            self._stream.write(bytes((ServerMessage.END_OF_CONTINUOUS_UPDATES,)))
        if Encoding.FENCE in fresh:
            self._stream.write(struct.pack(">B3xIB", ServerMessage.FENCE, FENCE_REQUEST, 0))

    def _choose(self, wanted: tuple[int, ...]) -> None:
        """The encoder: its zlib stream goes on when it is chosen again."""
        number: int = next((number for number in wanted if number in ENCODERS), Encoding.RAW)
        levels = [number - FIRST_LEVEL for number in wanted
                  if FIRST_LEVEL <= number < FIRST_LEVEL + LEVELS]  # fmt: skip
        kept = self._encoders.get(number)
        if kept is None:
            kept = self._encoders[number] = ENCODERS[number](*levels[:1])
        elif isinstance(kept, Tight) and levels:
            kept.restart(levels[0])
        self._updates.encoding, self._updates.encoder = number, kept

    async def _request(self) -> None:
        incremental, *numbers = await self._stream.unpack(">BHHHH")
        area = Area(*numbers)
        if not incremental:
            self._updates.forget(area)
        self._wanted = area if self._wanted is None else self._wanted.around(area)
        self._wake()

    async def _continuous(self) -> None:
        on, *numbers = await self._stream.unpack(">BHHHH")
        if on:
            self._always = Area(*numbers)
            self._wake()
        else:
            self._always = None
            self._stream.write(bytes((ServerMessage.END_OF_CONTINUOUS_UPDATES,)))

    async def _fence(self) -> None:
        flags, length = await self._stream.unpack(">3xIB")
        if length > MOST_FENCE:
            raise ProtocolError(f"a fence of {length} bytes")
        data = await self._stream.read(length)
        if flags & FENCE_REQUEST:
            self._stream.write(struct.pack(">B3xIB", ServerMessage.FENCE, flags & FENCE_FLAGS,
                                           length) + data)  # fmt: skip

    async def _set_size(self) -> None:
        """Sizes are the guest's: it is told so."""
        *_, screens = await self._stream.unpack(">xHHBx")
        await self._stream.read(16 * screens)
        self._notes.refuse_size()
        self._wake()

    # --- what it does --------------------------------------------------------------------------

    async def _key(self) -> None:
        down, keysym = await self._stream.unpack(">B2xI")
        self._input.key(keysym, down=bool(down))
        self._touched()

    async def _extended_key(self) -> None:
        if (kind := await self._stream.byte()) != QEMU_KEY:
            raise ProtocolError(f"message type 255, {kind}")
        down, keysym, code = await self._stream.unpack(">HII")
        self._input.key(keysym, code, down=bool(down))
        self._touched()

    async def _pointer(self) -> None:
        mask, x, y = await self._stream.unpack(">BHH")
        relative = self._notes.relative
        self._input.point(mask, x, y, self._updates.size, relative=relative)
        self._touched()

    def _touched(self) -> None:
        """What comes of it is to be seen soon."""
        if self.wants_update:
            self._wake()

    async def _cut_text(self) -> None:
        length, = await self._stream.unpack(">3xI")
        if length > MAX_TEXT:
            raise ProtocolError(f"a clipboard of {length} bytes")
        await self._stream.read(length)

    # --- updates -------------------------------------------------------------------------------

    @property
    def wants_update(self) -> bool:
        """Whether it waits for something to change."""
        return not self._busy and (self._wanted is not None or self._always is not None)

    def update(self, frame: Frame) -> None:
        """Send what it has not seen of a frame; it goes on waiting if there is nothing."""
        area = self._wanted or self._always
        most = MAX_UNREAD if self._wanted is not None else 0
        if area is None or self._stream.closing or self._stream.unsent > most:
            return
        height, width = frame.pixels.shape
        notes = self._notes.take((width, height), self._updates.format)
        if (width, height) != self._updates.size and self._notes.resizes:
            self._updates.resize(width, height)
            notes.append(self._notes.size(width, height))
            area = Area(0, 0, 0, 0)  # the picture comes when it is asked for
        job = self._updates.job(frame, area, notes)
        if job is not None:
            self._wanted, self._busy = None, True
            self._work(job, self._send)

    def _send(self, message: bytes) -> None:
        self._busy = False
        self._stream.write(message)
        if self.wants_update:
            self._wake()
