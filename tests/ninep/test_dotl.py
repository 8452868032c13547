"""9P2000.L on a folder: what a client does is done there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ninep.client import Client, client_of, local
from ninep.helpers import QEMU_HELPER, helper, helper_thread
from pytcg.ninep.proxy.folder import ProxyFolder
from pytcg.ninep.wire import NO_FID, Kind

AT_REMOVEDIR = 0x200


@pytest.fixture(params=["local", "proxy", "qemu"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client]:
    """Of a folder of ours, and of one behind our helper or QEMU's."""
    if request.param == "local":
        yield client_of(local(tmp_path))
        return
    serve = helper(tmp_path, QEMU_HELPER) if request.param == "qemu" else helper_thread(tmp_path)
    with serve as connection:
        yield client_of(ProxyFolder(connection))


def fails(number: int) -> pytest.RaisesContext[OSError]:
    return pytest.raises(OSError, match=os.strerror(number))


def test_files_are_made_written_and_read(client: Client, tmp_path: Path) -> None:
    fid = client.create("a", b"hello")
    assert (tmp_path / "a").read_bytes() == b"hello"
    assert client.read(fid) == b"hello" and client.read(fid, 2, 3) == b"lo"
    client.ask(Kind.FSYNC, "dd", fid, 1)
    client.clunk(fid)
    with fails(errno.EBADF):
        client.read(fid)
    client.open("a", os.O_RDWR | os.O_TRUNC)
    assert (tmp_path / "a").read_bytes() == b""
    found = client.stat("a")
    assert stat.S_IMODE(found["mode"]) == 0o644 and found["size"] == 0


def test_folders_hold_names(client: Client, tmp_path: Path) -> None:
    client.ask(Kind.MKDIR, "dsdd", 0, b"d", 0o755, os.getgid())
    names = {f"name-{number:04}" for number in range(500)}
    for name in names:
        (tmp_path / "d" / name).touch()
    found = [name.decode() for name in client.names("d", 300)]
    assert len(found) == 502 and set(found) == names | {".", ".."}
    with fails(errno.ENOTEMPTY):
        client.ask(Kind.UNLINKAT, "dsd", 0, b"d", AT_REMOVEDIR)
    with fails(errno.EISDIR):
        client.ask(Kind.UNLINKAT, "dsd", 0, b"d", 0)


def test_names_removed_while_a_folder_is_read_hide_no_others(client: Client, tmp_path: Path
                                                             ) -> None:  # fmt: skip
    for number in range(100):
        (tmp_path / str(number)).touch()
    fid, seen, offset = client.open(""), 0, 0
    while True:
        (data,) = client.ask(Kind.READDIR, "dqd", fid, offset, 200)
        if not data:
            break
        at = 0
        while at < len(data):
            offset = int.from_bytes(data[at + 13 : at + 21], "little")
            length = int.from_bytes(data[at + 22 : at + 24], "little")
            name = data[at + 24 : at + 24 + length]
            at += 24 + length
            if not name.startswith(b"."):
                seen += 1
                client.ask(Kind.UNLINKAT, "dsd", 0, name, 0)
    assert seen == 100 and not list(tmp_path.iterdir())


def test_renames_take_fids_along(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_text("data")
    deep = client.walk("d/e/f")
    client.ask(Kind.RENAMEAT, "dsds", 0, b"d", 0, b"x")
    client.ask(Kind.LOPEN, "dd", deep, 0)
    assert client.read(deep) == b"data"
    folder = client.walk("x/e")
    client.ask(Kind.RENAME, "dds", folder, 0, b"y")
    assert client.read(client.open("y/f")) == b"data"
    assert [path.name for path in (tmp_path / "x").iterdir()] == []
    other = client.walk("y/f")
    (tmp_path / "new").write_text("new")
    client.ask(Kind.RENAMEAT, "dsds", 0, b"new", client.walk("y"), b"f")
    with fails(errno.ENOENT):  # the file it named is gone, its name is another's
        client.ask(Kind.LOPEN, "dd", other, 0)


def test_open_files_outlive_their_names(client: Client, tmp_path: Path) -> None:
    fid = client.create("a", b"12345")
    client.ask(Kind.UNLINKAT, "dsd", 0, b"a", 0)
    assert client.read(fid) == b"12345"
    assert client.ask(Kind.GETATTR, "dq", fid, 0x7FF)[5] == 0
    client.ask(Kind.SETATTR, "dddddqqqqq", fid, 8 | 0x20 | 0x40, 0, 0, 0, 2, 0, 0, 0, 0)
    assert client.read(fid) == b"12"


def test_links_are_made_and_never_followed(client: Client, tmp_path: Path) -> None:
    client.create("a", b"x")
    client.ask(Kind.LINK, "dds", 0, client.walk("a"), b"b")
    assert client.stat("b")["nlink"] == 2
    client.ask(Kind.SYMLINK, "dssd", 0, b"s", b"/etc", os.getgid())
    assert client.ask(Kind.READLINK, "d", client.walk("s")) == [b"/etc"]
    with fails(errno.ELOOP):
        client.open("s")
    with pytest.raises(OSError):
        client.walk("s/passwd")


def test_attributes_change(client: Client, tmp_path: Path) -> None:
    fid = client.create("a", b"12345")
    client.ask(Kind.SETATTR, "dddddqqqqq", fid, 1 | 8, 0o100600, 0, 0, 3, 0, 0, 0, 0)
    assert client.stat("a")["mode"] == 0o100600 and client.stat("a")["size"] == 3
    client.ask(Kind.SETATTR, "dddddqqqqq", fid, 0x1B0, 0, 0, 0, 0, 5, 6, (1 << 64) - 7, 8)
    found = os.stat(tmp_path / "a")
    assert (found.st_atime_ns, found.st_mtime_ns) == (5_000_000_006, -6_999_999_992)
    assert client.stat("a")["mtime"] == (1 << 64) - 7
    before = client.stat("a")["ctime"]
    client.ask(Kind.SETATTR, "dddddqqqqq", fid, 0x30, 0, 0, 0, 0, 0, 0, 0, 0)
    assert client.stat("a")["atime"] >= before - 1


def test_special_files_are_never_opened(client: Client, tmp_path: Path) -> None:
    client.ask(Kind.MKNOD, "dsdddd", 0, b"p", stat.S_IFIFO | 0o600, 0, 0, os.getgid())
    assert stat.S_ISFIFO(client.stat("p")["mode"])
    with fails(errno.ENXIO):
        client.open("p")


def test_extended_attributes(client: Client, tmp_path: Path) -> None:
    client.create("a")
    fid = client.walk("a")
    client.ask(Kind.XATTRCREATE, "dsqd", fid, b"user.x", 5, 0)
    client.ask(Kind.WRITE, "dqD", fid, 0, b"val")
    client.ask(Kind.WRITE, "dqD", fid, 3, b"ue")
    client.clunk(fid)
    assert os.getxattr(tmp_path / "a", "user.x") == b"value"
    assert client.ask(Kind.XATTRWALK, "dds", client.walk("a"), 500, b"user.x") == [5]
    assert client.read(500, offset=1) == b"alue"
    assert client.ask(Kind.XATTRWALK, "dds", client.walk("a"), 501, b"") == [7]
    assert client.read(501) == b"user.x\0"
    with pytest.raises(OSError) as failed:  # a helper serves all, and this isn't there
        client.ask(Kind.XATTRWALK, "dds", client.walk("a"), 502, b"trusted.x")
    assert failed.value.errno in (errno.EOPNOTSUPP, errno.ENODATA)
    fid = client.walk("a")
    client.ask(Kind.XATTRCREATE, "dsqd", fid, b"user.x", 0, 0)
    client.clunk(fid)
    assert not os.listxattr(tmp_path / "a")
    fid = client.walk("a")
    client.ask(Kind.XATTRCREATE, "dsqd", fid, b"user.x", 5, 0)
    with fails(errno.EINVAL):
        client.clunk(fid)
    with fails(errno.E2BIG):
        client.ask(Kind.XATTRCREATE, "dsqd", client.walk("a"), b"user.x", 1 << 40, 0)


def test_walks_stop_at_the_root_and_at_what_is_not_there(client: Client, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    root = client.ask(Kind.GETATTR, "dq", 0, 0)[1]
    assert client.ask(Kind.WALK, "ddS", 0, 9, [b"..", b"..", b"d", b".."])[0][-1] == root
    (qids,) = client.ask(Kind.WALK, "ddS", 0, 10, [b"d", b"nope", b"d"])
    assert len(qids) == 1
    with fails(errno.EBADF):
        client.clunk(10)
    for names in ([b"nope"], [b"d/../.."], [b""], [b"/etc"]):
        with fails(errno.ENOENT):
            client.walk(names)
    with fails(errno.EINVAL):
        client.walk([b"."] * 17)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"../x", b"/x"])
def test_names_that_are_none_make_nothing(client: Client, tmp_path: Path, name: bytes) -> None:
    (tmp_path / "f").touch()
    fid = client.walk("f")
    for kind, fields, values in (
        (Kind.LCREATE, "dsddd", (0, name, os.O_RDWR, 0o600, 0)),
        (Kind.MKDIR, "dsdd", (0, name, 0o700, 0)),
        (Kind.SYMLINK, "dssd", (0, name, b"x", 0)),
        (Kind.MKNOD, "dsdddd", (0, name, stat.S_IFREG, 0, 0, 0)),
        (Kind.LINK, "dds", (0, fid, name)),
        (Kind.RENAMEAT, "dsds", (0, b"f", 0, name)),
        (Kind.UNLINKAT, "dsd", (0, name, 0)),
    ):
        with pytest.raises(OSError):
            client.ask(kind, fields, *values)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_read_only_export_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("data")
    client = client_of(local(tmp_path, read_only=True))
    assert client.read(client.open("f")) == b"data"
    fid = client.walk("f")
    for kind, fields, values in (
        (Kind.LOPEN, "dd", (fid, os.O_RDWR)),
        (Kind.LOPEN, "dd", (fid, os.O_TRUNC)),
        (Kind.LCREATE, "dsddd", (0, b"x", os.O_RDWR, 0o600, 0)),
        (Kind.MKDIR, "dsdd", (0, b"x", 0o700, 0)),
        (Kind.SYMLINK, "dssd", (0, b"x", b"x", 0)),
        (Kind.MKNOD, "dsdddd", (0, b"x", stat.S_IFREG, 0, 0, 0)),
        (Kind.LINK, "dds", (0, fid, b"x")),
        (Kind.RENAMEAT, "dsds", (0, b"f", 0, b"x")),
        (Kind.UNLINKAT, "dsd", (0, b"f", 0)),
        (Kind.SETATTR, "dddddqqqqq", (fid, 1, 0, 0, 0, 0, 0, 0, 0, 0)),
        (Kind.XATTRCREATE, "dsqd", (fid, b"user.x", 1, 0)),
        (Kind.REMOVE, "d", (fid,)),
    ):
        with fails(errno.EROFS):
            client.ask(kind, fields, *values)
    assert (tmp_path / "f").read_text() == "data"


def test_locks_are_granted_and_figures_told(client: Client, tmp_path: Path) -> None:
    fid = client.create("a")
    assert client.ask(Kind.LOCK, "dbdqqds", fid, 1, 1, 0, 0, 5, b"me") == [0]
    assert client.ask(Kind.GETLOCK, "dbqqds", fid, 1, 0, 9, 5, b"me") == [2, 0, 9, 5, b"me"]
    told, real = client.ask(Kind.STATFS, "d", fid), os.statvfs(tmp_path)
    assert (told[1], told[2], told[8]) == (real.f_bsize, real.f_blocks, real.f_namemax)


def test_versions_and_unknown_requests(client: Client) -> None:
    assert client.ask(Kind.VERSION, "ds", 8192, b"9P2000.X") == [8192, b"unknown"]
    with fails(errno.EOPNOTSUPP):
        client.ask(Kind.GETATTR, "dq", 0, 0)  # nothing is agreed on
    with fails(errno.EMSGSIZE):
        client.ask(Kind.VERSION, "ds", 100, b"9P2000.L")
    client.ask(Kind.VERSION, "ds", 8192, b"9P2000.L")
    with fails(errno.EBADF):
        client.ask(Kind.GETATTR, "dq", 0, 0)
    with fails(errno.EOPNOTSUPP):
        client.ask(Kind.AUTH, "dssd", 5, b"", b"", 0)
    with fails(errno.EINVAL):
        client.ask(Kind.ATTACH, "ddssd", 0, 5, b"", b"", 0)
    client.ask(Kind.ATTACH, "ddssd", 0, NO_FID, b"", b"", 0)
    with fails(errno.EBADF):
        client.ask(Kind.ATTACH, "ddssd", 0, NO_FID, b"", b"", 0)
