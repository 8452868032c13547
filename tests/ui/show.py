"""A VNC server on a picture that the test paints."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pytcg.tls.credentials import TlsCredentials
from pytcg.ui.console import Console
from pytcg.ui.vnc.server import VncServer
from pytcg.ui.vnc.settings import VncSettings
from ui.rfb_client import RfbClient


class Screen:
    """A picture that the test paints."""

    def __init__(self) -> None:
        self.pixels = np.zeros((200, 320), np.uint32)
        self.dirty: set[int] = set(range(200))

    def paint(self, lines: slice, colours: np.ndarray | int) -> None:
        self.pixels[lines] = colours
        self.dirty |= set(range(*lines.indices(len(self.pixels))))

    def resize(self, height: int, width: int) -> None:
        self.pixels = np.full((height, width), 0x102030, np.uint32)
        self.dirty = set(range(height))

    def refresh(self) -> np.ndarray:
        lines, self.dirty = np.array(sorted(self.dirty), np.int64), set()
        return lines


class Keyboard:
    def __init__(self) -> None:
        self.codes: list[bytes] = []
        self.leds = 0

    def key(self, codes: bytes) -> None:
        self.codes.append(codes)


class Mouse:
    def __init__(self) -> None:
        self.buttons = 0
        self.moves: list[tuple[object, ...]] = []

    def move(self, *counts: int) -> None:
        self.moves.append(("move", *counts))

    def press(self, buttons: int) -> None:
        self.buttons = buttons
        self.moves.append(("press", buttons))


class Show:
    """A server in a thread of its own."""

    def __init__(self, path: Path, address: str = "", *, tls: TlsCredentials | None = None,
                 **settings: Any) -> None:  # fmt: skip
        self.screen, self.keyboard, self.lock = Screen(), Keyboard(), threading.RLock()
        self.mouse = Mouse()
        self.path = path
        self.loop = asyncio.new_event_loop()
        self.errors: list[object] = []
        self.loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        console = Console(self.lock, self.screen, self.keyboard, self.mouse)  # type: ignore[arg-type]
        self.events: list[str] = []
        self.server = VncServer(self.loop, console, "a machine",
                                VncSettings(address or f"unix:{path}", **settings),
                                lambda name, **data: self.events.append(name),
                                self.errors.append)  # fmt: skip
        self.server.guard.doorkeeper.delay = 0.01
        if tls is not None:
            self.server.guard.tls = tls.server_context()
            self.server.guard.anonymous = tls.kind == "tls-creds-anon"
        self.server.listen()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def wait_for(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.path))
        return sock

    def viewer(self, encoding: int, **options: Any) -> RfbClient:
        return RfbClient(self.connect(), encoding, **options)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()


def painted(seed: int, colours: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.choice(rng.integers(0, 1 << 24, colours, np.uint32), (200, 320))
