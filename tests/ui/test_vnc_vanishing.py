"""Viewers that come, ask for anything, send junk and vanish, while the picture changes."""

from __future__ import annotations

import random
import struct
import threading
import time

import numpy as np

from ui.rfb_client import RfbClient
from ui.show import Show
from ui.test_vnc import ENCODINGS, ZRLE

MORE = (1, -239, -257, -258, -261, -307, -308, -312, -313, -250)


def paint(show: Show, stop: threading.Event) -> None:
    rng = np.random.default_rng(1)
    for number in range(1, 1 << 30):
        with show.lock:
            if number % 20 == 0:
                show.screen.resize(200 + 40 * (number % 7), 320 + 40 * (number % 9))
            height, width = show.screen.pixels.shape
            noise = rng.integers(0, 1 << 24, (height, width), np.uint32)
            show.screen.paint(slice(0, height), noise)
        if stop.wait(0.01):
            return


def visit(show: Show, rng: random.Random) -> None:
    viewer = RfbClient(show.connect(), rng.choice(ENCODINGS), more=tuple(rng.sample(MORE, 5)))
    for _ in range(rng.randrange(3)):
        viewer.update(incremental=bool(rng.randrange(2)))
    numbers = [rng.randrange(1 << 16) for _ in range(4)]
    viewer.send(struct.pack(">BBHHHH", 3, 0, *numbers))
    viewer.send(struct.pack(">BBHHHH", 150, rng.randrange(2), *numbers))
    viewer.send(struct.pack(">BBHH", 5, rng.randrange(256), *numbers[:2]))
    viewer.set_encodings(*(rng.choice((*ENCODINGS, *MORE)) for _ in range(4)))
    viewer.send(rng.randbytes(rng.randrange(30)))
    time.sleep(rng.random() / 20)
    viewer.close()


def visits(show: Show, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5):
        try:
            visit(show, rng)
        except (OSError, AssertionError):
            continue  # it was hung up on for its junk


def test_they_leave_nothing_behind(show: Show) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=visits, args=(show, seed)) for seed in range(4)]
    painter = threading.Thread(target=paint, args=(show, stop))
    for thread in (painter, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    painter.join()
    show.wait_for(lambda: not show.server.clients)
    assert show.errors == []
    viewer = show.viewer(ZRLE)
    viewer.update()
    assert np.array_equal(viewer.picture, show.screen.pixels)
