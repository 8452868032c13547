"""What a client holds: fids, and what they are open as."""

from __future__ import annotations

import errno
import os
import threading
from typing import Final, Protocol

from pytcg.ninep.backend import Backend, Entry, OpenFile
from pytcg.ninep.tree import Node, join

MOST_FIDS: Final = 1 << 20
XATTR_SIZE_MAX: Final = 65536


def error(number: int) -> OSError:
    """An errno as an exception."""
    return OSError(number, os.strerror(number))


class Opened(Protocol):
    """What Tread and Twrite are for."""

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> int: ...

    def end(self) -> None:
        """The client gives it back."""
        ...


class File:
    """A file that is open."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file

    def read(self, offset: int, length: int) -> bytes:
        return self.file.read(offset, length)

    def write(self, offset: int, data: bytes) -> int:
        return self.file.write(offset, data)

    def end(self) -> None:
        """The descriptor is closed when no request holds it any more."""


class Folder:
    """A folder that is open: its names as they were when reading began, places are offsets."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self._entries: list[Entry] = []
        self.offset = 0  # for 9P2000.u, whose client reads bytes: where it is,
        self.place = 0  # and which entry is there

    def entries_from(self, place: int) -> list[Entry]:
        """The entries from a place on; from 0, they are read anew."""
        if not place:
            self._entries = self.file.entries()
        return self._entries[place:]

    def read(self, offset: int, length: int) -> bytes:
        raise error(errno.EISDIR)

    def write(self, offset: int, data: bytes) -> int:
        raise error(errno.EISDIR)

    def end(self) -> None:
        """As a file's."""


class ReadXattr:
    """An extended attribute, or the list of their names."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def read(self, offset: int, length: int) -> bytes:
        return self.value[offset : offset + length]

    def write(self, offset: int, data: bytes) -> int:
        raise error(errno.EBADF)

    def end(self) -> None:
        """Nothing is kept."""


class WriteXattr:
    """An extended attribute that comes in pieces and is set when the client is done."""

    def __init__(self, backend: Backend, node: Node, name: bytes, size: int, flags: int) -> None:
        if size > XATTR_SIZE_MAX:
            raise error(errno.E2BIG)
        self._backend, self._node, self._name = backend, node, name
        self._flags = flags
        self._value = bytearray(size)
        self._came = 0

    def read(self, offset: int, length: int) -> bytes:
        raise error(errno.EBADF)

    def write(self, offset: int, data: bytes) -> int:
        if offset + len(data) > len(self._value):
            raise error(errno.ENOSPC)
        self._value[offset : offset + len(data)] = data
        self._came += len(data)
        return len(data)

    def end(self) -> None:
        if self._came != len(self._value):
            raise error(errno.EINVAL)
        path = self._node.path
        if self._value:
            self._backend.setxattr(path, self._name, bytes(self._value), self._flags)
        else:
            self._backend.removexattr(path, self._name)


class Fid:
    """A name that a client holds, and what it is open as; ``uid`` is who attached."""

    __slots__ = ("node", "opened", "remove_on_clunk", "uid")

    def __init__(self, node: Node, uid: int) -> None:
        self.node = node
        self.uid = uid
        self.opened: Opened | None = None
        self.remove_on_clunk = False

    def child_path(self, name: bytes) -> bytes:
        """A new name's path; OSError for one that can't be made."""
        return join(self.node.path, name)


class Fids:
    """Fids by number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: dict[int, Fid] = {}

    def get(self, number: int) -> Fid:
        """EBADF if there is none."""
        found = self._of.get(number)
        if found is None:
            raise error(errno.EBADF)
        return found

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, number: int) -> bool:
        return number in self._of

    def add(self, number: int, fid: Fid) -> None:
        """EBADF if the number is in use."""
        with self._lock:
            if number in self._of or number == 0xFFFFFFFF:
                raise error(errno.EBADF)
            if len(self._of) >= MOST_FIDS:
                raise error(errno.EMFILE)
            self._of[number] = fid

    def replace(self, number: int, fid: Fid) -> None:
        """A walk from a fid to itself."""
        with self._lock:
            self._of[number] = fid

    def take(self, number: int) -> Fid:
        """Take one away; EBADF."""
        with self._lock:
            found = self._of.pop(number, None)
        if found is None:
            raise error(errno.EBADF)
        return found
