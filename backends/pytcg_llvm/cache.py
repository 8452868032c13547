"""The object cache on disk: host code by content hash, in the user's own cache folder.

Loading an object is running it, so the folder must belong to the user and be closed to others;
a file counts only if its header and checksum fit. Writers rename a finished file into place, so
processes may share the folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

_MAGIC = b"pytcgobj1\n"
LIMIT = 256 << 20
"""Bytes of objects that are kept; then those go that nobody has loaded for longest."""
_STORES = 64
"""Stores of a process between two looks at the folder's size."""
_FRESH = 3600.0
"""Seconds in which a file that is loaded again counts as loaded once."""


class CacheError(Exception):
    """The cache folder can't be trusted."""


def user_cache() -> Path:
    """pytcg's folder below $XDG_CACHE_HOME (or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if base and os.path.isabs(base) else Path.home() / ".cache"
    return root / "pytcg"


class ObjectCache:
    """Objects by key; a missing, foreign or damaged file is None.

    Without a place for its folder (a home that is missing or read-only) it keeps nothing.
    """

    def __init__(self, folder: Path | None = None, *, limit: int = LIMIT):
        self.folder = folder or user_cache() / "objects"
        self._limit = limit
        self._stores = 0
        try:
            for path in (self.folder.parent, self.folder):  # whatever the umask lets others do
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            self.usable = False  # for good: whoever makes the folder later is not trusted
            return
        self.usable = True
        for path in (self.folder.parent, self.folder):
            self._refuse_shared(path)

    @staticmethod
    def _refuse_shared(path: Path) -> None:
        info = path.lstat()
        if info.st_uid != os.geteuid():
            raise CacheError(f"cache folder '{path}' belongs to another user")
        if stat.S_ISLNK(info.st_mode):
            raise CacheError(f"cache folder '{path}' is a symbolic link")
        if info.st_mode & 0o022:
            raise CacheError(f"cache folder '{path}' can be written by others")

    @staticmethod
    def key(*parts: str | bytes) -> str:
        digest = hashlib.blake2b(digest_size=20)
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()

    def names(self, prefix: str) -> list[str]:
        """Keys that begin so, sorted."""
        if not self.usable:
            return []
        with os.scandir(self.folder) as entries:
            return sorted(entry.name[:-2] for entry in entries
                          if entry.name.startswith(prefix) and entry.name.endswith(".o"))

    def remove(self, key: str) -> None:
        """Forget an object, if it is there."""
        with contextlib.suppress(OSError):
            (self.folder / f"{key}.o").unlink()

    def load(self, key: str) -> bytes | None:
        if not self.usable:
            return None
        path = self.folder / f"{key}.o"
        try:
            data = path.read_bytes()
        except OSError:
            return None
        self._note_use(path)
        header, checksum = len(_MAGIC), len(_MAGIC) + 20
        body = data[checksum:]
        if data[:header] != _MAGIC or data[header:checksum] != self._checksum(key, body):
            return None
        return body

    @staticmethod
    def _note_use(path: Path) -> None:
        """The modification time is that of the last use."""
        with contextlib.suppress(OSError):  # gone meanwhile, or a read-only folder
            if time.time() - path.stat().st_mtime > _FRESH:
                os.utime(path)

    def prune(self) -> None:
        """Remove the objects used longest ago until four fifths of the limit are left."""
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry.path)
                           for entry in entries)  # fmt: skip
            total = sum(size for _, size, _ in files)
            if total <= self._limit:
                return
            for _, size, path in files:
                if total <= self._limit * 4 // 5:
                    return
                with contextlib.suppress(OSError):  # another process was quicker
                    os.unlink(path)
                total -= size

    def store(self, key: str, body: bytes) -> None:
        """Keep ``body``; a full or read-only disk only costs the next run time."""
        if not self.usable:
            return
        self._stores += 1
        if self._stores % _STORES == 0:
            self.prune()
        try:
            fd, name = tempfile.mkstemp(dir=self.folder)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(_MAGIC + self._checksum(key, body) + body)
                os.replace(name, self.folder / f"{key}.o")
            except BaseException:
                os.unlink(name)
                raise
        except OSError:
            return

    @staticmethod
    def _checksum(key: str, body: bytes) -> bytes:
        return hashlib.blake2b(key.encode() + body, digest_size=20).digest()
