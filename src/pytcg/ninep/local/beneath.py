"""Paths that stay below a folder, whatever links and renames there are meanwhile.

A path's folder is opened by openat2(2), which follows no symbolic link and leaves the root by no
way, or where the kernel has no such call component by component with O_NOFOLLOW. What is done then
names one component in that descriptor.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import weakref
from types import TracebackType
from typing import Final

SYS_OPENAT2: Final = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08
RESOLVE: Final = RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH
FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PATH_MAX: Final = 4096
# struct open_how: flags, mode, resolve.
_HOW: Final = struct.pack("<QQQ", FOLDER, 0, RESOLVE)
_libc: Final = ctypes.CDLL(None, use_errno=True)
_syscall: Final = _libc.syscall


class Place:
    """One name in an open folder; a context, which closes the folder."""

    __slots__ = ("_owned", "folder", "name")

    def __init__(self, folder: int, name: bytes, *, owned: bool) -> None:
        self.folder = folder
        self.name = name
        self._owned = owned

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if self._owned:
            os.close(self.folder)

    @property
    def link(self) -> bytes:
        """A path for calls that take no descriptor of a folder; /proc leads to that very folder."""
        return b"/proc/self/fd/%d/%s" % (self.folder, self.name)


class Root:
    """The shared folder."""

    def __init__(self, path: str, *, has_openat2: bool = True) -> None:
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.fd)
        self._openat2 = has_openat2 and self._works()

    def _works(self) -> bool:
        try:
            os.close(self._open_at_once(b"."))
        except OSError as failure:
            if failure.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):  # an old kernel, seccomp
                return False
            raise
        return True

    def place(self, path: bytes) -> Place:
        """Where a path is: its folder and its last name; OSError."""
        folder, slash, name = path.rpartition(b"/")
        if not slash:
            return Place(self.fd, name or b".", owned=False)
        return Place(self.open_folder(folder), name, owned=True)

    def open_folder(self, path: bytes) -> int:
        """A descriptor (O_PATH) of a folder."""
        if self._openat2 and len(path) < PATH_MAX:
            return self._open_at_once(path)
        return self._open_step_by_step(path)

    def _open_at_once(self, path: bytes) -> int:
        fd: int = _syscall(SYS_OPENAT2, self.fd, path, _HOW, len(_HOW))
        if fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return fd

    def _open_step_by_step(self, path: bytes) -> int:
        here = self.fd
        for name in path.split(b"/"):
            if name in (b"", b".", b".."):
                number = errno.ENOENT
                raise OSError(number, os.strerror(number))
            try:
                following = os.open(name, FOLDER, dir_fd=here)
            finally:
                if here != self.fd:
                    os.close(here)
            here = following
        return here
