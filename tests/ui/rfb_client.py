"""A VNC viewer for the tests: enough of RFC 6143 to see pictures and press keys."""

from __future__ import annotations

import socket
import struct
import zlib
from typing import Any

import numpy as np

from pytcg.ui.vnc.security import vnc_response

DESKTOP_SIZE = -223


class RfbClient:
    """Connects, shakes hands; `picture` is what it has been sent."""

    def __init__(self, sock: socket.socket, encoding: int, version: bytes = b"RFB 003.008\n",
                 *, resizes: bool = True, password: bytes | None = None,
                 shared: bool = True):  # fmt: skip
        self._password, self._shared = password, shared
        sock.settimeout(20)
        self._socket = sock
        self._file = sock.makefile("rb")
        self._zlib = {6: zlib.decompressobj(), 16: zlib.decompressobj()}
        self._handshake(version)
        self.pixel = np.dtype("<u4")
        wanted = [encoding, *([DESKTOP_SIZE] if resizes else [])]
        self.send(struct.pack(f">BxH{len(wanted)}i", 2, len(wanted), *wanted))

    def _handshake(self, version: bytes) -> None:
        assert self._read(12) == b"RFB 003.008\n"
        self.send(version)
        if version.endswith(b"3\n"):
            kind, = self._unpack(">I")
        else:
            kind, = self._read(self._read(1)[0])
            self.send(bytes((kind,)))
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
        self.picture = self.picture.astype(pixel)

    def key(self, keysym: int, *, down: bool) -> None:
        self.send(struct.pack(">BB2xI", 4, down, keysym))

    def update(self, *, incremental: bool = True) -> list[tuple[int, int, int, int]]:
        """Ask for an update and take it in; the rectangles."""
        height, width = self.picture.shape
        self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, width, height))
        kind, count = self._unpack(">BxH")
        assert kind == 0
        places = []
        for _ in range(count):
            x, y, width, height, encoding = self._unpack(">HHHHi")
            places.append((x, y, width, height))
            if encoding == DESKTOP_SIZE:
                self.picture = np.zeros((height, width), self.pixel)
                continue
            self.picture[y : y + height, x : x + width] = self._pixels(encoding, width, height)
        return places

    def _pixels(self, encoding: int, width: int, height: int) -> np.ndarray:
        if encoding == 0:
            data = self._read(width * height * self.pixel.itemsize)
            return np.frombuffer(data, self.pixel).reshape(height, width)
        length, = self._unpack(">I")
        data = self._zlib[encoding].decompress(self._read(length))
        if encoding == 6:
            return np.frombuffer(data, self.pixel).reshape(height, width)
        return self._zrle(data, width, height)

    def _zrle(self, data: bytes, width: int, height: int) -> np.ndarray:
        made = np.zeros((height, width), self.pixel)
        size = 3 if self.pixel.itemsize == 4 else self.pixel.itemsize
        at = 0

        def colours(count: int) -> np.ndarray:
            nonlocal at
            raw = np.frombuffer(data, np.uint8, count * size, at).reshape(-1, size)
            at += count * size
            wide = np.zeros((count, self.pixel.itemsize), np.uint8)
            wide[:, :size] = raw
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
