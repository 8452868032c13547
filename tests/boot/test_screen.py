"""SeaBIOS on the screen, seen by a VNC viewer who also types."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from boot.terminal import BOOT_SECONDS, SOURCES
from pytcg.machine.roms import DEFAULT_BIOS, RomFinder
from ui.rfb_client import RfbClient

pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(RomFinder().find(DEFAULT_BIOS) is None, reason="needs the package seabios"),
]
ZRLE = 16
ESCAPE = 0xFF1B


def connect(path: Path) -> socket.socket:
    end = time.monotonic() + BOOT_SECONDS
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
            return sock
        except OSError:
            assert time.monotonic() < end, "no VNC server"
            time.sleep(0.1)


def rows_of_text(picture: np.ndarray) -> int:
    """How many rows of 16 lines have ink."""
    return int(picture[:400].reshape(25, -1).any(axis=1).sum())


def test_the_bios_draws_its_messages_and_hears_a_key(tmp_path: Path) -> None:
    path = tmp_path / "vnc"
    command = [sys.executable, "-m", "pytcg.cli.system", "-m", "64", "-serial", "none",
               "-boot", "menu=on", "-vnc", f"unix:{path}"]  # fmt: skip
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SOURCES},
                               stdin=subprocess.DEVNULL)  # fmt: skip
    try:
        viewer = RfbClient(connect(path), ZRLE)
        end = time.monotonic() + BOOT_SECONDS
        menu = False
        while not menu or rows_of_text(viewer.picture) < 6:
            assert time.monotonic() < end, "nothing on the screen"
            viewer.update(incremental=False)
            if viewer.picture.shape == (400, 720) and rows_of_text(viewer.picture) >= 2:
                viewer.key(ESCAPE, down=True)  # "Press ESC for boot menu"
                viewer.key(ESCAPE, down=False)
                menu = True
            time.sleep(0.2)
    finally:
        process.terminate()
        assert process.wait(30) == 0
