"""Requests that both dialects have."""

from __future__ import annotations

import errno
import os
from typing import Final

from pytcg.ninep.fids import Fid, File, Opened, ReadXattr, error
from pytcg.ninep.session import Session, Table
from pytcg.ninep.tree import Node, join
from pytcg.ninep.wire import NO_FID, Kind, Qid

MOST_NAMES: Final = 16  # of a walk
LARGEST_OFFSET: Final = (1 << 63) - 1
TABLE: Final = Table()


@TABLE.serves(Kind.ATTACH, "ddssd", "Q")
def attach(session: Session, fid: int, afid: int, uname: bytes, aname: bytes, n_uname: int
           ) -> tuple[Qid]:  # fmt: skip
    """The root of the one tree there is; nobody has to say who he is."""
    del uname, aname
    if afid != NO_FID:
        raise error(errno.EINVAL)
    qid = session.qid(session.backend.lstat(b""))
    session.fids.add(fid, Fid(session.root, n_uname))
    return (qid,)


@TABLE.serves(Kind.FLUSH, "h", "")
def flush(session: Session, tag: int) -> tuple[()]:
    """Who carries the messages answers when the other request is done."""
    del session, tag
    return ()


@TABLE.serves(Kind.WALK, "ddS", "W")
def walk(session: Session, number: int, new: int, names: list[bytes]) -> tuple[list[Qid]]:
    """Go down name by name; the new fid is there only if all of them were."""
    if len(names) > MOST_NAMES:
        raise error(errno.EINVAL)
    fid = session.fids.get(number)
    if new == number and fid.opened is not None:
        raise error(errno.EINVAL)
    if new != number and new in session.fids:
        raise error(errno.EBADF)
    with session.tree.shared():
        node, qids = _walk(session, fid.node, names)
    if len(qids) == len(names):
        made = Fid(node, fid.uid)
        if new == number:
            session.fids.replace(new, made)
        else:
            session.fids.add(new, made)
    return (qids,)


def _walk(session: Session, node: Node, names: list[bytes]) -> tuple[Node, list[Qid]]:
    """Where names lead, and what was met up to one that isn't there; not the first."""
    qids: list[Qid] = []
    for name in names:
        try:
            node, qid = _step(session, node, name)
        except OSError:
            if not qids:
                raise
            break
        qids.append(qid)
    return node, qids


def _step(session: Session, node: Node, name: bytes) -> tuple[Node, Qid]:
    if not name or b"/" in name:
        raise error(errno.ENOENT)
    if name == b".":
        found = node
    elif name == b"..":
        found = node if node.parent is None else node.parent
    else:
        found = node.child(name)
    return found, session.qid(session.backend.lstat(found.path))


@TABLE.serves(Kind.READ, "dqd", "D")
def read(session: Session, number: int, offset: int, count: int) -> tuple[bytes]:
    """From what is open."""
    return (read_opened(session, session.fids.get(number).opened, offset, count),)


def read_opened(session: Session, opened: Opened | None, offset: int, count: int) -> bytes:
    """As much as a reply carries; EINVAL for what isn't open."""
    if opened is None or (offset > LARGEST_OFFSET and not isinstance(opened, ReadXattr)):
        raise error(errno.EINVAL)
    count = session.limit(count)
    session.admit("read", count)
    return opened.read(offset, count)


@TABLE.serves(Kind.WRITE, "dqD", "d")
def write(session: Session, number: int, offset: int, data: bytes) -> tuple[int]:
    """To what is open."""
    opened = session.fids.get(number).opened
    if opened is None or offset + len(data) > LARGEST_OFFSET:
        raise error(errno.EINVAL)
    if isinstance(opened, File):
        session.must_be_writable()
        session.admit("write", len(data))
    return (opened.write(offset, data),)


@TABLE.serves(Kind.CLUNK, "d", "")
def clunk(session: Session, number: int) -> tuple[()]:
    """The client is done with a fid."""
    fid = session.fids.take(number)
    if fid.remove_on_clunk:
        _remove(session, fid)
    if fid.opened is not None:
        with session.tree.shared():
            fid.opened.end()
    return ()


@TABLE.serves(Kind.REMOVE, "d", "")
def remove(session: Session, number: int) -> tuple[()]:
    """Remove the file; the fid is gone in any case."""
    fid = session.fids.take(number)
    session.must_be_writable()
    _remove(session, fid)
    return ()


def _remove(session: Session, fid: Fid) -> None:
    node = fid.node
    if node.parent is None:
        raise error(errno.EBUSY)
    with session.tree.alone():
        path = node.path
        if session.backend.lstat(path).mode & 0o170000 == 0o040000:
            session.backend.rmdir(path)
        else:
            session.backend.unlink(path)
        node.parent.remove(node.name)


def rename(session: Session, old: Node, name: bytes, folder: Node, new: bytes) -> None:
    """Rename on the host and in the tree at once."""
    with session.tree.alone():
        session.backend.rename(join(old.path, name), join(folder.path, new))
        old.move(name, folder, new)


def device(major: int, minor: int) -> int:
    """A device's number; EINVAL for what Linux has no room for."""
    if major >= 1 << 12 or minor >= 1 << 20:
        raise error(errno.EINVAL)
    return os.makedev(major, minor)
