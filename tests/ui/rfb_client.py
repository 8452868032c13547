"""A VNC viewer for the tests: enough of RFC 6143 to see pictures and press keys."""

from __future__ import annotations

import socket
import ssl
import struct
import zlib
from typing import Any

import numpy as np

from pytcg.ui.vnc.security import vnc_response

DESKTOP_SIZE = -223
NOTES = (-239, -257, -258, -261, -307, -308)


class RfbClient:
    """Connects, shakes hands; `picture` is what it has been sent."""

    def __init__(self, sock: socket.socket, encoding: int, version: bytes = b"RFB 003.008\n",
                 *, resizes: bool = True, password: bytes | None = None,
                 shared: bool = True, more: tuple[int, ...] = (),
                 tls: ssl.SSLContext | None = None):  # fmt: skip
        self._tls, self.vencrypt = tls, 0
        self._password, self._shared = password, shared
        sock.settimeout(60)
        self._socket: socket.socket = sock
        self._file = sock.makefile("rb")
        self._zlib = {6: zlib.decompressobj(), 16: zlib.decompressobj()}
        self._tight = [zlib.decompressobj() for _ in range(4)]
        self.notes: list[tuple[int, tuple[int, int, int, int], bytes]] = []
        self.messages: list[tuple[int, bytes]] = []
        self._handshake(version)
        self.pixel = np.dtype("<u4")
        self.shifts = 16, 8, 0
        self.depth = 24
        self.set_encodings(encoding, *more, *([DESKTOP_SIZE] if resizes else []))

    def _handshake(self, version: bytes) -> None:
        assert self._read(12) == b"RFB 003.008\n"
        self.send(version)
        if version.endswith(b"3\n"):
            kind, = self._unpack(">I")
        else:
            kind, = self._read(self._read(1)[0])
            self.send(bytes((kind,)))
        if self._tls is not None:
            assert kind == 19
            self._encrypt(self._tls)
            kind = 1 if self.vencrypt in (257, 260) else 2
        assert kind == (1 if self._password is None else 2)
        if self._password is not None:
            self.send(vnc_response(self._password, self._read(16)))
        if kind == 2 or version.endswith(b"8\n"):
            result, = self._unpack(">I")
            if result:
                raise PermissionError(self._read(self._unpack(">I")[0]).decode())
        self.send(bytes((self._shared,)))
        width, height = self._unpack(">HH")
        self.format = self._read(16)
        length, = self._unpack(">I")
        self.name = self._read(length).decode()
        self.picture = np.zeros((height, width), np.uint32)

    def _encrypt(self, context: ssl.SSLContext) -> None:
        assert self._read(2) == b"\0\2"
        self.send(b"\0\2")
        status, count, self.vencrypt = self._unpack(">BBI")
        assert (status, count) == (0, 1)
        self.send(struct.pack(">I", self.vencrypt))
        assert self._read(1) == b"\1"
        self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _read(self, length: int) -> bytes:
        data = self._file.read(length)
        assert len(data) == length, "the server hung up"
        return data

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._read(struct.calcsize(layout)))

    def set_format(self, data: bytes, pixel: str) -> None:
        """Another pixel format, and numpy's name for such pixels."""
        self.send(struct.pack(">B3x", 0) + data)
        self.pixel = np.dtype(pixel)
        self.shifts = data[10], data[11], data[12]
        self.depth = data[1]
        self.picture = self.picture.astype(pixel)

    def set_encodings(self, *wanted: int) -> None:
        self.send(struct.pack(f">BxH{len(wanted)}i", 2, len(wanted), *wanted))

    def key(self, keysym: int, *, down: bool) -> None:
        self.send(struct.pack(">BB2xI", 4, down, keysym))

    def update(self, *, incremental: bool = True) -> list[tuple[int, int, int, int]]:
        """Ask for an update and take it in; the rectangles."""
        height, width = self.picture.shape
        self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, width, height))
        return self.take_update()

    def take_update(self) -> list[tuple[int, int, int, int]]:
        """Take an update in; the rectangles. Other messages before it are kept."""
        while (kind := self._read(1)[0]) != 0:
            self.messages.append((kind, self._message(kind)))
        count, = self._unpack(">xH")
        places = []
        for _ in range(count):
            x, y, width, height, encoding = self._unpack(">HHHHi")
            if encoding in NOTES:
                self.notes.append((encoding, (x, y, width, height),
                                   self._note(encoding, width, height)))  # fmt: skip
                if encoding == -308 and x == 0:
                    self.picture = np.zeros((height, width), self.pixel)
                continue
            places.append((x, y, width, height))
            if encoding == 1:
                from_x, from_y = self._unpack(">HH")
                part = self.picture[from_y : from_y + height, from_x : from_x + width].copy()
                self.picture[y : y + height, x : x + width] = part
                continue
            if encoding == DESKTOP_SIZE:
                self.picture = np.zeros((height, width), self.pixel)
                continue
            self.picture[y : y + height, x : x + width] = self._pixels(encoding, width, height)
        return places

    def _pixels(self, encoding: int, width: int, height: int) -> np.ndarray:
        if encoding == 0:
            data = self._read(width * height * self.pixel.itemsize)
            return np.frombuffer(data, self.pixel).reshape(height, width)
        if encoding == 5:
            return self._hextile(width, height)
        if encoding == 7:
            return self._tight_pixels(width, height)
        length, = self._unpack(">I")
        data = self._zlib[encoding].decompress(self._read(length))
        if encoding == 6:
            return np.frombuffer(data, self.pixel).reshape(height, width)
        return self._zrle(data, width, height)

    def _message(self, kind: int) -> bytes:
        if kind == 1:
            first, count = self._unpack(">xHH")
            assert (first, count) == (0, 256)
            return self._read(6 * count)
        if kind == 150:
            return b""
        assert kind == 248
        flags, length = self._unpack(">3xIB")
        return struct.pack(">I", flags) + self._read(length)

    def _note(self, encoding: int, width: int, height: int) -> bytes:
        if encoding == -239:
            return self._read(width * height * self.pixel.itemsize + height * (-(-width // 8)))
        if encoding == -307:
            return self._read(*self._unpack(">I"))
        return self._read({-261: 1, -308: 20}.get(encoding, 0))

    def _hextile(self, width: int, height: int) -> np.ndarray:
        made = np.zeros((height, width), self.pixel)
        size = self.pixel.itemsize

        def colour() -> Any:
            return np.frombuffer(self._read(size), self.pixel)[0]

        below = above = 0
        for y in range(0, height, 16):
            for x in range(0, width, 16):
                tile = made[y : y + 16, x : x + 16]
                kind, = self._read(1)
                if kind & 1:
                    data = self._read(tile.size * size)
                    tile[:] = np.frombuffer(data, self.pixel).reshape(tile.shape)
                    continue
                below = colour() if kind & 2 else below
                above = colour() if kind & 4 else above
                tile[:] = below
                for _ in range(self._read(1)[0] if kind & 8 else 0):
                    ink = colour() if kind & 16 else above
                    place, extent = self._read(2)
                    left, top = place >> 4, place & 15
                    tile[top : top + (extent & 15) + 1, left : left + (extent >> 4) + 1] = ink
        return made

    def _tight_pixels(self, width: int, height: int) -> np.ndarray:
        control, = self._read(1)
        for number in range(4):
            if control >> number & 1:
                self._tight[number] = zlib.decompressobj()
        if control >> 4 == 8:
            return np.full((height, width), self._tpixels(self._read(self._tpixel))[0])
        stream = self._tight[control >> 4 & 3]
        if not control & 0x40:
            data = self._tight_data(stream, width * height * self._tpixel)
            return self._tpixels(data).reshape(height, width)
        assert self._read(1) == b"\1"
        count = self._read(1)[0] + 1
        palette = self._tpixels(self._read(count * self._tpixel))
        if count > 2:
            data = self._tight_data(stream, width * height)
            return palette[np.frombuffer(data, np.uint8)].reshape(height, width)
        row = -(-width // 8)
        bits = np.unpackbits(np.frombuffer(self._tight_data(stream, row * height), np.uint8))
        return palette[bits.reshape(height, -1)[:, :width]]

    def _tight_data(self, stream: Any, length: int) -> bytes:
        if length < 12:
            return self._read(length)
        size = shift = 0
        while True:
            byte, = self._read(1)
            size |= (byte if shift == 14 else byte & 0x7F) << shift
            shift += 7
            if shift == 21 or not byte & 0x80:
                break
        data: bytes = stream.decompress(self._read(size))
        assert len(data) == length
        return data

    @property
    def _tpixel(self) -> int:
        return 3 if self.pixel.itemsize == 4 and self.depth == 24 else self.pixel.itemsize

    def _tpixels(self, data: bytes) -> np.ndarray:
        if self._tpixel != 3:
            return np.frombuffer(data, self.pixel)
        red, green, blue = np.frombuffer(data, np.uint8).reshape(-1, 3).T.astype(np.uint32)
        red_at, green_at, blue_at = self.shifts
        return (red << red_at | green << green_at | blue << blue_at).astype(self.pixel)

    def _zrle(self, data: bytes, width: int, height: int) -> np.ndarray:
        made = np.zeros((height, width), self.pixel)
        size, at = self._tpixel, 0
        low_is_free = min(self.shifts) == 8 and size == 3

        def colours(count: int) -> np.ndarray:
            nonlocal at
            raw = np.frombuffer(data, np.uint8, count * size, at).reshape(-1, size)
            at += count * size
            wide = np.zeros((count, self.pixel.itemsize), np.uint8)
            begin = int((self.pixel.str[0] == ">") != low_is_free and size == 3)
            wide[:, begin : begin + size] = raw
            return wide.view(self.pixel)[:, 0]

        for y in range(0, height, 64):
            for x in range(0, width, 64):
                tile = made[y : y + 64, x : x + 64]
                kind, at = data[at], at + 1
                if kind == 0:
                    tile[:] = colours(tile.size).reshape(tile.shape)
                elif kind == 1:
                    tile[:] = colours(1)[0]
                else:
                    palette = colours(kind)
                    bits = 1 if kind == 2 else 2 if kind <= 4 else 4
                    row = -(-tile.shape[1] * bits // 8)
                    packed = np.frombuffer(data, np.uint8, row * tile.shape[0], at)
                    at += len(packed)
                    each = np.unpackbits(packed).reshape(tile.shape[0], -1, bits)
                    indexes = each @ (1 << np.arange(bits)[::-1])
                    tile[:] = palette[indexes[:, : tile.shape[1]]]
        assert at == len(data)
        return made
