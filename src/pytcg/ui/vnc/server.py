"""The VNC server in the main loop: viewers come and go; the screen is looked at while one waits."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

import numpy as np

from pytcg.ui.console import Console, Frame
from pytcg.ui.vnc import address
from pytcg.ui.vnc.address import VncError as VncError
from pytcg.ui.vnc.handshake import Guard, shake_hands
from pytcg.ui.vnc.input import Input, Keys
from pytcg.ui.vnc.page import read_page
from pytcg.ui.vnc.protocol import ProtocolError
from pytcg.ui.vnc.security import Refused, Security
from pytcg.ui.vnc.settings import Share, VncSettings
from pytcg.ui.vnc.stream import Hangup, SocketStream, Stream
from pytcg.ui.vnc.tls import TlsStream
from pytcg.ui.vnc.updates import Job
from pytcg.ui.vnc.viewer import Viewer
from pytcg.ui.vnc.websocket import accept

FRAME_SECONDS: Final = 1 / 30  # between two looks at a screen that changes
STILL_SECONDS: Final = 1 / 4   # at one that doesn't, in the end
SLOWER: Final = 1.2            # what a look that saw nothing makes of the time to the next
FEW_LINES: Final = 32          # of a picture: a line of text, a cursor
SMALL: Final = 1 << 14         # pixels that are encoded at once, not in another thread
HANDSHAKE_SECONDS: Final = 300.0  # somebody may have to find a password
ACCEPT_PAUSE: Final = 1.0  # seconds until the next try when the host has no descriptor left
CLOSING_ROUNDS: Final = 16  # of a stopped loop, for tasks to see that they are cancelled
_AUTH_NAMES: Final = {Security.NONE: "none", Security.VNC: "vnc"}


class Client:
    """A connection: where it comes from, and the viewer it became."""

    def __init__(self, stream: Stream, connection: socket.socket, *, websocket: bool) -> None:
        self.stream = stream
        names = (address.name_of(connection.family, place)
                 for place in (connection.getsockname(), connection.getpeername()))  # fmt: skip
        self.listener, self.peer = ({**name, "websocket": websocket} for name in names)
        self.viewer: Viewer | None = None
        self.shared: bool | None = None  # None: not said yet


class VncServer:
    """Serves a console at the addresses of its settings."""

    def __init__(self, loop: asyncio.AbstractEventLoop, console: Console, name: str,
                 settings: VncSettings, tell: Callable[..., None] = lambda name, **data: None,
                 complain: Callable[[str], None] = print) -> None:  # fmt: skip
        self._loop = loop
        self._console = console
        self._name = name
        self.settings = settings
        self.guard = Guard(Security.VNC if settings.password else Security.NONE)
        self._tell = tell
        self._complain = complain
        self.clients: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._websockets: list[socket.socket] = []
        self._keys = Keys(loop, console, settings.key_delay)
        self._encoder = ThreadPoolExecutor(1, "vnc")
        self._tick: asyncio.TimerHandle | None = None
        self._interval = FRAME_SECONDS
        self._looked = float("-inf")  # when it last looked at the screen
        self._serial = -1  # of the frame it saw

    # --- connections ---------------------------------------------------------------------------

    def listen(self) -> None:
        """Begin to serve; VncError."""
        settings = self.settings
        if settings.address == "none":
            return
        self._listeners = address.listen(settings.address, settings.to, settings.families)
        if settings.websocket not in (None, "off"):
            place = self._listeners[0].getsockname()
            display = place[1] - address.FIRST_PORT if isinstance(place, tuple) else 0
            self._websockets = address.listen_websocket(
                str(settings.websocket), settings.address, display, settings.families)
        for listener in self._listeners:
            self._start(self._accept(listener, websocket=False))
        for listener in self._websockets:
            self._start(self._accept(listener, websocket=True))

    def _start(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Let go of the addresses and the viewers; the loop may have stopped."""
        for listener in (*self._listeners, *self._websockets):
            if listener.family == socket.AF_UNIX:
                with suppress(OSError):
                    os.unlink(listener.getsockname())
            listener.close()
        for client in self.clients:
            client.stream.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tick is not None:
            self._tick.cancel()
        self._encoder.shutdown(wait=False, cancel_futures=True)
        for _ in range(CLOSING_ROUNDS):
            if self._tasks and not self._loop.is_running():
                self._loop.call_soon(self._loop.stop)
                self._loop.run_forever()

    @property
    def port(self) -> int:
        """The TCP port it listens at."""
        return int(self._listeners[0].getsockname()[1])

    @property
    def websocket_port(self) -> int:
        """The one for WebSockets."""
        return int(self._websockets[0].getsockname()[1])

    async def _accept(self, listener: socket.socket, *, websocket: bool) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            with suppress(OSError):  # the peer is gone
                reader, writer = await asyncio.open_connection(sock=connection)
                client = Client(SocketStream(reader, writer), connection, websocket=websocket)
                self._start(self._converse(client))

    async def _converse(self, client: Client) -> None:
        self.clients.append(client)
        self._event("VNC_CONNECTED", client)
        try:
            await self._serve(client)
        except (Hangup, OSError, ProtocolError, Refused):
            pass
        except Exception as error:  # our own fault: neither guest nor other viewers pay for it
            self._complain(f"VNC viewer: internal error: {type(error).__name__}: {error}")
        finally:
            self.clients.remove(client)
            client.stream.close()
            self._event("VNC_DISCONNECTED", client)

    async def _serve(self, client: Client) -> None:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            websocket = client.peer["websocket"]
            if websocket and self.guard.tls is not None:
                client.stream = tls = TlsStream(client.stream, self.guard.tls)
                await tls.shake_hands()
            if websocket:
                client.stream = await accept(client.stream, self._page())
            client.stream = stream = await shake_hands(client.stream, self.guard,
                                                       client.peer["host"], secure=websocket)
            if isinstance(stream, TlsStream) and stream.peer_name is not None:
                client.peer["x509_dname"] = stream.peer_name
            client.shared = bool(await stream.byte())
        self._share(client)
        input = Input(self._console, self._keys)
        client.viewer = Viewer(self._console, stream, input, self._name, self._wanted,
                               partial(self._encode, stream))  # fmt: skip
        client.viewer.greet()
        self._event("VNC_INITIALIZED", client)
        await client.viewer.run()

    def _page(self) -> bytes | None:
        return read_page() if self.settings.page else None

    def _share(self, client: Client) -> None:
        """Who has to go, now that the viewer has said if it shares; Refused."""
        others = [each for each in self.clients if each is not client and each.shared is not None]
        share = self.settings.share
        if share is Share.IGNORE:
            return
        if not client.shared:
            if share is Share.FORCE_SHARED:
                raise Refused("the screen is shared")
            for other in others:
                other.stream.close()
        elif any(not other.shared for other in others):
            raise Refused("somebody has the screen for himself")
        elif len(others) >= self.settings.connections:
            raise Refused("too many viewers")

    def drop_viewers(self) -> None:
        """Hang up on everybody."""
        for client in self.clients:
            client.stream.close()

    # --- updates -------------------------------------------------------------------------------

    def _wanted(self) -> None:
        """Somebody waits for an update, or has done what may bring one: look soon."""
        self._interval = FRAME_SECONDS
        soon = max(self._loop.time(), self._looked + FRAME_SECONDS)
        if self._tick is None or self._tick.when() > soon:
            self._look_at(soon)

    def _look_at(self, when: float) -> None:
        if self._tick is not None:
            self._tick.cancel()
        self._tick = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._tick = None
        waiting = [client for client in self.clients
                   if client.viewer is not None and client.viewer.wants_update]  # fmt: skip
        if not waiting:
            return
        frame = self._console.refresh()
        for client in waiting:
            self._update(client, frame)
        changed = np.count_nonzero(frame.stamps > self._serial)
        if changed > FEW_LINES:
            self._interval = FRAME_SECONDS
        elif not changed:  # what blinks neither hastens nor slows
            self._interval = min(self._interval * SLOWER, STILL_SECONDS)
        self._looked, self._serial = self._loop.time(), frame.serial
        if self._tick is None:
            self._look_at(self._looked + self._interval)

    def _update(self, client: Client, frame: Frame) -> None:
        assert client.viewer is not None
        try:
            client.viewer.update(frame)
        except Exception as error:  # as in _converse
            self._complain(f"VNC update: internal error: {type(error).__name__}: {error}")
            client.stream.close()

    def _encode(self, stream: Stream, job: Job, done: Callable[[bytes], None]) -> None:
        """Encode an update, a large one beside the loop."""
        if job.pixels <= SMALL:
            done(job.run())
            return

        def finished(future: Future[bytes]) -> None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(take, future)

        def take(future: Future[bytes]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._complain(f"VNC update: internal error: {type(error).__name__}: {error}")
            if future.cancelled() or error is not None:
                stream.close()
            else:
                done(future.result())

        self._encoder.submit(job.run).add_done_callback(finished)

    # --- what monitors ask and set -------------------------------------------------------------

    @property
    def auth(self) -> str:
        """How viewers show who they are, in QMP's word."""
        return "vencrypt" if self.guard.tls is not None else _AUTH_NAMES[self.guard.security]

    @property
    def long_auth(self) -> str:
        """The same with what is inside, as events and `query-vnc` have it."""
        tls = self.guard.tls is not None
        return f"vencrypt+{self.guard.vencrypt.word.replace('-', '+')}" if tls else self.auth

    def auth_facts(self, *, websocket: bool = False) -> dict[str, str]:
        """Its members in `query-vnc-servers`: WebSockets have TLS below."""
        if self.guard.tls is None or websocket:
            return {"auth": _AUTH_NAMES[self.guard.security]}
        return {"auth": self.auth, "vencrypt": self.guard.vencrypt.word}

    def servers(self) -> list[dict[str, Any]]:
        """Where it listens, as QMP says it."""
        return [{**address.name_of(each.family, each.getsockname()), "websocket": websocket,
                 **self.auth_facts(websocket=websocket)}
                for websocket, listeners in ((True, self._websockets), (False, self._listeners))
                for each in listeners]  # fmt: skip

    def _event(self, name: str, client: Client) -> None:
        self._tell(name, server={**client.listener, "auth": self.long_auth}, client=client.peer)
