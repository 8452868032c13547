"""guest-file-*: files that the host opens, by handles."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import CommandError, command, failed, from_base64

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

CREATE, TRUNCATE, APPEND = os.O_CREAT, os.O_TRUNC, os.O_APPEND
FLAGS = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | CREATE | TRUNCATE,
    "a": os.O_WRONLY | CREATE | APPEND,
    "r+": os.O_RDWR,
    "w+": os.O_RDWR | CREATE | TRUNCATE,
    "a+": os.O_RDWR | CREATE | APPEND,
}
PERMISSIONS = 0o666
READ_USUAL, READ_MOST = 4096, 48 << 20
WHENCE = {"set": os.SEEK_SET, "cur": os.SEEK_CUR, "end": os.SEEK_END}
NUMBERS = {0: os.SEEK_SET, 1: os.SEEK_CUR, 2: os.SEEK_END}


class OpenFile:
    """A descriptor that never blocks the agent: a pipe or a terminal may be behind it."""

    def __init__(self, path: str, flags: int) -> None:
        self.fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, PERMISSIONS)

    def read(self, count: int) -> tuple[bytes, bool]:
        """Up to so many bytes, and whether that was the end."""
        data = b""
        while len(data) < count:
            try:
                piece = os.read(self.fd, count - len(data))
            except BlockingIOError:
                if not data:
                    raise
                return data, False
            if not piece:
                return data, True
            data += piece
        return data, False

    def write(self, data: bytes) -> int:
        """How many were written; fewer where there is no room for more now."""
        done = 0
        while done < len(data):
            try:
                done += os.write(self.fd, data[done:])
            except BlockingIOError:
                if not done:
                    raise
                break
        return done

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def _find(agent: Agent, handle: int) -> OpenFile:
    if handle not in agent.files:
        raise CommandError(f"handle '{handle}' has not been found")
    return agent.files[handle]


def _valid_count(count: int, most: int) -> None:
    if not 0 <= count <= most:
        raise CommandError(f"value '{count}' is invalid for argument count")


@command("guest-file-open", {"path": str, "mode?": str})
def open_file(agent: Agent, path: str, mode: str = "r") -> int:
    """A handle for a file, opened as fopen(3) does."""
    plain = mode[0] + "+" * (mode.count("+") == 1) if mode else ""
    spelt = mode in (plain, f"{mode[:1]}b", f"{mode[:1]}b+", f"{mode[:1]}+b")
    if plain not in FLAGS or not spelt:
        raise CommandError(f"invalid file open mode '{mode}'")
    try:
        file = OpenFile(path, FLAGS[plain])
    except (OSError, ValueError) as error:
        what = f"failed to open file '{path}' (mode: '{mode}')"
        if isinstance(error, OSError):
            raise failed(what, error) from error
        raise CommandError(f"{what}: {error}") from error
    handle = agent.new_handle()
    agent.files[handle] = file
    return handle


@command("guest-file-close", {"handle": int})
def close_file(agent: Agent, handle: int) -> None:
    """The handle is used up."""
    file = _find(agent, handle)
    del agent.files[handle]
    try:
        file.close()
    except OSError as error:
        raise failed("failed to close handle", error) from error


@command("guest-file-read", {"handle": int, "count?": int})
def read_file(agent: Agent, handle: int, count: int = READ_USUAL) -> dict[str, Any]:
    """Bytes from where the file stands."""
    file = _find(agent, handle)
    _valid_count(count, READ_MOST)
    try:
        data, at_end = file.read(count)
    except OSError as error:
        raise failed("failed to read file", error) from error
    return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": at_end}


@command("guest-file-write", {"handle": int, "buf-b64": str, "count?": int})
def write_file(agent: Agent, handle: int, buf_b64: str, count: int | None = None
               ) -> dict[str, Any]:  # fmt: skip
    """Bytes to where the file stands."""
    file = _find(agent, handle)
    data = from_base64(buf_b64)
    if count is not None:
        _valid_count(count, len(data))
        data = data[:count]
    try:
        return {"count": file.write(data), "eof": False}
    except OSError as error:
        raise failed("failed to write to file", error) from error


@command("guest-file-seek", {"handle": int, "offset": int, "whence": (int, str)})
def seek_file(agent: Agent, handle: int, offset: int, whence: int | str) -> dict[str, Any]:
    """Stand elsewhere; the position from the beginning."""
    file = _find(agent, handle)
    if isinstance(whence, str):
        if whence not in WHENCE:
            raise CommandError(f"Parameter 'whence' does not accept value '{whence}'")
        origin = WHENCE[whence]
    elif whence in NUMBERS:
        origin = NUMBERS[whence]
    else:
        raise CommandError(f"invalid whence code {whence}")
    try:
        return {"position": os.lseek(file.fd, offset, origin), "eof": False}
    except OSError as error:
        raise failed("failed to seek file", error) from error


@command("guest-file-flush", {"handle": int})
def flush_file(agent: Agent, handle: int) -> None:
    """Nothing is kept back here: every write has reached the system."""
    _find(agent, handle)
