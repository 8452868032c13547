"""The proxy's two ends when the other one is not as it should be, and the helper's command line."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ninep.client import client_of
from ninep.helpers import OUR_HELPER, SOURCES, helper, helper_thread
from pytcg.cli.virtfs.main import main
from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.model import Trusted
from pytcg.ninep.proxy.folder import ProxyFolder, connect
from pytcg.ninep.proxy.helper import Helper
from pytcg.ninep.proxy.protocol import FIELDS, HEADER, STAT, Request, receive_message
from pytcg.ninep.wire import Kind, pack, unpack


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("", "socket, socket descriptor or path not specified"),
        ("-p /tmp", "socket, socket descriptor or path not specified"),
        ("-p /tmp -s x -f 5", "both named socket and socket descriptor specified"),
        ("-p /tmp -s x", "owner uid:gid not specified"),
        ("-p /nope -f 5", 'invalid path "/nope" specified, No such file or directory'),
        ("-p /etc/passwd -f 5", 'specified path "/etc/passwd" is not directory'),
        ("-p /tmp -f 77", "descriptor 77: Bad file descriptor"),
        ("-p /tmp -f 1", "descriptor 1 is not a socket"),
        ("-p /tmp -f x", "-f: 'x' is not a number"),
        ("-p /tmp -s /nope/x -u 0 -g 0", "/nope/x: No such file or directory"),
        ("-p /tmp -s /tmp -u 0 -g 0", "socket already exists"),
        ("-z", "-z"),
        ("-p", "-p"),
        ("x", "unexpected argument 'x'"),
    ],
)
def test_command_lines_that_are_wrong(options: str, said: str,
                                      capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(options.split()) == 1
    told = capsys.readouterr().err
    assert told.startswith("pytcg-virtfs-proxy-helper: ") and said in told
    assert told.count("\n") == 1


def test_a_socket_by_name(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    name = tmp_path / "socket"
    owner = ["-u", str(os.getuid()), "-g", str(os.getgid())]
    command = [*OUR_HELPER, "-p", str(tmp_path / "shared"), "-s", str(name), *owner, "-n"]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SOURCES})
    while not name.exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    connection = connect(str(name))
    assert not name.exists()
    with connection:
        client_of(ProxyFolder(connection)).create("a", b"data")
    assert process.wait(20) == 0
    assert (tmp_path / "shared" / "a").read_bytes() == b"data"


def test_strings_may_end_in_a_zero_as_qemus_do(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(99))
    with helper_thread(tmp_path) as connection:
        for path in (b"/a", b"/a\0", b"//a\0"):
            body = pack("s", (path,))
            connection.sendall(HEADER.pack(Request.LSTAT, len(body)) + body)
            kind, reply = receive_message(connection)
            assert (kind, unpack(STAT, reply)[7]) == (0, 99)


def test_a_read_only_helper(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("data")
    with helper(tmp_path, OUR_HELPER, "-r") as connection:
        client = client_of(ProxyFolder(connection))
        assert client.read(client.open("a")) == b"data"
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            client.open("a", os.O_RDWR)
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            client.create("b")
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            client.ask(Kind.UNLINKAT, "dsd", 0, b"a", 0)


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"\0", struct.pack("<LL", 0, 1 << 30), struct.pack("<LLL", 0, 4, 7),
        struct.pack("<LL", 1, 0), struct.pack("<LLl", 1, 4, -5), struct.pack("<LL", 0, 100),
    ],
)  # fmt: skip
def test_a_helper_that_answers_junk_is_an_error(reply: bytes) -> None:
    ours, theirs = socket.socketpair()
    backend = ProxyFolder(ours)
    theirs.sendall(reply)
    theirs.shutdown(socket.SHUT_WR)
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            backend.lstat(b"x")
    with pytest.raises(OSError):
        backend.open(b"x", 0)
    theirs.close()
    ours.close()


def test_a_helper_that_is_killed_leaves_errors(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: theirs.close())
    client = ProxyFolder(ours)
    thread.start()
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        client.lstat(b"")
    thread.join()


def test_emulators_that_send_junk_reach_nothing(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    shared = tmp_path / "shared"
    shared.mkdir()
    os.symlink("../outside", shared / "link")
    folder = LocalFolder(Root(str(shared)), Trusted())
    rng = random.Random(3)

    def serve(connection: socket.socket) -> None:
        with connection:
            Helper(folder).serve(connection)

    paths = [b"/a", b"/../outside", b"../outside", b"/link", b"", b"/", b"//b", b"/c/../..",
             str(tmp_path / "outside").encode(), b"/link/x", b"user.x"]  # fmt: skip
    for _ in range(40):
        ours, theirs = socket.socketpair()
        server = threading.Thread(target=serve, args=(theirs,))
        server.start()
        for _ in range(40):
            kind = rng.choice(list(Request))
            numbers = (0, 1, 2, 4, 0o600, 0o100600, 0xFFFFFFFF)
            values = [rng.choice(paths if letter in "sR" else numbers) for letter in FIELDS[kind]]
            body = pack(FIELDS[kind].replace("R", "s"), values)
            if rng.random() < 0.1:
                body = body[: rng.randrange(len(body))]
            ours.sendall(HEADER.pack(kind, len(body)) + body)
        ours.sendall(rng.randbytes(rng.randrange(30)))
        ours.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):  # it didn't care for the rest
            while ours.recv(65536):
                pass
        server.join(10)
        assert not server.is_alive()
        ours.close()
    assert (tmp_path / "outside").read_text() == "secret"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "shared"]
