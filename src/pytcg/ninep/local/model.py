"""Security models: whether the host's owners and permissions are the client's, or lie elsewhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from pytcg.ninep.backend import Entry, Owner, Stat
from pytcg.ninep.local import hostfile
from pytcg.ninep.local.beneath import Place

ACL: Final = b"system.posix_acl_"


class Passthrough:
    """The host's are the client's: ``none`` is the same, but lets files belong to who runs us."""

    takes_acls: bool
    needs_name = False  # to see an open file: its descriptor is not enough

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self.takes_acls = strict

    def see(self, place: Place, found: os.stat_result) -> Stat:
        """A file's attributes as the client sees them."""
        del place
        return Stat.of(found)

    def see_open(self, fd: int, found: os.stat_result, place: Place | None) -> Stat:
        """An open file's."""
        del fd, place
        return Stat.of(found)

    def open_flags(self, flags: int) -> int:
        """What a file is opened with."""
        return flags

    def file_mode(self, owner: Owner) -> int:
        """What a new file's host file is made with."""
        return owner.mode & 0o7777 & ~0o6000

    folder_mode = file_mode

    def made(self, place: Place, owner: Owner) -> None:
        """A file has been made: its owner and permissions."""
        self._own(place, owner)
        hostfile.chmod(place, owner.mode & 0o7777)

    def _own(self, place: Place, owner: Owner) -> None:
        try:
            os.chown(place.name, _id(owner.uid), _id(owner.gid), dir_fd=place.folder,
                     follow_symlinks=False)  # fmt: skip
        except OSError:
            if self._strict:
                raise

    def mknod(self, place: Place, owner: Owner, device: int) -> None:
        os.mknod(place.name, owner.mode & ~0o6000, device, dir_fd=place.folder)
        with undo(place):
            self.made(place, owner)

    def symlink(self, place: Place, target: bytes, owner: Owner) -> None:
        os.symlink(target, place.name, dir_fd=place.folder)
        with undo(place):
            self._own(place, owner)

    def readlink(self, place: Place) -> bytes:
        return os.readlink(place.name, dir_fd=place.folder)

    def chmod(self, place: Place, mode: int) -> None:
        hostfile.chmod(place, mode)

    def chown(self, place: Place, uid: int, gid: int) -> None:
        os.chown(place.name, uid, gid, dir_fd=place.folder, follow_symlinks=False)

    # --- names ---------------------------------------------------------------------------------

    def check(self, path: bytes) -> None:
        """OSError for a path the client may not use."""

    def shown(self, entries: list[Entry]) -> list[Entry]:
        """The names of a folder that the client sees."""
        return entries

    def before_rmdir(self, place: Place) -> None:
        """Make a folder empty on the host if it is for the client."""

    def linked(self, old: Place, new: Place) -> None:
        """A file has got another name."""

    def renamed(self, old: Place, new: Place) -> None:
        """A file's name has changed."""

    def removed(self, place: Place) -> None:
        """A name is no more."""

    # --- extended attributes -------------------------------------------------------------------

    def host_xattr(self, name: bytes) -> bytes:
        """An attribute's name on the host; EOPNOTSUPP for what is not served."""
        if name.startswith(b"user.") or (self.takes_acls and name.startswith(ACL)):
            return name
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def client_xattrs(self, names: Sequence[bytes]) -> list[bytes]:
        """The client's names of those there are."""
        return [name for name in names
                if name.startswith(b"user.") or (self.takes_acls and name.startswith(ACL))]


class Trusted(Passthrough):
    """As `passthrough`, for a helper whose client decides what is served: all attributes are."""

    def __init__(self) -> None:
        super().__init__(strict=True)

    def host_xattr(self, name: bytes) -> bytes:
        return name

    def client_xattrs(self, names: Sequence[bytes]) -> list[bytes]:
        return list(names)


class undo:
    """A context: if it fails, the file that was made before goes away."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            with suppress(OSError):
                os.unlink(self._place.name, dir_fd=self._place.folder)


def _id(number: int) -> int:
    return -1 if number == 0xFFFFFFFF else number
