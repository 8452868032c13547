"""VeNCrypt and WebSockets by TLS, and those who don't get in."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from nbd.nbd_certificates import make_certificates
from pytcg.tls.credentials import TlsCredentials
from ui.rfb_client import RfbClient
from ui.show import Show, painted
from ui.test_websocket import free_port

ZRLE = 16


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pki") / "pki"
    make_certificates(made)
    return made


def credentials(pki: Path, *, verify: bool) -> TlsCredentials:
    return TlsCredentials("tls-creds-x509", "tls0", str(pki), "server", verify)


def client_context(pki: Path, *, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(pki / "ca-cert.pem"))
    if certificate:
        context.load_cert_chain(pki / "client-cert.pem", pki / "client-key.pem")
    return context


def test_a_viewer_sees_the_picture_by_tls(pki: Path, tmp_path: Path) -> None:
    show = Show(tmp_path / "vnc", tls=credentials(pki, verify=False))
    show.screen.paint(slice(0, 200), painted(1, 4000))
    viewer = RfbClient(show.connect(), ZRLE, tls=client_context(pki))
    for _ in range(3):
        viewer.update(incremental=False)
    assert np.array_equal(viewer.picture, show.screen.pixels)
    assert viewer.vencrypt == 260 and show.server.auth_facts() == {
        "auth": "vencrypt", "vencrypt": "x509-none"}
    viewer.close()
    show.close()
    assert show.errors == []


def test_a_password_inside_and_a_certificate_that_is_wanted(pki: Path, tmp_path: Path) -> None:
    show = Show(tmp_path / "vnc", tls=credentials(pki, verify=True), password=True)
    show.server.guard.password.set(b"secret")
    context = client_context(pki, certificate=True)
    viewer = RfbClient(show.connect(), ZRLE, tls=context, password=b"secret")
    viewer.update()
    assert viewer.vencrypt == 261
    assert show.server.clients[0].peer["x509_dname"] == "CN=test client"
    with pytest.raises(PermissionError):
        RfbClient(show.connect(), ZRLE, tls=context, password=b"wrong")
    with pytest.raises((ssl.SSLError, AssertionError, OSError)):
        RfbClient(show.connect(), ZRLE, tls=client_context(pki), password=b"secret").update()
    viewer.update(incremental=False)
    show.close()
    assert show.errors == []


def test_a_web_socket_by_tls(pki: Path, tmp_path: Path) -> None:
    show = Show(tmp_path, "127.0.0.1:0", to=99, websocket=str(free_port()),
                tls=credentials(pki, verify=False))  # fmt: skip
    url = f"wss://127.0.0.1:{show.server.websocket_port}/"
    with connect(url, ssl=client_context(pki), subprotocols=[Subprotocol("binary")]) as web:
        assert web.recv(60) == b"RFB 003.008\n"
        web.send(b"RFB 003.008\n")
        assert web.recv(60) == b"\1\1"  # TLS is below already
    show.close()
    assert show.errors == []


@pytest.mark.parametrize("sent", [
    b"RFB 003.008\n\x13\0\1", b"RFB 003.008\n\x13\0\2\0\0\1\1", b"RFB 003.003\n",
    b"RFB 003.008\n\x13\0\2\0\0\1\4" + b"junk" * 100,
    b"RFB 003.008\n\x13\0\2\0\0\1\4\x16\3\1\1\0\1\0\0\xfc\3\3" + bytes(40),
])  # fmt: skip
def test_who_does_not_speak_tls_is_hung_up_on(pki: Path, tmp_path: Path, sent: bytes) -> None:
    show = Show(tmp_path / "vnc", tls=credentials(pki, verify=False))
    sock = show.connect()
    sock.settimeout(60)
    sock.sendall(sent)
    sock.shutdown(socket.SHUT_WR)
    with sock.makefile("rb") as file:
        said = file.read()
    assert said.startswith(b"RFB 003.008\n")
    assert struct.pack(">I", 0) not in said[14:] or b"TLS needs" in said or b"\1\0\0\1\4" in said
    RfbClient(show.connect(), ZRLE, tls=client_context(pki)).update()
    show.close()
    assert show.errors == []
