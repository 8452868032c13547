"""Data from a host file to a socket with no copy in between: splice(2), by way of a pipe.

Into the pipe go references to the page cache's pages, before anything is promised to the peer: so
a disk that can't be read is an error reply still. bench/nbd.py measures it ("read raw").
"""

from __future__ import annotations

import contextlib
import os
import sys

from pytcg.block.protocols.nbd.channel import Channel

#: Shorter runs cost more in system calls than a copy does.
LEAST = 64 << 10
_CAPACITY = 1 << 20  # what an ordinary user may ask for a pipe
_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032
_SPLICE_F_NONBLOCK = 2

if sys.platform == "linux":
    from fcntl import fcntl

    def _make_pipe() -> tuple[int, int, int]:
        """The reading end, the writing end, how many bytes fit."""
        reader, writer = os.pipe()
        with contextlib.suppress(OSError):  # beyond the user's share pipes are small
            fcntl(writer, _F_SETPIPE_SZ, _CAPACITY)
        return reader, writer, fcntl(writer, _F_GETPIPE_SZ)

else:

    def _make_pipe() -> tuple[int, int, int]:
        """No splice(2): a pipe that nothing fits into."""
        return -1, -1, 0


class Splicer:
    """One thread's pipe, made when it is first needed."""

    def __init__(self) -> None:
        self._reader = self._writer = -1
        self._capacity = _CAPACITY

    def load(self, fd: int, offset: int, length: int) -> bool:
        """Take a range of a file; False, with nothing taken, if it has to be read instead."""
        if length > self._capacity:
            return False
        try:
            if self._reader < 0:
                self._reader, self._writer, self._capacity = _make_pipe()
            left = length
            while left and length <= self._capacity:
                taken = os.splice(fd, self._writer, left, offset_src=offset,
                                  flags=_SPLICE_F_NONBLOCK)
                if not taken:  # the end of the file
                    break
                offset, left = offset + taken, left - taken
        except BlockingIOError:  # parts of pages take as much room as whole ones
            left = length
        except OSError:  # reading tells better what is wrong, or does what this host can't
            left, self._capacity = length, 0  # and goes on doing it
        if left:
            self.close()
        return not left

    def unload(self, channel: Channel, length: int) -> None:
        """Send what was loaded. Raises ConnectionLost."""
        channel.splice(self._reader, length)

    def close(self) -> None:
        """Give the pipe back, with what is in it."""
        for fd in (self._reader, self._writer):
            if fd >= 0:
                os.close(fd)
        self._reader = self._writer = -1
