"""The ``file`` protocol: a host file or block device, with holes, discard and locks."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from functools import cache

from pytcg.block.device import BlockDevice, BlockError, Extent
from pytcg.block.protocols import locks

FIRST_BLOCK = 4096
SMALL = 65536
IOV_MAX = 1024
RWF_NOWAIT = 8
FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV, errno.EINVAL)


@cache
def _fallocate() -> Callable[[int, int, int, int], int]:
    # ctypes because the os module wraps posix_fallocate alone, which can't punch holes.
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def call(fd: int, mode: int, offset: int, length: int) -> int:
        return ctypes.get_errno() if function(fd, mode, offset, length) else 0

    return call


def fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """fallocate(2); False if the filesystem can't do it."""
    try:
        number = _fallocate()(fd, mode, offset, length)
    except (AttributeError, OSError):  # a host without the function
        return False
    if number and number not in _NO_FALLOCATE:
        raise BlockError(os.strerror(number), number)
    return number == 0


class PosixFile(BlockDevice):
    """A host file. Reads past its end give zeroes; writes there grow it."""

    format_name = "file"

    def __init__(self, filename: str, *, read_only: bool = False, no_flush: bool = False,
                 writethrough: bool = False, driver: str | None = None) -> None:
        """``driver``: the kind of file that it must be; any kind without one."""
        self.filename = filename
        self.read_only = read_only
        self.no_flush = no_flush
        self._synchronous = writethrough and not no_flush
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        if self._synchronous:
            flags |= os.O_DSYNC
        self.fd = -1
        try:
            self.fd = os.open(filename, flags)
            mode = os.fstat(self.fd).st_mode
        except OSError as error:
            self.close()
            raise BlockError.from_os(f"Could not open '{filename}'", error) from None
        except ValueError:  # a NUL in the name
            raise BlockError(f"Could not open '{filename}': No such file or directory",
                             errno.ENOENT) from None
        self.is_regular = stat.S_ISREG(mode)
        if driver is not None or not self.is_regular:
            self._require_kind(driver, is_device=stat.S_ISCHR(mode) or stat.S_ISBLK(mode))
        self.has_zero_init = self.is_regular

    def _require_kind(self, driver: str | None, *, is_device: bool) -> None:
        wanted = driver or ("host_device" if is_device else "file")
        if wanted == "file" and not self.is_regular:
            problem = "a regular file"
        elif wanted != "file" and not is_device:
            problem = "either a character or block device"
        else:
            self.format_name = wanted
            return
        self.close()
        raise BlockError(f"'{wanted}' driver requires '{self.filename}' to be {problem}",
                         errno.EINVAL)

    @classmethod
    def create(cls, filename: str, size: int = 0, *, preallocation: str = "off") -> PosixFile:
        """Make (or empty) a file of ``size`` bytes; a new image is not worth a flush."""
        try:
            fd = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # Not under the feet of a running guest.
                locks.acquire(fd, filename, locks.Perm.WRITE | locks.Perm.RESIZE,
                              locks.ALL & ~locks.Perm.RESIZE)
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    os.ftruncate(fd, 0)
            finally:
                os.close(fd)
        except OSError as error:
            raise BlockError.from_os(f"Could not create '{filename}'", error) from None
        made = cls(filename, no_flush=True)
        try:
            if made.is_regular:
                made.truncate(size, preallocation=preallocation)
            elif made.size < size:
                raise BlockError("The image size is too large for the device", errno.ENOSPC)
        except BlockError:
            made.close()
            raise
        return made

    def reopen(self, *, read_only: bool, perms: int, shared: int) -> None:
        """The same file, for writing or not, under the same descriptor; with these locks."""
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
        try:
            again = os.open(f"/proc/self/fd/{self.fd}", flags)
        except OSError as error:
            raise BlockError.from_os(f"Could not open '{self.filename}'", error) from None
        os.dup2(again, self.fd, inheritable=False)
        os.close(again)
        self.read_only = read_only
        self.lock(perms, shared)

    def lock(self, perms: int, shared: int) -> None:
        """Take QEMU's image locks for these permissions."""
        locks.acquire(self.fd, self.filename, perms, shared)

    @property
    def size(self) -> int:
        if self.is_regular:
            return os.fstat(self.fd).st_size
        return os.lseek(self.fd, 0, os.SEEK_END)

    @property
    def allocated_size(self) -> int | None:
        return os.fstat(self.fd).st_blocks * 512

    @property
    def is_cached(self) -> bool:
        return self.is_regular and not self._synchronous

    def pread(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self.fd, length, offset)
        except (OSError, OverflowError) as error:
            raise _io_error("read", error) from None
        if len(data) == length:
            return data
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        return self._now(os.preadv, offset, buffers, RWF_NOWAIT)

    def write_now(self, offset: int, buffers: Sequence[memoryview]) -> bool:
        # Few file systems take a buffered write with RWF_NOWAIT.
        return self.is_cached and not self.dirty and self._now(os.pwritev, offset, buffers, 0)

    def _now(self, call: Callable[[int, Sequence[memoryview], int, int], int], offset: int,
             buffers: Sequence[memoryview], flags: int) -> bool:  # fmt: skip
        for first in range(0, len(buffers), IOV_MAX):
            part = buffers[first : first + IOV_MAX]
            length = sum(map(len, part))
            try:
                if call(self.fd, part, offset, flags) != length:
                    return False
            except (OSError, OverflowError):
                return False
            offset += length
        return True

    def host_range(self, offset: int, length: int) -> tuple[int, int] | None:
        return (self.fd, offset) if self.is_regular else None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        while len(buffer):
            try:
                done = os.preadv(self.fd, [buffer], offset)
            except (OSError, OverflowError) as error:
                raise _io_error("read", error) from None
            if done == 0:  # past the end of the file
                buffer[:] = bytes(len(buffer))
                return
            offset += done
            buffer = buffer[done:]

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, *, fua: bool = False
               ) -> None:
        if self.dirty:
            self.note_write(offset, len(data))
        try:
            done = os.pwrite(self.fd, data, offset)
            while done < len(data):
                rest = memoryview(data)[done:]
                done += os.pwrite(self.fd, rest, offset + done)
            if fua:
                self.flush()
        except (OSError, OverflowError) as error:
            raise _io_error("write", error) from None

    def write_zeroes(self, offset: int, length: int, *, may_unmap: bool = True,
                     fua: bool = False) -> None:
        modes = [FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE] if may_unmap else []
        modes.append(FALLOC_ZERO_RANGE)
        end = self.size
        if self.is_regular and may_unmap and offset + length > end:
            self.truncate(offset + length)  # what lies beyond the end is a hole then
            length = max(0, end - offset)
        if not may_unmap and length <= SMALL:
            modes = []  # written sooner than ctypes is imported for the call
        if length and not any(fallocate(self.fd, mode, offset, length) for mode in modes):
            super().write_zeroes(offset, length)
        if fua:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        if length:
            fallocate(self.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)

    def layer_status(self, offset: int, length: int) -> Extent:
        end = offset + length
        try:
            data = os.lseek(self.fd, offset, os.SEEK_DATA)
            if data > offset:
                return Extent(min(data, end) - offset, False, True, offset=offset,
                              filename=self.filename)
            hole = os.lseek(self.fd, offset, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole up to the end of the file
                return Extent(length, False, True, offset=offset, filename=self.filename)
            hole = end
        return Extent(min(hole, end) - offset, True, False, offset=offset,
                      filename=self.filename)

    def flush(self) -> None:
        if not self.no_flush:
            try:
                os.fdatasync(self.fd)
            except OSError as error:
                raise _io_error("flush", error) from None

    def truncate(self, size: int, *, preallocation: str = "off") -> None:
        old = self.size
        if preallocation == "metadata":  # a file has none
            raise BlockError("Unsupported preallocation mode: metadata", errno.ENOTSUP)
        try:
            if preallocation == "falloc" and size > old:
                os.posix_fallocate(self.fd, old, size - old)
            else:
                os.ftruncate(self.fd, size)
            if old == 0 and size and preallocation == "off":
                # A file whose first block is a hole tells no one what alignment direct I/O needs.
                os.pwrite(self.fd, bytes(min(FIRST_BLOCK, size)), 0)
        except (OSError, OverflowError) as error:
            raise _io_error("Could not resize file", error) from None
        if preallocation == "full" and size > old:
            super().write_zeroes(old, size - old)

    def check_range(self, offset: int, length: int, *, write: bool = False) -> None:
        """A file grows by being written, so its present size is no bound."""

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _io_error(what: str, error: OSError | OverflowError) -> BlockError:
    if isinstance(error, OSError):
        return BlockError.from_os(what if " " in what else f"{what} failed", error)
    return BlockError(f"{what}: {os.strerror(errno.EFBIG)}", errno.EFBIG)
