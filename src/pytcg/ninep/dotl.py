"""9P2000.L: Linux's dialect, its system calls as messages (github.com/chaos/diod, protocol.md)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import Final

from pytcg.ninep import common
from pytcg.ninep.backend import NOW, Entry, Owner, Stat
from pytcg.ninep.common import device, rename
from pytcg.ninep.fids import Fid, File, Folder, ReadXattr, WriteXattr, error
from pytcg.ninep.session import Dialect, Session, Table, plain_name
from pytcg.ninep.wire import QID, Kind, Qid, message

TABLE: Final = Table(common.TABLE)
SECOND: Final = 1_000_000_000
BASIC: Final = 0x7FF  # what `getattr` always knows
AT_REMOVEDIR: Final = 0x200
MODE, UID, GID, SIZE, ATIME, MTIME, CTIME, ATIME_SET, MTIME_SET = (1 << bit for bit in range(9))
NOBODY: Final = 0xFFFFFFFF
LOCK_SUCCESS, UNLOCKED = 0, 2
LOCK_BLOCK: Final = 1
WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_APPEND
# Creation has messages of its own, O_DIRECT needs buffers aligned as ours are not.
OPEN_FLAGS: Final = (os.O_ACCMODE | os.O_TRUNC | os.O_APPEND | os.O_SYNC | os.O_DSYNC
                     | os.O_DIRECTORY | os.O_NOATIME)  # fmt: skip
DIRENT: Final = struct.Struct("<QBH")


@TABLE.serves(Kind.STATFS, "d", "ddqqqqqqd")
def statfs(session: Session, number: int) -> tuple[int, ...]:
    """Figures of the file system."""
    with session.tree.shared():
        found = session.backend.statfs(session.fids.get(number).node.path)
    kind, bsize, *counts, namelen = found
    return (kind & NOBODY, bsize, *counts, namelen)


# --- opening and making ------------------------------------------------------------------------


@TABLE.serves(Kind.LOPEN, "dd", "Qd")
def lopen(session: Session, number: int, flags: int) -> tuple[Qid, int]:
    """Open what a fid names."""
    fid = session.fids.get(number)
    if fid.opened is not None:
        raise error(errno.EINVAL)
    if flags & WRITES:
        session.must_be_writable()
    with session.tree.shared():
        path = fid.node.path
        found = session.backend.lstat(path)
        is_folder = stat.S_ISDIR(found.mode)
        file = session.backend.open(path, os.O_RDONLY | os.O_DIRECTORY if is_folder
                                    else flags & OPEN_FLAGS)  # fmt: skip
    fid.opened = Folder(file) if is_folder else File(file)
    return session.qid(found), session.iounit(found)


@TABLE.serves(Kind.LCREATE, "dsddd", "Qd")
def lcreate(session: Session, number: int, name: bytes, flags: int, mode: int, gid: int
            ) -> tuple[Qid, int]:  # fmt: skip
    """Make a file; the folder's fid becomes the file's."""
    fid = _folder(session, number, name)
    if fid.opened is not None:
        raise error(errno.EINVAL)
    with session.tree.shared():
        path = fid.child_path(name)
        owner = Owner(fid.uid, gid, mode & 0o7777)
        file = session.backend.create(path, flags & (OPEN_FLAGS | os.O_EXCL), owner)
        found = session.backend.fstat(file, path)
        fid.node = fid.node.child(name)
        fid.opened = File(file)
    return session.qid(found), session.iounit(found)


def _folder(session: Session, number: int, name: bytes) -> Fid:
    """The fid of a folder in which a name is to be made."""
    fid = session.fids.get(number)
    plain_name(name)
    session.must_be_writable()
    return fid


def _made(session: Session, path: bytes) -> tuple[Qid]:
    return (session.qid(session.backend.lstat(path)),)


@TABLE.serves(Kind.MKDIR, "dsdd", "Q")
def mkdir(session: Session, number: int, name: bytes, mode: int, gid: int) -> tuple[Qid]:
    """Make a folder."""
    fid = _folder(session, number, name)
    with session.tree.shared():
        path = fid.child_path(name)
        session.backend.mkdir(path, Owner(fid.uid, gid, mode & 0o7777))
        return _made(session, path)


@TABLE.serves(Kind.MKNOD, "dsdddd", "Q")
def mknod(session: Session, number: int, name: bytes, mode: int, major: int, minor: int, gid: int
          ) -> tuple[Qid]:  # fmt: skip
    """Make a device, FIFO, socket or plain file."""
    fid = _folder(session, number, name)
    if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
        raise error(errno.EINVAL)
    with session.tree.shared():
        path = fid.child_path(name)
        session.backend.mknod(path, Owner(fid.uid, gid, mode & 0o177777), device(major, minor))
        return _made(session, path)


@TABLE.serves(Kind.SYMLINK, "dssd", "Q")
def symlink(session: Session, number: int, name: bytes, target: bytes, gid: int) -> tuple[Qid]:
    """Make a symbolic link; where it leads is the client's business alone."""
    fid = _folder(session, number, name)
    with session.tree.shared():
        path = fid.child_path(name)
        session.backend.symlink(path, target, Owner(fid.uid, gid, 0o777))
        return _made(session, path)


@TABLE.serves(Kind.LINK, "dds", "")
def link(session: Session, folder: int, number: int, name: bytes) -> tuple[()]:
    """Another name of a file."""
    fid = session.fids.get(number)
    where = _folder(session, folder, name)
    with session.tree.shared():
        session.backend.link(fid.node.path, where.child_path(name))
    return ()


@TABLE.serves(Kind.READLINK, "d", "s")
def readlink(session: Session, number: int) -> tuple[bytes]:
    """Where a symbolic link leads."""
    with session.tree.shared():
        return (session.backend.readlink(session.fids.get(number).node.path),)


# --- names -------------------------------------------------------------------------------------


@TABLE.serves(Kind.RENAME, "dds", "")
def rename_fid(session: Session, number: int, folder: int, name: bytes) -> tuple[()]:
    """Give what a fid names another name."""
    fid = session.fids.get(number)
    where = _folder(session, folder, name)
    node = fid.node
    if node.parent is None:
        raise error(errno.EBUSY)
    rename(session, node.parent, node.name, where.node, name)
    return ()


@TABLE.serves(Kind.RENAMEAT, "dsds", "")
def renameat(session: Session, old: int, name: bytes, new: int, new_name: bytes) -> tuple[()]:
    """Rename by folders and names."""
    source = _folder(session, old, name)
    where = _folder(session, new, new_name)
    rename(session, source.node, name, where.node, new_name)
    return ()


@TABLE.serves(Kind.UNLINKAT, "dsd", "")
def unlinkat(session: Session, number: int, name: bytes, flags: int) -> tuple[()]:
    """Remove a name; AT_REMOVEDIR: an empty folder's."""
    if name in (b".", b".."):
        raise error(errno.EINVAL if name == b"." else errno.ENOTEMPTY)
    fid = _folder(session, number, name)
    if flags & ~AT_REMOVEDIR:
        raise error(errno.EINVAL)
    with session.tree.alone():
        path = fid.child_path(name)
        if flags & AT_REMOVEDIR:
            session.backend.rmdir(path)
        else:
            session.backend.unlink(path)
        fid.node.remove(name)
    return ()


# --- attributes --------------------------------------------------------------------------------


@TABLE.serves(Kind.GETATTR, "dq", "qQddd" + 15 * "q")
def getattr_(session: Session, number: int, mask: int) -> tuple[int | Qid, ...]:
    """All that stat(2) tells; generation, birth and data version are not known."""
    del mask
    with session.tree.shared():
        found = session.look(session.fids.get(number))
    times = [part for time in (found.atime, found.mtime, found.ctime)
             for part in divmod(time, SECOND)]  # fmt: skip
    times[::2] = [seconds & 0xFFFFFFFFFFFFFFFF for seconds in times[::2]]
    return (BASIC, session.qid(found), found.mode, found.uid, found.gid, found.nlink, found.rdev,
            found.size, session.iounit(found), found.blocks, *times, 0, 0, 0, 0)  # fmt: skip


@TABLE.serves(Kind.SETATTR, "dddddqqqqq", "")
def setattr_(session: Session, number: int, valid: int, mode: int, uid: int, gid: int, size: int,
             *times: int) -> tuple[()]:  # fmt: skip
    """Change what ``valid`` names."""
    fid = session.fids.get(number)
    session.must_be_writable()
    with session.tree.shared():
        _change(session, fid, valid, (mode, uid, gid, size), times)
    return ()


def _change(session: Session, fid: Fid, valid: int, values: tuple[int, int, int, int],
            times: tuple[int, ...]) -> None:  # fmt: skip
    backend, node = session.backend, fid.node
    mode, uid, gid, size = values
    if valid & SIZE:
        _truncate(session, fid, size)
        if node.gone and not valid & (MODE | UID | GID | ATIME):
            return  # what is open without a name: truncating has set the times
    path = node.path
    only_ctime = valid & CTIME and not valid & (MODE | UID | GID | SIZE | ATIME | MTIME)
    if valid & (UID | GID) or only_ctime:
        backend.chown(path, _id(uid) if valid & UID else -1, _id(gid) if valid & GID else -1)
    if valid & MODE:
        backend.chmod(path, mode & 0o7777)
    if valid & (ATIME | MTIME):
        backend.utimens(path, _time(valid, ATIME, ATIME_SET, times[:2]),
                        _time(valid, MTIME, MTIME_SET, times[2:]))  # fmt: skip


def _truncate(session: Session, fid: Fid, size: int) -> None:
    if size > common.LARGEST_OFFSET:
        raise error(errno.EINVAL)
    if isinstance(fid.opened, File):
        fid.opened.file.truncate(size)
    else:
        session.backend.truncate(fid.node.path, size)


def _id(number: int) -> int:
    return -1 if number == NOBODY else number


def _time(valid: int, wanted: int, given: int, time: tuple[int, ...]) -> int | None:
    if not valid & wanted:
        return None
    if not valid & given:
        return NOW
    seconds, nanoseconds = time
    if nanoseconds >= SECOND:
        raise error(errno.EINVAL)
    return (seconds - (seconds >> 63 << 64)) * SECOND + nanoseconds


# --- extended attributes -----------------------------------------------------------------------


@TABLE.serves(Kind.XATTRWALK, "dds", "q")
def xattrwalk(session: Session, number: int, new: int, name: bytes) -> tuple[int]:
    """A fid to read an attribute from, or without a name the list of them."""
    fid = session.fids.get(number)
    with session.tree.shared():
        path = fid.node.path
        if name:
            value = session.backend.getxattr(path, name)
        else:
            value = b"".join(name + b"\0" for name in session.backend.listxattr(path))
    made = Fid(fid.node, fid.uid)
    made.opened = ReadXattr(value)
    session.fids.add(new, made)
    return (len(value),)


@TABLE.serves(Kind.XATTRCREATE, "dsqd", "")
def xattrcreate(session: Session, number: int, name: bytes, size: int, flags: int) -> tuple[()]:
    """The fid becomes one to write an attribute to."""
    fid = session.fids.get(number)
    session.must_be_writable()
    if fid.opened is not None or flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
        raise error(errno.EINVAL)
    fid.opened = WriteXattr(session.backend, fid.node, name, size, flags)
    return ()


# --- folders and files -------------------------------------------------------------------------


@TABLE.serves(Kind.READDIR, "dqd", "D")
def readdir(session: Session, number: int, offset: int, count: int) -> tuple[bytes]:
    """Entries from a place on: `.` is number 1, `..` number 2."""
    fid = session.fids.get(number)
    if not isinstance(fid.opened, Folder):
        raise error(errno.EINVAL)
    room = session.limit(count)
    with session.tree.shared():
        here = session.look(fid)
        made = b""
        if offset < 2:
            dots = _dots(session, fid, here)
            made = b"".join(_dirent(qid, place + 1, stat.S_IFDIR >> 12, b"." * (place + 1))
                            for place, qid in list(enumerate(dots))[offset:])  # fmt: skip
            if len(made) > room:
                raise error(errno.EINVAL)
        entries = fid.opened.entries_from(max(offset - 2, 0))
    return (made + _dirents(session, here.dev, entries, max(offset, 2), room - len(made)),)


def _dots(session: Session, fid: Fid, here: Stat) -> tuple[Qid, Qid]:
    node = fid.node
    above = here
    if node.parent is not None and not node.gone:
        above = session.backend.lstat(node.parent.path)
    return session.qid(here), session.qid(above)


def _dirents(session: Session, device: int, entries: list[Entry], place: int, room: int) -> bytes:
    made = bytearray()
    for name, inode, kind in entries:
        place += 1
        bits = 0x80 if kind == 4 else 0x02 if kind == 10 else 0
        entry = _dirent(Qid(bits, 0, session.qid_path(device, inode)), place, kind, name)
        if len(made) + len(entry) > room:
            if not made and place == 3:
                raise error(errno.EINVAL)
            break
        made += entry
    return bytes(made)


def _dirent(qid: Qid, place: int, kind: int, name: bytes) -> bytes:
    return QID.pack(*qid) + DIRENT.pack(place, kind, len(name)) + name


@TABLE.serves(Kind.FSYNC, "dd", "")
def fsync(session: Session, number: int, data_only: int) -> tuple[()]:
    """What was written is on stable storage."""
    opened = session.fids.get(number).opened
    if not isinstance(opened, File | Folder):
        raise error(errno.EINVAL)
    opened.file.sync(data_only=bool(data_only))
    return ()


@TABLE.serves(Kind.LOCK, "dbdqqds", "b")
def lock(session: Session, number: int, kind: int, flags: int, start: int, length: int,
         process: int, client: bytes) -> tuple[int]:  # fmt: skip
    """The client's kernel has locked among its own processes; here nothing more is kept."""
    del kind, start, length, process, client
    session.fids.get(number)
    if flags & ~LOCK_BLOCK:
        raise error(errno.EINVAL)
    return (LOCK_SUCCESS,)


@TABLE.serves(Kind.GETLOCK, "dbqqds", "bqqds")
def getlock(session: Session, number: int, kind: int, start: int, length: int, process: int,
            client: bytes) -> tuple[int, int, int, int, bytes]:  # fmt: skip
    """Nobody else holds one."""
    del kind
    session.fids.get(number)
    return (UNLOCKED, start, length, process, client)


def _error(tag: int, number: int) -> bytes:
    return message(Kind.LERROR + 1, tag, number.to_bytes(4, "little"))


DOTL: Final = Dialect(b"9P2000.L", TABLE, _error)
