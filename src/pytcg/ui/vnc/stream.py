"""A viewer's connection as bytes in both directions, whatever lies below."""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from typing import Final

_CHUNK: Final = 1 << 16


class Hangup(Exception):
    """The peer has gone."""


class Stream(ABC):
    """Reads exactly what is asked for; writes are queued."""

    def __init__(self) -> None:
        self._ahead = bytearray()

    @abstractmethod
    async def some(self) -> bytes:
        """What has come, at least one byte; empty at the end; OSError."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send it in time."""

    @abstractmethod
    def close(self) -> None:
        """Hang up once what was written is sent."""

    @property
    @abstractmethod
    def closing(self) -> bool:
        """Whether it is closed, by whomever."""

    @property
    @abstractmethod
    def unsent(self) -> int:
        """Bytes that were written and wait."""

    async def read(self, length: int) -> bytes:
        """So many bytes; Hangup, OSError."""
        ahead = self._ahead
        while len(ahead) < length:
            data = await self.some()
            if not data:
                raise Hangup
            ahead += data
        taken = bytes(ahead[:length])
        del ahead[:length]
        return taken

    async def chunk(self) -> bytes:
        """What has been read ahead, or what comes next; empty at the end; OSError."""
        taken = bytes(self._ahead)
        self._ahead.clear()
        return taken or await self.some()

    async def byte(self) -> int:
        """One byte."""
        return (await self.read(1))[0]

    async def unpack(self, layout: str) -> tuple[int, ...]:
        """Integers in `struct`'s layout."""
        return struct.unpack(layout, await self.read(struct.calcsize(layout)))


class LayeredStream(Stream):
    """One that another carries."""

    def __init__(self, below: Stream) -> None:
        super().__init__()
        self._below = below

    @property
    def closing(self) -> bool:
        return self._below.closing

    @property
    def unsent(self) -> int:
        return self._below.unsent


class SocketStream(Stream):
    """A socket itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer

    async def some(self) -> bytes:
        return await self._reader.read(_CHUNK)

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def close(self) -> None:
        self._writer.close()

    @property
    def closing(self) -> bool:
        return self._writer.is_closing()

    @property
    def unsent(self) -> int:
        return self._writer.transport.get_write_buffer_size()
