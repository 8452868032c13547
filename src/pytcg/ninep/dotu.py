"""9P2000.u: Plan 9's protocol with what Unix adds (ericvh.github.io/9p-rfc/rfc9p2000.u.html)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from pytcg.ninep import common
from pytcg.ninep.backend import Backend, Owner, Stat
from pytcg.ninep.common import device, rename
from pytcg.ninep.fids import Fid, File, Folder, error
from pytcg.ninep.session import Dialect, Session, Table, plain_name, text_of
from pytcg.ninep.tree import join
from pytcg.ninep.wire import Kind, Qid, message, pack, unpack

TABLE: Final = Table(common.TABLE)
SECOND: Final = 1_000_000_000
ACCESS: Final = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY)  # the last one is to execute
TRUNCATE, REMOVE_ON_CLOSE, APPEND, EXCLUSIVE = 0x10, 0x40, 0x80, 0x1000
DMDIR, DMSYMLINK, DMLINK, DMDEVICE, DMNAMEDPIPE, DMSOCKET = (
    0x80000000, 0x02000000, 0x01000000, 0x00800000, 0x00200000, 0x00100000,
)  # fmt: skip
SPECIAL: Final = {  # permission bits that Plan 9 has elsewhere
    stat.S_ISUID: 0x00080000, stat.S_ISGID: 0x00040000, stat.S_ISVTX: 0x00010000,
}  # fmt: skip
KINDS: Final = {
    stat.S_IFDIR: DMDIR, stat.S_IFLNK: DMSYMLINK, stat.S_IFSOCK: DMSOCKET,
    stat.S_IFIFO: DMNAMEDPIPE, stat.S_IFCHR: DMDEVICE, stat.S_IFBLK: DMDEVICE,
}  # fmt: skip
KEEP_4, KEEP_8 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF  # "leave as it is" in Twstat
STAT: Final = "hdbdqdddqsssssddd"  # qid taken apart


# --- attributes --------------------------------------------------------------------------------


def _stat(session: Session, name: bytes, found: Stat, extension: bytes) -> bytes:
    """A stat structure with its size."""
    qid = session.qid(found)
    seconds = [time // SECOND & 0xFFFFFFFF for time in (found.atime, found.mtime)]
    length = 0 if stat.S_ISDIR(found.mode) or stat.S_ISLNK(found.mode) else found.size
    names = [b"%d" % owner for owner in (found.uid, found.gid)]
    body = pack(STAT, (0, 0, *qid, _mode(found.mode), *seconds, length, name, *names, b"",
                       extension, found.uid, found.gid, KEEP_4))  # fmt: skip
    return struct.pack("<H", len(body)) + body


def _mode(mode: int) -> int:
    made = mode & 0o777 | KINDS.get(stat.S_IFMT(mode), 0)
    for bit, ours in SPECIAL.items():
        made |= ours if mode & bit else 0
    return made


def _permissions(perm: int) -> int:
    mode = perm & 0o777
    for bit, ours in SPECIAL.items():
        mode |= bit if perm & ours else 0
    return mode


def _extension(backend: Backend, path: bytes, found: Stat) -> bytes:
    """Where a link leads, or which device it is."""
    if stat.S_ISLNK(found.mode):
        return backend.readlink(path)
    if stat.S_ISCHR(found.mode) or stat.S_ISBLK(found.mode):
        letter = b"c" if stat.S_ISCHR(found.mode) else b"b"
        return b"%s %d %d" % (letter, os.major(found.rdev), os.minor(found.rdev))
    return b""


@TABLE.serves(Kind.STAT, "d", "hs")
def stat_(session: Session, number: int) -> tuple[int, bytes]:
    """A fid's attributes: the structure, with its length in front once more."""
    fid = session.fids.get(number)
    with session.tree.shared():
        found = session.look(fid)
        path = fid.node.known_path
        extension = b"" if path is None else _extension(session.backend, path, found)
        made = _stat(session, fid.node.name or b"/", found, extension)
    return len(made), made[2:]


@TABLE.serves(Kind.WSTAT, "dR", "")
def wstat(session: Session, number: int, raw: bytes) -> tuple[()]:
    """Change what isn't "leave as it is"; nothing to change asks for fsync."""
    fid = session.fids.get(number)
    session.must_be_writable()
    (_, _, _, _, _, _, perm, atime, mtime, length, name, _, _, _, _, uid, gid, _) = unpack(
        "h" + STAT, raw)  # fmt: skip
    untouched = perm == atime == mtime == uid == gid == KEEP_4 and length == KEEP_8 and not name
    if untouched:
        if isinstance(fid.opened, File | Folder):
            fid.opened.file.sync(data_only=False)
        return ()
    with session.tree.shared():
        _change(session.backend, fid, perm, (atime, mtime), (uid, gid), length)
    if name and name != fid.node.name:
        if fid.node.parent is None:
            raise error(errno.EBUSY)
        rename(session, fid.node.parent, fid.node.name, fid.node.parent, plain_name(name))
    return ()


def _change(backend: Backend, fid: Fid, perm: int, times: tuple[int, int],
            owners: tuple[int, int], length: int) -> None:  # fmt: skip
    path = fid.node.path
    if length != KEEP_8:
        if length > common.LARGEST_OFFSET:
            raise error(errno.EINVAL)
        backend.truncate(path, length)
    if owners != (KEEP_4, KEEP_4):
        backend.chown(path, *(-1 if owner == KEEP_4 else owner for owner in owners))
    if perm != KEEP_4:
        if bool(perm & DMDIR) != stat.S_ISDIR(backend.lstat(path).mode):
            raise error(errno.EIO)
        backend.chmod(path, _permissions(perm))
    if times != (KEEP_4, KEEP_4):
        backend.utimens(path, *(None if time == KEEP_4 else time * SECOND for time in times))


# --- opening and making ------------------------------------------------------------------------


def _flags(session: Session, mode: int) -> int:
    flags = ACCESS[mode & 3]
    if mode & TRUNCATE:
        flags |= os.O_TRUNC
    if mode & APPEND:
        flags |= os.O_APPEND
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_TRUNC) or mode & REMOVE_ON_CLOSE:
        session.must_be_writable()
    return flags


@TABLE.serves(Kind.OPEN, "db", "Qd")
def open_(session: Session, number: int, mode: int) -> tuple[Qid, int]:
    """Open what a fid names."""
    fid = session.fids.get(number)
    if fid.opened is not None:
        raise error(errno.EINVAL)
    flags = _flags(session, mode)
    with session.tree.shared():
        return _open(session, fid, flags, mode)


def _open(session: Session, fid: Fid, flags: int, mode: int) -> tuple[Qid, int]:
    path = fid.node.path
    found = session.backend.lstat(path)
    if stat.S_ISDIR(found.mode):
        fid.opened = Folder(session.backend.open(path, os.O_RDONLY | os.O_DIRECTORY))
    else:
        fid.opened = File(session.backend.open(path, flags))
        fid.remove_on_clunk = bool(mode & REMOVE_ON_CLOSE)
    return session.qid(found), session.iounit(found)


@TABLE.serves(Kind.CREATE, "dsdbs", "Qd")
def create(session: Session, number: int, name: bytes, perm: int, mode: int, extension: bytes
           ) -> tuple[Qid, int]:  # fmt: skip
    """Make whatever the permissions' type bits say; the folder's fid becomes its own."""
    fid = session.fids.get(number)
    if fid.opened is not None:
        raise error(errno.EINVAL)
    plain_name(name)
    session.must_be_writable()
    flags = _flags(session, mode)
    with session.tree.shared():
        path = join(fid.node.path, name)
        owner = Owner(fid.uid, KEEP_4, _permissions(perm))
        plain = not perm & (DMDIR | DMSYMLINK | DMLINK | DMDEVICE | DMNAMEDPIPE | DMSOCKET)
        if plain:
            made = session.backend.create(path, flags, owner)
        else:
            _make_special(session, path, perm, extension, owner)
        fid.node = fid.node.child(name)
        if plain:
            fid.opened = File(made)
            fid.remove_on_clunk = bool(mode & REMOVE_ON_CLOSE)
        elif perm & DMDIR:
            return _open(session, fid, flags, mode)
        found = session.look(fid)
    return session.qid(found), session.iounit(found)


def _make_special(session: Session, path: bytes, perm: int, extension: bytes, owner: Owner
                  ) -> None:  # fmt: skip
    backend = session.backend
    if perm & DMDIR:
        backend.mkdir(path, owner)
    elif perm & DMSYMLINK:
        backend.symlink(path, extension, owner)
    elif perm & DMLINK:
        if not extension.isdigit():
            raise error(errno.EINVAL)
        backend.link(session.fids.get(int(extension)).node.path, path)
    else:
        kind, device = stat.S_IFIFO if perm & DMNAMEDPIPE else stat.S_IFSOCK, 0
        if perm & DMDEVICE:
            kind, device = _device(extension)
        backend.mknod(path, owner._replace(mode=kind | owner.mode), device)


def _device(extension: bytes) -> tuple[int, int]:
    parts = extension.split()
    if len(parts) != 3 or parts[0] not in (b"b", b"c") or not (parts[1] + parts[2]).isdigit():
        raise error(errno.EINVAL)
    kind = stat.S_IFBLK if parts[0] == b"b" else stat.S_IFCHR
    return kind, device(int(parts[1][:10]), int(parts[2][:10]))


# --- reading folders ---------------------------------------------------------------------------


@TABLE.serves(Kind.READ, "dqd", "D")
def read(session: Session, number: int, offset: int, count: int) -> tuple[bytes]:
    """A folder reads as stat structures, whole ones only, from 0 or from where it stopped."""
    fid = session.fids.get(number)
    folder = fid.opened
    if not isinstance(folder, Folder):
        return (common.read_opened(session, folder, offset, count),)
    if offset == 0:
        folder.offset = folder.place = 0
    elif offset != folder.offset:
        raise error(errno.EINVAL)
    room, made = session.limit(count), bytearray()
    with session.tree.shared():
        path = fid.node.path
        for name, _, _ in folder.entries_from(folder.place):
            piece = _entry(session, join(path, name), name)
            if len(made) + len(piece) > room:
                break
            made += piece
            folder.place += 1
    folder.offset = offset + len(made)
    return (bytes(made),)


def _entry(session: Session, path: bytes, name: bytes) -> bytes:
    """Nothing for a name that went away meanwhile."""
    try:
        found = session.backend.lstat(path)
        return _stat(session, name, found, _extension(session.backend, path, found))
    except FileNotFoundError:
        return b""


def _error(tag: int, number: int) -> bytes:
    return message(Kind.ERROR + 1, tag, pack("sd", (text_of(number), number)))


DOTU: Final = Dialect(b"9P2000.u", TABLE, _error)
