"""The object cache on disk: host code by name, in the user's own cache folder.

What fits one build of pytcg on one host, and no other, lies in a folder of its own, the *area*; the
areas of builds that are gone are removed whole. Loading an object is running it, so the folders
must belong to the user and be closed to others; a file counts only if its header and checksum fit.
Writers rename a finished file into place, and an area is renamed before it is removed, so processes
may share the cache.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from _blake2 import blake2b  # by hashlib it brings OpenSSL
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"pytcgobj1\n"
LIMIT = 256 << 20
"""Bytes of objects that are kept; then those go that nobody has loaded for longest."""
FACTS = "facts"
"""The area of small things that are remembered about installations and the host."""
AREAS = 8
"""Areas that are kept besides a new one: those that were used last."""
_STORES = 64
"""Stores of a process between two looks at the cache's size."""
_FRESH = 3600.0
"""Seconds in which a file that is loaded again counts as loaded once."""
_REMOVED = ".removed-"
_UNFINISHED = ".new-"


class CacheError(Exception):
    """The cache folder can't be trusted."""


def user_cache() -> str:
    """pytcg's folder below $XDG_CACHE_HOME (or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return f"{base if os.path.isabs(base) else os.path.expanduser('~/.cache')}/pytcg"


class ObjectCache:
    """An area's objects by name, "KIND/NAME"; a missing, foreign or damaged file is None.

    Without a place for its folder (a home that is missing or read-only) it keeps nothing.
    """

    def __init__(self, area: str, root: str | Path | None = None, *, limit: int = LIMIT):
        self.root = os.fspath(root) if root is not None else f"{user_cache()}/objects"
        self.area = area
        self.folder = f"{self.root}/{area}"
        self._limit = limit
        self._stores = 0
        self.usable = False  # for good: whoever makes the folder later is not trusted
        if not os.path.isabs(self.root):
            return  # a user without a home
        with contextlib.suppress(OSError):
            for path in (os.path.dirname(self.root), self.root):  # whatever the umask is
                os.makedirs(path, mode=0o700, exist_ok=True)
            self.usable = True
        if self.usable:
            for path in (os.path.dirname(self.root), self.root):
                _refuse_shared(path)
            self._enter()

    def _enter(self) -> None:
        """Make the area, or note that it is used; a new one is when old ones are looked at."""
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            _refuse_shared(self.folder)
            _note_use(self.folder)
        except OSError:
            return  # a full or read-only disk
        else:
            self._remove_areas()

    # Objects -----------------------------------------------------------------------------------

    @staticmethod
    def key(*parts: str | bytes) -> str:
        """A name that says what is in an object."""
        digest = blake2b(digest_size=20)
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def names(self, kind: str) -> list[str]:
        """All of a kind, sorted."""
        if not self.usable:
            return []
        with contextlib.suppress(FileNotFoundError), os.scandir(f"{self.folder}/{kind}") as entries:
            return sorted(f"{kind}/{entry.name[:-2]}" for entry in entries
                          if entry.name.endswith(".o"))  # fmt: skip
        return []

    def remove(self, name: str) -> None:
        """Forget an object, if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(name))

    def load(self, name: str) -> bytes | None:
        """An object as it was stored."""
        if not self.usable:
            return None
        path = self._path(name)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
        except OSError:
            return None
        _note_use(path)
        header, checksum = len(_MAGIC), len(_MAGIC) + 20
        body = data[checksum:]
        if data[:header] != _MAGIC or data[header:checksum] != _checksum(name, body):
            return None
        return body

    def store(self, name: str, body: bytes) -> None:
        """Keep ``body``; a full or read-only disk only costs the next run time."""
        if not self.usable:
            return
        self._stores += 1
        if self._stores % _STORES == 0:
            self.prune()
        path = self._path(name)
        unfinished = f"{self.root}/{_UNFINISHED}{os.getpid()}-{os.urandom(6).hex()}"
        with contextlib.suppress(OSError):
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
                fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with open(fd, "wb") as file:
                    file.write(_MAGIC + _checksum(name, body) + body)
                os.replace(unfinished, path)
            except BaseException:
                os.unlink(unfinished)
                raise

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}.o"

    # Size --------------------------------------------------------------------------------------

    def prune(self) -> None:
        """Remove what was used longest ago until four fifths of the limit are left.

        Other areas go first, and whole.
        """
        with contextlib.suppress(OSError):
            own = sorted(_files(self.folder))
            total = sum(size for _, size, _ in own)
            for area in reversed(self._others()):
                size = sum(size for _, size, _ in _files(area))
                total += size
                if total > self._limit:
                    self._remove_area(area)
                    total -= size
            if total <= self._limit:
                return
            for _, size, path in own:
                if total <= self._limit * 4 // 5:
                    return
                with contextlib.suppress(OSError):  # another process was quicker
                    os.unlink(path)
                total -= size

    def _others(self) -> list[str]:
        """The other areas, the one used longest ago first."""
        with os.scandir(self.root) as entries:
            found = [(entry.stat().st_mtime, entry.name) for entry in entries
                     if entry.is_dir(follow_symlinks=False)
                     and not entry.name.startswith(".")]  # fmt: skip
        return [f"{self.root}/{name}" for _, name in sorted(found) if name != self.area]

    def _remove_areas(self) -> None:
        """Leave the areas used last, and nothing that is no area: what was never finished."""
        with contextlib.suppress(OSError):
            for area in self._others()[:-AREAS]:
                self._remove_area(area)
            now = time.time()
            with os.scandir(self.root) as entries:
                for entry in entries:
                    if entry.name.startswith(_REMOVED):
                        _remove_tree(entry.path)
                    elif (not entry.is_dir(follow_symlinks=False)
                          and now - entry.stat(follow_symlinks=False).st_mtime > _FRESH):
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)

    def _remove_area(self, area: str) -> None:
        """Whole, as others see it."""
        gone = f"{self.root}/{_REMOVED}{os.urandom(6).hex()}"
        with contextlib.suppress(OSError):  # another process was quicker
            os.rename(area, gone)
            _remove_tree(gone)


def _refuse_shared(path: str) -> None:
    info = os.lstat(path)
    if info.st_uid != os.geteuid():
        raise CacheError(f"cache folder '{path}' belongs to another user")
    if stat.S_ISLNK(info.st_mode):
        raise CacheError(f"cache folder '{path}' is a symbolic link")
    if info.st_mode & 0o022:
        raise CacheError(f"cache folder '{path}' can be written by others")


def _note_use(path: str) -> None:
    """The modification time is that of the last use."""
    with contextlib.suppress(OSError):  # gone meanwhile, or a read-only folder
        if time.time() - os.stat(path).st_mtime > _FRESH:
            os.utime(path)


def _files(folder: str) -> Iterator[tuple[float, int, str]]:
    """When each file below was used last, its size and its path."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                with contextlib.suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    yield info.st_mtime, info.st_size, entry.path


def _remove_tree(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _checksum(name: str, body: bytes) -> bytes:
    return blake2b(name.encode() + body, digest_size=20).digest()
