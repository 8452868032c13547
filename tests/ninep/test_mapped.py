"""The mapped models: what the client sees, and what lies on the host."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ninep.client import Client, client_of, local
from pytcg.ninep.local.mapped import Mapped, MappedFile, MappedXattr
from pytcg.ninep.wire import Kind

MODELS: dict[str, type[Mapped]] = {"xattr": MappedXattr, "file": MappedFile}
SETATTR = "dddddqqqqq"


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> type[Mapped]:
    return MODELS[request.param]


@pytest.fixture
def client(tmp_path: Path, model: type[Mapped]) -> Client:
    return client_of(local(tmp_path, model()))


def test_owners_and_permissions_are_the_clients_alone(client: Client, tmp_path: Path) -> None:
    fid = client.create("a", b"x", 0o6755)
    client.ask(Kind.SETATTR, SETATTR, fid, 2 | 4, 0, 123, 456, 0, 0, 0, 0, 0)
    found, host = client.stat("a"), (tmp_path / "a").stat()
    assert (found["mode"], found["uid"], found["gid"]) == (0o106755, 123, 456)
    assert (host.st_mode, host.st_uid) == (0o100600, os.getuid())
    client.ask(Kind.SETATTR, SETATTR, client.walk("a"), 1, 0o100444, 0, 0, 0, 0, 0, 0, 0)
    assert client.stat("a")["mode"] == 0o100444
    client.ask(Kind.LOPEN, "dd", client.walk("a"), os.O_RDWR)  # the client's kernel decides
    assert client.ask(Kind.GETATTR, "dq", fid, 0)[2:4] == [0o100444, 123]
    client.ask(Kind.MKDIR, "dsdd", 0, b"d", 0o1777, 9)
    assert client.stat("d")["mode"] == 0o041777 and client.stat("d")["gid"] == 9
    assert (tmp_path / "d").stat().st_mode == 0o040700
    client.ask(Kind.SETATTR, SETATTR, 0, 1 | 2, 0o700, 55, 0, 0, 0, 0, 0, 0)
    assert (client.stat("")["mode"], client.stat("")["uid"]) == (0o040700, 55)


def test_special_files_are_plain_files_on_the_host(client: Client, tmp_path: Path) -> None:
    device = os.makedev(8, 300)
    client.ask(Kind.MKNOD, "dsdddd", 0, b"b", stat.S_IFBLK | 0o640, 8, 300, 6)
    client.ask(Kind.MKNOD, "dsdddd", 0, b"p", stat.S_IFIFO | 0o600, 0, 0, 0)
    client.ask(Kind.SYMLINK, "dssd", 0, b"s", b"/etc/passwd", 0)
    assert (client.stat("b")["mode"], client.stat("b")["rdev"]) == (stat.S_IFBLK | 0o640, device)
    assert client.stat("p")["mode"] == stat.S_IFIFO | 0o600
    assert client.stat("s")["mode"] == stat.S_IFLNK | 0o777
    assert client.ask(Kind.READLINK, "d", client.walk("s")) == [b"/etc/passwd"]
    assert (tmp_path / "s").read_bytes() == b"/etc/passwd"
    assert all(stat.S_ISREG((tmp_path / name).lstat().st_mode) for name in "bps")
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        client.ask(Kind.READLINK, "d", client.walk("p"))


def test_what_is_kept_follows_the_names(client: Client, tmp_path: Path) -> None:
    client.create("a", mode=0o604)
    client.create("b", mode=0o602)
    client.ask(Kind.MKDIR, "dsdd", 0, b"d", 0o711, 0)
    client.ask(Kind.LINK, "dds", 0, client.walk("a"), b"l")
    client.ask(Kind.SETATTR, SETATTR, client.walk("l"), 1, 0o614, 0, 0, 0, 0, 0, 0, 0)
    assert client.stat("a")["mode"] == client.stat("l")["mode"] == 0o100614
    client.ask(Kind.RENAMEAT, "dsds", 0, b"a", client.walk("d"), b"x")
    assert client.stat("d/x")["mode"] == 0o100614
    client.ask(Kind.RENAMEAT, "dsds", client.walk("d"), b"x", 0, b"b")
    assert client.stat("b")["mode"] == 0o100614
    client.ask(Kind.RENAMEAT, "dsds", 0, b"d", 0, b"e")
    assert client.stat("e")["mode"] == 0o040711
    client.ask(Kind.UNLINKAT, "dsd", 0, b"b", 0)
    (tmp_path / "b").touch(0o640)
    (tmp_path / "b").chmod(0o640)
    assert client.stat("b")["mode"] == 0o100640  # another file, made on the host
    client.ask(Kind.UNLINKAT, "dsd", 0, b"e", 0x200)
    assert not (tmp_path / "e").exists()


def test_the_hidden_stays_hidden(client: Client, tmp_path: Path, model: type[Mapped]) -> None:
    client.create("a")
    assert sorted(client.names("")) == [b".", b"..", b"a"]
    assert client.ask(Kind.XATTRWALK, "dds", client.walk("a"), 900, b"") == [0]
    if model is MappedFile:
        for name in (b".virtfs_metadata", b".virtfs_metadata_root"):
            with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
                client.walk([name])
            with pytest.raises(OSError):
                client.ask(Kind.MKDIR, "dsdd", 0, name, 0o700, 0)
        return
    fid = client.walk("a")
    client.ask(Kind.XATTRCREATE, "dsqd", fid, b"user.virtfs.uid", 4, 0)
    client.ask(Kind.WRITE, "dqD", fid, 0, b"1234")
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        client.clunk(fid)
    fid = client.walk("a")
    client.ask(Kind.XATTRCREATE, "dsqd", fid, b"system.posix_acl_access", 4, 0)
    client.ask(Kind.WRITE, "dqD", fid, 0, b"1234")
    client.clunk(fid)
    assert os.getxattr(tmp_path / "a", "user.virtfs.system.posix_acl_access") == b"1234"
    assert client.ask(Kind.XATTRWALK, "dds", client.walk("a"), 901, b"") == [24]
    assert client.read(901) == b"system.posix_acl_access\0"


def test_permissions_on_the_host_are_as_asked_for(tmp_path: Path, model: type[Mapped]) -> None:
    client = client_of(local(tmp_path, model(0o640, 0o750)))
    client.create("a", mode=0o777)
    client.ask(Kind.MKDIR, "dsdd", 0, b"d", 0o777, 0)
    assert (tmp_path / "a").stat().st_mode == 0o100640
    assert (tmp_path / "d").stat().st_mode == 0o040750


def test_attributes_have_qemus_form(tmp_path: Path) -> None:
    client = client_of(local(tmp_path, MappedXattr()))
    client.create("a", mode=0o621)
    assert os.getxattr(tmp_path / "a", "user.virtfs.mode") == (0o100621).to_bytes(4, "little")
    (tmp_path / "f").mkdir()
    client = client_of(local(tmp_path / "f", MappedFile()))
    client.create("a", mode=0o621)
    kept = (tmp_path / "f" / ".virtfs_metadata" / "a").read_text()
    assert f"virtfs.mode={0o100621}\n" in kept and f"virtfs.uid={os.getuid()}\n" in kept
    os.rename(tmp_path / "f" / "a", tmp_path / "f" / "b")
    assert client.stat("b")["mode"] == 0o100600


def test_damaged_attributes_are_none(client: Client, tmp_path: Path, model: type[Mapped]) -> None:
    client.create("a", mode=0o621)
    if model is MappedXattr:
        os.setxattr(tmp_path / "a", "user.virtfs.mode", b"123")
        os.setxattr(tmp_path / "a", "user.virtfs.uid", b"")
    else:
        junk = b"virtfs.mode=99999999999999\nvirtfs.uid=-5\nx\n\xff=\xff\nvirtfs.gid="
        (tmp_path / ".virtfs_metadata" / "a").write_bytes(junk)
    assert client.stat("a")["mode"] == 0o100600
    folder = (stat.S_IFDIR | 0o755).to_bytes(4, "little")
    if model is MappedXattr:
        os.setxattr(tmp_path / "a", "user.virtfs.mode", folder)
    else:
        (tmp_path / ".virtfs_metadata" / "a").write_text(f"virtfs.mode={stat.S_IFDIR | 0o755}\n")
    assert client.stat("a")["mode"] == 0o100755
