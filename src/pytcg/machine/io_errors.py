"""What becomes of requests that fail: `rerror=` and `werror=`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final, NamedTuple

READ_ACTIONS: Final = ("ignore", "report", "stop")
WRITE_ACTIONS: Final = ("ignore", "report", "stop", "enospc")


class Failure(NamedTuple):
    """A request that failed, and what is done about it, in QMP's words."""

    operation: str
    action: str
    errno: int

    @property
    def no_space(self) -> bool:
        """Whether the host's disk is full."""
        return self.errno == errno.ENOSPC

    @property
    def reason(self) -> str:
        """The host's words."""
        return os.strerror(self.errno)


class Policy:
    """A drive's: ``read`` and ``write`` are actions; "enospc" stops for a full disk only."""

    def __init__(self, read: str = "report", write: str = "enospc") -> None:
        self.read, self.write = read, write

    def judge(self, error: int, *, is_read: bool) -> Failure:
        """What to do about an errno."""
        action = self.read if is_read else self.write
        if action == "enospc":
            action = "stop" if error == errno.ENOSPC else "report"
        return Failure("read" if is_read else "write", action, error)


OnFailure = Callable[[Failure], None]
