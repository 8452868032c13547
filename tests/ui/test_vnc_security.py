"""Who gets in: passwords, shares, addresses."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from pytcg.ui.console import Console
from pytcg.ui.vnc.des import encrypt_block
from pytcg.ui.vnc.security import CLOSED_SECONDS, FAILURES, Doorkeeper, Password, Refused
from pytcg.ui.vnc.security import vnc_response as answer
from pytcg.ui.vnc.server import VncError, VncServer
from pytcg.ui.vnc.settings import Share, VncSettings
from ui.rfb_client import RfbClient
from ui.show import Show

RAW = 0


def test_des_of_the_standard_and_of_another_library() -> None:
    key, plain = bytes.fromhex("133457799BBCDFF1"), bytes.fromhex("0123456789ABCDEF")
    assert encrypt_block(key, plain).hex() == "85e813540f0ab405"
    for _ in range(50):
        key, plain = os.urandom(8), os.urandom(8)
        cipher = Cipher(TripleDES(key * 3), modes.ECB()).encryptor()
        assert encrypt_block(key, plain) == cipher.update(plain)


def test_a_password_has_eight_bytes_that_count() -> None:
    challenge = bytes(range(16))
    assert answer(b"12345678", challenge) == answer(b"123456789", challenge)
    assert answer(b"1234567", challenge) != answer(b"12345678", challenge)


def test_a_password_that_is_not_set_or_has_expired_lets_nobody_in() -> None:
    now = 100.0
    password = Password(lambda: now)
    challenge = password.challenge()
    assert not password.accepts(challenge, answer(b"", challenge))
    password.set(b"")
    assert password.accepts(challenge, answer(b"", challenge))
    password.expire(101)
    assert password.accepts(challenge, answer(b"", challenge))
    now = 101.0
    assert not password.accepts(challenge, answer(b"", challenge))
    password.expire(None)
    assert password.accepts(challenge, answer(b"", challenge))


def test_too_many_wrong_passwords_close_the_door_longer_each_time() -> None:
    now = 0.0
    keeper = Doorkeeper(lambda: now)
    for _ in range(FAILURES):
        keeper.admit("a")
        keeper.failed("a")
    with pytest.raises(Refused, match="Too many"):
        keeper.admit("a")
    keeper.admit("b")
    now += CLOSED_SECONDS
    keeper.admit("a")
    keeper.failed("a")
    now += CLOSED_SECONDS
    with pytest.raises(Refused):
        keeper.admit("a")
    now += CLOSED_SECONDS
    keeper.admit("a")
    keeper.succeeded("a")
    assert keeper.failures("a") == 0


@pytest.fixture
def guarded(tmp_path: Path) -> Show:
    show = Show(tmp_path / "vnc", password=True)
    show.server.guard.password.set(b"opensesame")
    return show


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"])
def test_who_knows_the_password_gets_in(guarded: Show, version: bytes) -> None:
    RfbClient(guarded.connect(), RAW, version, password=b"opensesame").update()
    guarded.close()


def test_who_is_wrong_is_told_late_and_then_not_asked_any_more(guarded: Show) -> None:
    guarded.server.guard.doorkeeper.delay = 0.1
    for _ in range(FAILURES):
        begin = time.monotonic()
        with pytest.raises(PermissionError, match="Authentication failed"):
            guarded.viewer(RAW, password=b"wrong")
        assert time.monotonic() - begin >= 0.1
    assert guarded.server.guard.doorkeeper.failures("") == FAILURES
    sock = guarded.connect()
    sock.settimeout(10)
    file = sock.makefile("rb")
    file.read(12)
    sock.sendall(b"RFB 003.008\n")
    assert file.read(1) == b"\0"
    length, = struct.unpack(">I", file.read(4))
    assert file.read(length) == b"Too many security failures"
    assert file.read() == b""
    guarded.close()


@pytest.mark.parametrize("version", [b"RFB 003.003\n", b"RFB 003.007\n"])
def test_old_viewers_are_told_without_a_reason(guarded: Show, version: bytes) -> None:
    sock = guarded.connect()
    sock.settimeout(10)
    file = sock.makefile("rb")
    file.read(12)
    sock.sendall(version + (b"\2" if version.endswith(b"7\n") else b"") + bytes(16))
    kinds = file.read(4 if version.endswith(b"3\n") else 2)
    assert kinds[-1] == 2
    file.read(16)
    assert file.read() == b"\0\0\0\1"
    guarded.close()


def gone(viewer: RfbClient) -> bool:
    try:
        viewer.update(incremental=False)
    except (AssertionError, OSError):
        return True
    return False


@pytest.mark.parametrize(("share", "first", "second"), [
    (Share.ALLOW_EXCLUSIVE, False, True), (Share.FORCE_SHARED, True, False),
    (Share.IGNORE, True, True),
])  # fmt: skip
def test_a_viewer_that_wants_the_screen_for_itself(
    tmp_path: Path, share: Share, first: bool, second: bool
) -> None:
    show = Show(tmp_path / "vnc", share=share)
    before = show.viewer(RAW)
    before.update()
    if second:
        show.viewer(RAW, shared=False).update()
    else:
        with pytest.raises((AssertionError, OSError)):
            show.viewer(RAW, shared=False).update()
    assert gone(before) is not first
    show.close()


def test_one_more_than_may_connect_is_turned_away(tmp_path: Path) -> None:
    show = Show(tmp_path / "vnc", connections=2)
    viewers = [show.viewer(RAW) for _ in range(2)]
    with pytest.raises((AssertionError, OSError)):
        show.viewer(RAW).update()
    for viewer in viewers:
        viewer.update()
    show.close()


def test_events_and_queries_tell_who_looks(tmp_path: Path) -> None:
    show = Show(tmp_path / "vnc", "127.0.0.1:0", to=99)
    assert show.server.servers() == [{"host": "127.0.0.1", "service": str(show.server.port),
                                      "family": "ipv4", "websocket": False, "auth": "none"}]
    sock = socket.create_connection(("127.0.0.1", show.server.port))
    viewer = RfbClient(sock, RAW)
    viewer.update()
    peer, = (client.peer for client in show.server.clients)
    assert peer["service"] == str(sock.getsockname()[1])
    viewer.close()
    show.wait_for(lambda: len(show.events) == 3)
    assert show.events == ["VNC_CONNECTED", "VNC_INITIALIZED", "VNC_DISCONNECTED"]
    show.close()


def server_at(address: str, **settings: int) -> VncServer:
    loop = asyncio.new_event_loop()
    console = Console(threading.RLock(), None, None)  # type: ignore[arg-type]
    return VncServer(loop, console, "", VncSettings(address, **settings))  # type: ignore[arg-type]


def test_an_address_that_cant_be_is_named(tmp_path: Path) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    number = taken.getsockname()[1] - 5900
    for address, message in (
        ("unix:/nowhere/x", "Failed to bind socket to /nowhere/x: No such file or directory"),
        (":x", "can't convert to a number: x"),
        (":70000", "port 70000 out of range"),
        ("192.0.2.1:3", "Failed to bind socket: Cannot assign requested address"),
        ("nohost.invalid:1", "address resolution failed for nohost.invalid:5901: "),
        (f"127.0.0.1:{number}", "Failed to find an available port: Address already in use"),
    ):
        server = server_at(address)
        with pytest.raises(VncError, match=message):
            server.listen()
        server._loop.close()
    taken.close()


def test_the_next_display_is_taken_up_to_a_last_one() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    number = taken.getsockname()[1] - 5900
    server = server_at(f"127.0.0.1:{number}", to=number + 50)
    server.listen()
    assert taken.getsockname()[1] < server.port <= taken.getsockname()[1] + 50
    server.close()
    server._loop.close()
    taken.close()


def test_a_name_with_two_families_listens_at_both() -> None:
    server = server_at(":0", to=200)
    server.listen()
    families = [row["family"] for row in server.servers()]
    assert families in (["ipv4"], ["ipv4", "ipv6"])
    assert len({row["service"] for row in server.servers()}) == 1
    server.close()
    server._loop.close()


def test_the_socket_file_goes_when_the_server_does(tmp_path: Path) -> None:
    server = server_at(f"unix:{tmp_path}/s")
    server.listen()
    assert (tmp_path / "s").exists()
    server.close()
    assert not (tmp_path / "s").exists()
    server._loop.close()
