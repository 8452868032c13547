"""pytcg-ivshmem-server, with ivshmem-server's command line."""

from __future__ import annotations

import getopt
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytcg.cli.program import leave_terminal
from pytcg.ivshmem.protocol import MAX_VECTORS
from pytcg.ivshmem.server import IvshmemServer

TOOL: Final = "pytcg-ivshmem-server"
SOCKET: Final = "/tmp/ivshmem_socket"
_UNITS: Final = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
USAGE: Final = f"""Usage: {TOOL} [OPTION]...
  -h: show this help
  -v: verbose mode
  -F: foreground mode (default is to daemonize)
  -p <pid-file>: path to the PID file (used in daemon mode only)
     default /var/run/ivshmem-server.pid
  -S <unix-socket-path>: path to the unix socket to listen to
     default {SOCKET}
  -M <shm-name>: POSIX shared memory object to use
     default ivshmem
  -m <dir-name>: where to create shared memory
  -l <size>: size of shared memory in bytes
     suffixes K, M and G can be used, e.g. 1K means 1024
     default 4194304
  -n <nvectors>: number of vectors
     default 1
"""


class ToolError(Exception):
    """What the user is told in one line."""


@dataclass
class Settings:
    """The command line."""

    verbose: bool = False
    foreground: bool = False
    pid_file: str = "/var/run/ivshmem-server.pid"
    socket: str = SOCKET
    name: str = "ivshmem"
    folder: str | None = None
    size: int = 4 << 20
    vectors: int = 1


def parse(words: Sequence[str]) -> Settings | None:
    """The settings, None if help was asked for; ToolError."""
    try:
        pairs, rest = getopt.getopt(list(words), "hvFp:S:m:M:l:n:")
    except getopt.GetoptError as error:
        raise ToolError(str(error)) from None
    if rest:
        raise ToolError(f"unexpected argument '{rest[0]}'")
    settings = Settings()
    names = {"-p": "pid_file", "-S": "socket", "-M": "name", "-m": "folder"}
    for name, value in pairs:
        if name == "-h":
            return None
        if name in names:
            setattr(settings, names[name], value)
        elif name == "-l":
            settings.size = _size(value)
        elif name == "-n":
            settings.vectors = _vectors(value)
        else:
            settings.verbose |= name == "-v"
            settings.foreground |= name == "-F"
    return settings


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([bkmgt]?)", text, re.IGNORECASE)
    size = int(found[1]) << _UNITS[found[2].lower()] if found else 0
    if not 0 < size < 1 << 48:
        raise ToolError(f"cannot parse shm size: '{text}'")
    if size & size - 1:
        raise ToolError("shared memory size must be a power of two")
    return size


def _vectors(text: str) -> int:
    if not text.isdecimal() or int(text) > MAX_VECTORS:
        raise ToolError(f"nvectors must be a number up to {MAX_VECTORS}")
    return int(text)


def open_memory(settings: Settings) -> int:
    """The descriptor of the shared memory: a POSIX object, or a file that has no name any more."""
    try:
        if settings.folder is not None:
            fd = os.open(settings.folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        else:
            path = Path("/dev/shm") / settings.name.lstrip("/")
            fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if os.fstat(fd).st_size < settings.size:
            os.ftruncate(fd, settings.size)
    except OSError as error:
        raise ToolError(f"cannot open shared memory: {error.strerror}") from error
    return fd


def listen(path: str) -> socket.socket:
    """A socket there that nobody else listens on; ToolError."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(path)
        listener.listen(5)
    except OSError as error:
        listener.close()
        raise ToolError(f"cannot connect to '{path}': {error.strerror or error}") from error
    return listener


def daemonize(pid_file: str) -> None:
    """Go to the background; only then is the PID file written."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        Path(pid_file).write_text(f"{os.getpid()}\n")
    except OSError as error:
        raise ToolError(f"cannot create pid file '{pid_file}': {error.strerror}") from error
    leave_terminal()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        if settings is None:
            print(USAGE, end="")
            return 0
        return _run(settings)
    except ToolError as error:
        print(f"{TOOL}: {error}", file=sys.stderr)
        return 1


def _run(settings: Settings) -> int:
    memory, listener = open_memory(settings), listen(settings.socket)
    try:
        if not settings.foreground:
            daemonize(settings.pid_file)

        def say(text: str) -> None:
            if settings.verbose:
                print(text, flush=True)

        server = IvshmemServer(listener, memory, settings.vectors, say)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, lambda number, frame: server.stop())
        server.serve()
    finally:
        listener.close()
        os.close(memory)
        for path in (settings.socket, *([] if settings.foreground else [settings.pid_file])):
            with suppress(OSError):
                os.unlink(path)
    return 0
