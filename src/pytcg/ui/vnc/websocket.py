"""The server's side of the WebSocket protocol (RFC 6455) that browsers speak, and a page for them.

A request that isn't one for a WebSocket is answered with the page, or with what HTTP has for it.
"""

from __future__ import annotations

import hashlib
import struct
from base64 import b64decode, b64encode
from enum import IntEnum
from typing import Final

from pytcg.ui.vnc.protocol import ProtocolError
from pytcg.ui.vnc.stream import Hangup, LayeredStream, Stream

MAX_HEADERS: Final = 8192
CHUNK: Final = 1 << 16
GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3
SUBPROTOCOL: Final = "binary"
_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
                   426: "Upgrade Required"}  # fmt: skip


class Opcode(IntEnum):
    """Kinds of frames (5.2)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Request:
    """The head of an HTTP request."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise ProtocolError(f"no HTTP request: {first[:80]!r}")
        self.method, target, _ = words
        self.path = target.partition("?")[0]
        self._fields: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                self._fields[name.strip().lower()] = value.strip()

    def field(self, name: str) -> str:
        """A header field; empty if it is not there."""
        return self._fields.get(name, "")

    def words(self, name: str) -> list[str]:
        """The words of a field that is a list."""
        return [word.strip() for word in self.field(name).split(",") if word.strip()]


async def accept(stream: Stream, page: bytes | None) -> Stream:
    """The WebSocket that a browser opens; Hangup once a page was asked for; ProtocolError."""
    request = await _request(stream)
    if "websocket" not in [word.lower() for word in request.words("upgrade")]:
        _serve_page(stream, request, page)
        raise Hangup
    key, version = request.field("sec-websocket-key"), request.field("sec-websocket-version")
    if version != "13":
        _answer(stream, 426, extra="Sec-WebSocket-Version: 13\r\n")
        raise ProtocolError(f"WebSocket version {version!r}")
    offered = request.words("sec-websocket-protocol")
    if request.method != "GET" or not _is_key(key) or (offered and SUBPROTOCOL not in offered):
        _answer(stream, 400)
        raise ProtocolError("a WebSocket request that can't be")
    digest = b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
    chosen = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n" if offered else ""
    stream.write(("HTTP/1.1 101 Switching Protocols\r\n"
                  "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Accept: {digest}\r\n{chosen}\r\n").encode())  # fmt: skip
    return WebSocketStream(stream)


async def _request(stream: Stream) -> Request:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += await stream.read(1)
        if len(head) > MAX_HEADERS:
            _answer(stream, 400)
            raise ProtocolError("a long HTTP request")
    return Request(head[:-4])


def _is_key(key: str) -> bool:
    try:
        return len(b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _serve_page(stream: Stream, request: Request, page: bytes | None) -> None:
    if request.method not in ("GET", "HEAD"):
        _answer(stream, 405, extra="Allow: GET, HEAD\r\n")
    elif request.path != "/" or page is None:
        _answer(stream, 404)
    else:
        _answer(stream, 200, page, head=request.method == "HEAD")


def _answer(stream: Stream, status: int, body: bytes = b"", extra: str = "",
            *, head: bool = False) -> None:  # fmt: skip
    """A whole HTTP response."""
    text = body or f"{status} {_REASONS[status]}\n".encode()
    kind = "text/html; charset=utf-8" if body else "text/plain"
    lines = (f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {kind}\r\n"
             f"Content-Length: {len(text)}\r\nConnection: close\r\n"
             f"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{extra}\r\n")
    stream.write(lines.encode() + (b"" if head else text))


class WebSocketStream(LayeredStream):
    """What binary messages carry, one behind the other."""

    def __init__(self, below: Stream) -> None:
        super().__init__(below)
        self._left = 0  # bytes of a data frame that are still to come
        self._mask = b"\0\0\0\0"
        self._within = False  # a message that goes on in another frame

    async def some(self) -> bytes:
        while not self._left:
            if not await self._header():
                return b""
        length = min(self._left, CHUNK)
        data = _unmasked(await self._below.read(length), self._mask)
        self._mask = self._mask[length % 4 :] + self._mask[: length % 4]
        self._left -= length
        return data

    async def _header(self) -> bool:
        """A frame's head; control frames are served whole. False at the end."""
        first, second = await self._below.unpack(">BB")
        final, opcode, length = first & 0x80, first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80:
            raise ProtocolError("a WebSocket frame with reserved bits, or without a mask")
        if opcode & 8:
            if length > 125 or not final:
                raise ProtocolError("a long WebSocket control frame")
            return await self._control(opcode, length)
        if length >= 126:
            length, = await self._below.unpack(">H" if length == 126 else ">Q")
        if length >> 63:
            raise ProtocolError("a WebSocket frame without an end")
        if opcode != (Opcode.CONTINUATION if self._within else Opcode.BINARY):
            raise ProtocolError(f"WebSocket opcode {opcode}")
        self._within = not final
        self._mask = await self._below.read(4)
        self._left = length
        return True

    async def _control(self, opcode: int, length: int) -> bool:
        mask = await self._below.read(4)
        data = _unmasked(await self._below.read(length), mask)
        if opcode == Opcode.PING:
            self._frame(Opcode.PONG, data)
        elif opcode == Opcode.CLOSE:
            self._frame(Opcode.CLOSE, data[:2])
            return False
        elif opcode != Opcode.PONG:
            raise ProtocolError(f"WebSocket opcode {opcode}")
        return True

    def write(self, data: bytes) -> None:
        self._frame(Opcode.BINARY, data)

    def _frame(self, opcode: Opcode, data: bytes) -> None:
        length = len(data)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, length)
        elif length < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
        self._below.write(head + data)

    def close(self) -> None:
        if not self.closing:
            self._frame(Opcode.CLOSE, struct.pack(">H", 1000))
        self._below.close()

def _unmasked(data: bytes, mask: bytes) -> bytes:
    """Section 5.3."""
    whole = int.from_bytes(mask * (len(data) // 4 + 1), "little") & (1 << 8 * len(data)) - 1
    return (int.from_bytes(data, "little") ^ whole).to_bytes(len(data), "little")
