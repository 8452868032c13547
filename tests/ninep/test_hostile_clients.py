"""Clients and hosts that mean ill: nothing outside the folder is reached, and the server lives."""

from __future__ import annotations

import errno
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ninep.client import Client, client_of, local
from pytcg.ninep.dotl import DOTL
from pytcg.ninep.dotu import DOTU
from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.mapped import MappedFile, MappedXattr
from pytcg.ninep.local.model import Passthrough
from pytcg.ninep.qids import Qids
from pytcg.ninep.session import Session
from pytcg.ninep.wire import HEADER, Kind, message, pack, unpack

Serve = Callable[[bytes], bytes]
NAMES = (b"a", b"d", b"e", b"", b".", b"..", b"../x", b"/etc/passwd", b"s", b"x" * 300, b"out",
         b"user.x", b"system.posix_acl_access", b".virtfs_metadata", b"\xff\xfe")  # fmt: skip
NUMBERS = (0, 1, 2, 3, 4, 7, 0o644, 4096, 0xFFFF, 0xFFFFFFFF, 1 << 31)
LARGE = (*NUMBERS, 1 << 63, (1 << 64) - 1, (1 << 63) - 1)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the shared one, with a secret."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "shared").mkdir()
    return tmp_path / "outside"


@contextmanager
def swapping(path: Path, target: Path) -> Iterator[None]:
    """Someone makes a folder a link out of the share and back, all the time."""
    stop, other, link = threading.Event(), path.with_name("other"), path.with_name("link")
    os.symlink(target, link)

    def swap() -> None:
        while not stop.is_set():
            os.rename(path, other)
            os.rename(link, path)
            os.rename(path, link)
            os.rename(other, path)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("has_openat2", [True, False])
def test_no_race_leads_out(outside: Path, has_openat2: bool) -> None:
    shared = outside.with_name("shared")
    (shared / "d" / "e").mkdir(parents=True)
    (outside / "e").mkdir()
    (outside / "e" / "secret").write_text("secret")
    backend = LocalFolder(Root(str(shared), has_openat2=has_openat2), Passthrough(strict=False))
    client = client_of(backend)
    deep, above = client.walk("d/e"), client.walk("d")
    made, last = False, time.monotonic() + 30
    with swapping(shared / "d", outside):
        for turn in itertools.count():
            if turn >= 300 and (made or time.monotonic() > last):
                break  # the folder was also met in its place
            name = b"n%d" % turn
            for folder in (deep, above):
                with suppress(OSError):
                    client.ask(Kind.MKDIR, "dsdd", folder, name, 0o700, 0)
                    made = made or folder == above
                with suppress(OSError):
                    client.ask(Kind.WALK, "ddS", folder, 1000 + turn, [b"secret"])
                    pytest.fail("it was seen")
                with suppress(OSError):
                    client.ask(Kind.UNLINKAT, "dsd", folder, b"secret", 0)
    assert sorted(path.name for path in outside.iterdir()) == ["e", "secret"]
    assert [path.name for path in (outside / "e").iterdir()] == ["secret"]
    assert any(path.name.startswith("n") for path in (shared / "d").iterdir())


@pytest.mark.parametrize("has_openat2", [True, False])
def test_links_and_moved_folders_lead_nowhere(outside: Path, has_openat2: bool) -> None:
    shared = outside.with_name("shared")
    (shared / "d").mkdir()
    os.symlink("../outside", shared / "out")
    os.symlink(outside / "secret", shared / "s")
    client = client_of(LocalFolder(Root(str(shared), has_openat2=has_openat2),
                                   Passthrough(strict=False)))  # fmt: skip
    with pytest.raises(OSError):
        client.walk("out/secret")
    link = client.walk("out")
    for kind, fields, values in (
        (Kind.MKDIR, "dsdd", (link, b"x", 0o700, 0)),
        (Kind.LCREATE, "dsddd", (link, b"x", 2, 0o700, 0)),
        (Kind.UNLINKAT, "dsd", (link, b"secret", 0)),
        (Kind.LOPEN, "dd", (link, 0)),
    ):
        with pytest.raises(OSError):
            client.ask(kind, fields, *values)
    fid = client.walk("s")
    for valid in (1, 8):  # mode, size: of what it leads to
        with pytest.raises(OSError):
            client.ask(Kind.SETATTR, "dddddqqqqq", fid, valid, 0o777, 0, 0, 0, 0, 0, 0, 0)
    with pytest.raises(OSError):
        client.ask(Kind.LOPEN, "dd", fid, os.O_WRONLY | os.O_TRUNC)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        client.ask(Kind.LCREATE, "dsddd", 0, b"s", os.O_RDWR, 0o600, 0)
    moved = client.walk("d")
    os.rename(shared / "d", outside / "d")
    with pytest.raises(OSError):
        client.ask(Kind.MKDIR, "dsdd", moved, b"x", 0o700, 0)
    assert (outside / "secret").read_text() == "secret"


def build(kind: Kind, fields: str, rng: random.Random) -> bytes:
    values: list[object] = []
    for letter in fields:
        if letter in "sRD":
            values.append(rng.choice(NAMES))
        elif letter == "S":
            values.append([rng.choice(NAMES) for _ in range(rng.randrange(20))])
        else:
            bits = {"b": 8, "h": 16, "d": 32, "q": 64}[letter]
            values.append(rng.choice(LARGE) & (1 << bits) - 1)
    return message(kind, rng.choice((0, 1, 0xFFFF)), pack(fields.replace("R", "s"), values))


@pytest.mark.parametrize("dialect", [DOTL, DOTU], ids=["L", "u"])
@pytest.mark.parametrize("model", [lambda: Passthrough(strict=False), MappedXattr, MappedFile],
                         ids=["none", "xattr", "file"])  # fmt: skip
def test_random_messages_get_replies(outside: Path, dialect: object,
                                     model: Callable[[], Passthrough]) -> None:  # fmt: skip
    shared = outside.with_name("shared")
    (shared / "d").mkdir()
    os.symlink("../outside", shared / "out")
    os.symlink(outside / "secret", shared / "s")
    before = sorted((path, path.lstat().st_mode, path.lstat().st_ctime_ns)
                    for path in (outside, *outside.iterdir()))  # fmt: skip
    assert dialect in (DOTL, DOTU)
    session = Session(local(shared, model()), Qids("remap"), (DOTL, DOTU))
    table = (DOTL if dialect is DOTL else DOTU).handlers
    version = message(Kind.VERSION, 0xFFFF, pack("ds", (8192, b"9P2000.L" if dialect is DOTL
                                                        else b"9P2000.u")))  # fmt: skip
    attach = [message(Kind.ATTACH, 0, pack("ddssd", (fid, 0xFFFFFFFF, b"", b"", 0)))
              for fid in range(4)]  # fmt: skip
    rng = random.Random(9)
    for turn in range(4000):
        if turn % 200 == 0:
            for request in (version, *attach):
                session.handle(request)
        kind = rng.choice(list(table))
        request = bytearray(build(Kind(kind), table[kind].request, rng))
        if rng.random() < 0.2:
            request[rng.randrange(4, len(request))] = rng.randrange(256)
        if rng.random() < 0.1:
            del request[rng.randrange(7, len(request)) :]
            request[:4] = len(request).to_bytes(4, "little")
        reply = session.handle(bytes(request))
        size, answered, tag = HEADER.unpack_from(reply)
        assert size == len(reply) <= 8192 and tag == int.from_bytes(request[5:7], "little")
        assert answered in (request[4] + 1, 7, 107)
    after = sorted((path, path.lstat().st_mode, path.lstat().st_ctime_ns)
                   for path in (outside, *outside.iterdir()))  # fmt: skip
    assert before == after and (outside / "secret").read_text() == "secret"
    assert not {path.name for path in shared.parent.iterdir()} - {"outside", "shared"}


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    rng = random.Random(4)
    session = Session(local(tmp_path), Qids(), (DOTL, DOTU))
    for _ in range(3000):
        request = bytearray(rng.randbytes(rng.randrange(7, 60)))
        if rng.random() < 0.7:
            request[:4] = len(request).to_bytes(4, "little")
        reply = session.handle(bytes(request))
        assert len(reply) == int.from_bytes(reply[:4], "little")


def test_fields_are_packed_as_they_are_unpacked() -> None:
    rng = random.Random(5)
    for _ in range(500):
        fields = "".join(rng.choice("bhdqsSDR") for _ in range(rng.randrange(8)))
        request = build(Kind.WALK, fields, rng)
        values = unpack(fields, request, HEADER.size)
        assert pack(fields.replace("R", "s"), values) == request[HEADER.size :]
        body = range(HEADER.size, len(request))
        for cut in rng.sample(body, min(3, len(body))):
            with pytest.raises(OSError):
                unpack(fields, request[:cut], HEADER.size)


def test_fids_and_renames_from_many_threads(tmp_path: Path) -> None:
    """Folders change places while others work below them: what they do arrives where it should."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own").write_text(name)
    session = Session(local(tmp_path), Qids(), (DOTL,))
    first = Client(session.handle)
    folders = {name: first.walk(name) for name in ("a", "b")}
    wrong: list[object] = []
    stop = threading.Event()

    def work(number: int) -> None:
        fid = 10_000 * (number + 1)
        while not stop.is_set():
            for name, folder in folders.items():
                fid += 1
                try:
                    first.ask(Kind.WALK, "ddS", folder, fid, [b"own"], tag=number)
                    first.ask(Kind.LOPEN, "dd", fid, 0, tag=number)
                    (data,) = first.ask(Kind.READ, "dqd", fid, 0, 9, tag=number)
                    if data != name.encode():
                        wrong.append((name, data))
                    first.ask(Kind.CLUNK, "d", fid, tag=number)
                except OSError as failure:
                    wrong.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        for old, new in ((b"a", b"c"), (b"b", b"a"), (b"c", b"b"), (b"a", b"c"), (b"b", b"a"),
                         (b"c", b"b")):  # fmt: skip
            first.ask(Kind.RENAMEAT, "dsds", 0, old, 0, new, tag=99)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
