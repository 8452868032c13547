"""TigerVNC's viewer on an X server without a screen: what it draws is what the guest shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbd.nbd_certificates import make_certificates
from pytcg.tls.credentials import TlsCredentials
from ui.show import Show, painted

VIEWER, SERVER, SHOT = (shutil.which(name) for name in ("xtigervncviewer", "Xvfb", "import"))
pytestmark = pytest.mark.skipif(not (VIEWER and SERVER and SHOT),
                                reason="needs tigervnc-viewer, xvfb, imagemagick")  # fmt: skip
SECONDS = 60


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    read, write = os.pipe()
    process = subprocess.Popen([str(SERVER), "-displayfd", str(write), "-screen", "0",
                                "800x600x24"], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as file:
        yield f":{file.readline().strip()}"
    process.terminate()
    process.wait(20)


def view(display: str, folder: Path, show: Show, *options: str) -> subprocess.Popen[bytes]:
    command = [str(VIEWER), "-Shared", "-FullScreen=0", "-RemoteResize=0", "-AutoSelect=0",
               *options, f"127.0.0.1::{show.server.port}"]
    return subprocess.Popen(command, env={**os.environ, "DISPLAY": display, "HOME": str(folder)},
                            stderr=subprocess.DEVNULL)  # fmt: skip


def shows(display: str, folder: Path, picture: np.ndarray) -> bool:
    """Whether the picture is somewhere on the X server's screen."""
    shot = folder / "shot.png"
    subprocess.run([str(SHOT), "-window", "root", str(shot)], check=True, timeout=SECONDS,
                   env={**os.environ, "DISPLAY": display})
    rgb = np.asarray(Image.open(shot).convert("RGB")).astype(np.uint32)
    seen = rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]
    height, width = picture.shape
    for y, x in zip(*np.nonzero(seen == picture[0, 0]), strict=True):
        if np.array_equal(seen[y : y + height, x : x + width], picture):
            return True
    return False


def wait_until_shown(display: str, folder: Path, picture: np.ndarray) -> None:
    end = time.monotonic() + SECONDS
    while not shows(display, folder, picture):
        assert time.monotonic() < end, "the viewer shows something else"
        time.sleep(0.2)


@pytest.mark.parametrize("kind", ["X509None", "TLSNone"])
def test_a_viewer_by_tls(tmp_path: Path, display: str, kind: str) -> None:
    make_certificates(tmp_path / "pki")
    words = {"X509None": f"tls-creds-x509,dir={tmp_path}/pki,verify-peer=off",
             "TLSNone": "tls-creds-anon"}[kind]  # fmt: skip
    credentials = TlsCredentials.parse(f"{words},id=tls0,endpoint=server")
    show = Show(tmp_path, "127.0.0.1:0", to=99, tls=credentials)
    show.screen.paint(slice(0, 200), painted(7, 40))
    process = view(display, tmp_path, show, f"-SecurityTypes={kind}",
                   f"-X509CA={tmp_path}/pki/ca-cert.pem")  # fmt: skip
    try:
        wait_until_shown(display, tmp_path, show.screen.pixels)
        assert show.server.long_auth == "vencrypt+" + kind.lower().replace("none", "+none")
    finally:
        process.terminate()
        process.wait(20)
        show.close()
    assert show.errors == []


@pytest.mark.parametrize("encoding", ["Tight", "Hextile"])
def test_a_viewer_draws_what_the_guest_shows(tmp_path: Path, display: str, encoding: str) -> None:
    show = Show(tmp_path, "127.0.0.1:0", to=99)
    show.screen.paint(slice(0, 200), painted(7, 40))
    process = view(display, tmp_path, show, f"-PreferredEncoding={encoding}",
                   "-SecurityTypes=None")  # fmt: skip
    try:
        wait_until_shown(display, tmp_path, show.screen.pixels)
        with show.lock:  # text that scrolls, and a part of many colours
            show.screen.paint(slice(0, 184), show.screen.pixels[16:].copy())
            show.screen.paint(slice(184, 200), painted(8, 3000)[:16])
        wait_until_shown(display, tmp_path, show.screen.pixels)
    finally:
        process.terminate()
        process.wait(20)
        show.close()
    assert show.errors == []
