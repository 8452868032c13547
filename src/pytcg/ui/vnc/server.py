"""The VNC server in the main loop: viewers come and go; the screen is looked at while one waits."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from pytcg.ui.console import Console
from pytcg.ui.vnc.viewer import ProtocolError, Viewer

FIRST_PORT: Final = 5900
FRAME_SECONDS: Final = 1 / 30


class VncError(Exception):
    """An address that can't be served."""


class VncServer:
    """Serves a console at a host and port, or at a Unix socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, console: Console, name: str) -> None:
        self._loop = loop
        self._console = console
        self._name = name
        self._viewers: dict[Viewer, asyncio.StreamWriter] = {}
        self._server: asyncio.Server | None = None
        self._ticking = False

    def listen(self, address: str) -> None:
        """HOST:DISPLAY, or unix:PATH; VncError. To be called before the loop runs."""
        try:
            if address.startswith("unix:"):
                made = asyncio.start_unix_server(self._connected, address[5:])
            else:
                host, _, display = address.rpartition(":")
                made = asyncio.start_server(self._connected, host or None, _port(display))
            self._server = self._loop.run_until_complete(made)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise VncError(f"Failed to listen on '{address}': {reason}") from error

    def close(self) -> None:
        """Let go of the address and the viewers."""
        if self._server is not None:
            self._server.close()
        for writer in self._viewers.values():
            writer.close()

    @property
    def port(self) -> int:
        """The TCP port it listens at."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        viewer = Viewer(self._console, self._name, reader, writer, self._wanted)
        self._viewers[viewer] = writer
        try:
            with suppress(ProtocolError, OSError, asyncio.IncompleteReadError):
                await viewer.run()
        finally:
            del self._viewers[viewer]
            writer.close()

    def _wanted(self) -> None:
        """Somebody waits for an update."""
        if not self._ticking:
            self._ticking = True
            self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        waiting = [viewer for viewer in self._viewers if viewer.wants_update]
        if not waiting:
            self._ticking = False
            return
        frame = self._console.refresh()
        for viewer in waiting:
            viewer.update(frame)
        self._loop.call_later(FRAME_SECONDS, self._tick)


def _port(display: str) -> int:
    if not display.isdigit() or int(display) > 0xFFFF - FIRST_PORT:
        raise VncError(f"'{display}' is no display number")
    return FIRST_PORT + int(display)
