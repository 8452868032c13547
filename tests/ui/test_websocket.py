"""The protocol in WebSockets: by a client library, by hand, and in a browser by our own page."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from pytcg.ui.vnc.websocket import _unmasked
from ui.rfb_client import RfbClient
from ui.show import Show, painted

ZRLE = 16
BINARY = [Subprotocol("binary")]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Show]:
    show = Show(tmp_path, "127.0.0.1:0", to=99, websocket=str(free_port()))
    yield show
    show.close()
    assert show.errors == []


class WebSocket:
    """A socket's face on a connection of the client library."""

    def __init__(self, show: Show) -> None:
        self.connection: ClientConnection = connect(
            f"ws://127.0.0.1:{show.server.websocket_port}/", subprotocols=BINARY, compression=None,
            legacy=True)
        self._ahead = b""

    def settimeout(self, seconds: float) -> None:
        del seconds

    def makefile(self, mode: str) -> WebSocket:
        del mode
        return self

    def sendall(self, data: bytes) -> None:
        self.connection.send(data)

    def read(self, length: int) -> bytes:
        while len(self._ahead) < length:
            self._ahead += self.connection.recv(20)  # type: ignore[operator]
        data, self._ahead = self._ahead[:length], self._ahead[length:]
        return data


def test_a_client_library_sees_the_picture(web: Show) -> None:
    web.screen.paint(slice(0, 200), painted(1, 4000))
    sock = WebSocket(web)
    assert sock.connection.subprotocol == "binary"
    viewer = RfbClient(sock, ZRLE)  # type: ignore[arg-type]
    viewer.update()
    assert np.array_equal(viewer.picture, web.screen.pixels)
    sock.connection.ping().wait(20)
    viewer.key(ord("a"), down=True)
    web.wait_for(lambda: web.keyboard.codes == [b"\x1c"])
    assert [row["websocket"] for row in web.server.servers()] == [True, False]
    sock.connection.close()
    web.wait_for(lambda: not web.server.clients)
    assert sock.connection.close_code == 1000


def test_messages_may_come_in_pieces(web: Show) -> None:
    sock = WebSocket(web)
    sock.connection.send(iter([b"RFB 0", b"", b"03.008\n", b"\1", b"\1"]))
    assert sock.read(12 + 2 + 4) == b"RFB 003.008\n\1\1\0\0\0\0"


@pytest.mark.parametrize("frame", [
    b"\x81\x81\0\0\0\0a", b"\x82\x01a", b"\xc2\x81\0\0\0\0a", b"\x80\x81\0\0\0\0a",
    b"\x89\xfe\x01\0\0\0\0\0", b"\x83\x80\0\0\0\0", b"\x82\xff" + b"\xff" * 12,
])  # fmt: skip
def test_a_frame_that_cant_be_ends_the_connection(web: Show, frame: bytes) -> None:
    with socket.create_connection(("127.0.0.1", web.server.websocket_port), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        with sock.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            assert file.read(14) == b"\x82\x0cRFB 003.008\n"
            sock.sendall(frame)
            assert file.read() == b"\x88\x02\x03\xe8"


def fetch(show: Show, path: str, method: str = "GET") -> tuple[int, bytes]:
    url = f"http://127.0.0.1:{show.server.websocket_port}{path}"
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_the_page_is_there_and_nothing_else(web: Show, tmp_path: Path) -> None:
    status, page = fetch(web, "/")
    assert status == 200 and b"<canvas" in page and b"@" + b"SBOXES" not in page
    assert fetch(web, "/?x=1", "HEAD") == (200, b"")
    assert fetch(web, "/etc/passwd")[0] == 404 and fetch(web, "/", "POST")[0] == 405
    without = Show(tmp_path, "127.0.0.1:0", to=99, websocket=str(free_port()), page=False)
    assert fetch(without, "/")[0] == 404
    without.close()


def test_junk_before_the_handshake_is_answered_or_ends_it(web: Show) -> None:
    place = "127.0.0.1", web.server.websocket_port
    for junk in (b"\0" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 9000,
                 b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
                 b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                 b"Sec-WebSocket-Key: x\r\n\r\n"):  # fmt: skip
        with socket.create_connection(place, 20) as sock:
            sock.sendall(junk)
            with sock.makefile("rb") as file:
                answer = file.read()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 426"))
    with pytest.raises(InvalidStatus):
        connect(f"ws://127.0.0.1:{place[1]}/", subprotocols=[Subprotocol("chat")])
    assert fetch(web, "/")[0] == 200


def test_masks() -> None:
    assert _unmasked(bytes(range(7)), b"\x01\x02\x04\x08") == bytes((1, 3, 6, 11, 5, 7, 2))
    assert _unmasked(b"", b"abcd") == b""


class Browser:
    """Chromium without a window, driven by its debugging protocol."""

    def __init__(self, folder: Path, url: str) -> None:
        self.process = subprocess.Popen(
            [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
             "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={folder}",
             "--window-size=800,600", url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 60
        while not (target := self._target(folder)):
            assert time.monotonic() < end and self.process.poll() is None
            time.sleep(0.1)
        self._connection = connect(target, max_size=None, legacy=True)
        self._number = 0

    @staticmethod
    def _target(folder: Path) -> str:
        try:
            port = (folder / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=20) as answer:
                pages = [row for row in json.load(answer) if row["type"] == "page"]
            return str(pages[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            return ""

    def call(self, method: str, **arguments: Any) -> Any:
        self._number += 1
        self._connection.send(
            json.dumps({"id": self._number, "method": method, "params": arguments}))
        while True:
            answer = json.loads(self._connection.recv(60))
            if answer.get("id") == self._number:
                return answer["result"]

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def picture(self) -> np.ndarray:
        url = self.value("document.getElementById('screen').toDataURL('image/png')")
        data = base64.b64decode(url.partition(",")[2])
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.uint32)
        return rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]

    def close(self) -> None:
        self._connection.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_the_machine_and_types(tmp_path: Path) -> None:
    port = free_port()
    show = Show(tmp_path, "127.0.0.1:0", to=99, websocket=str(port), password=True)
    show.server.guard.password.set(b"opensesame")
    show.screen.paint(slice(0, 100), painted(1, 4000)[:100])
    show.screen.paint(slice(100, 150), painted(1, 2)[:50])
    show.screen.paint(slice(150, 200), painted(1, 9)[:50])
    browser = Browser(tmp_path / "profile", f"http://127.0.0.1:{port}/")
    try:
        show.wait_for(lambda: browser.value("!document.getElementById('login').hidden"))
        browser.call("Input.insertText", text="opensesame")
        browser.value("document.getElementById('login').requestSubmit()")
        show.wait_for(lambda: np.array_equal(browser.picture(), show.screen.pixels))
        with show.lock:  # what scrolls, and another size
            show.screen.paint(slice(0, 150), show.screen.pixels[40:190].copy())
        show.wait_for(lambda: np.array_equal(browser.picture(), show.screen.pixels))
        with show.lock:
            show.screen.resize(240, 400)
        show.wait_for(lambda: np.array_equal(browser.picture(), show.screen.pixels))
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, code="KeyZ", key="y")
        show.wait_for(lambda: show.keyboard.codes == [b"\x1a", b"\xf0\x1a"])
        assert browser.value("document.title") == "a machine"
    finally:
        browser.close()
        show.close()
    assert show.errors == []
