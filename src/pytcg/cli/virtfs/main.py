"""pytcg-virtfs-proxy-helper, with virtfs-proxy-helper's command line and `-r`."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytcg.cli import getopt_long
from pytcg.cli.program import leave_terminal
from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.model import Trusted
from pytcg.ninep.proxy.helper import Helper, drop_capabilities

TOOL: Final = "pytcg-virtfs-proxy-helper"
USAGE: Final = f"""usage: {TOOL}
 -p|--path <path> 9p path to export
 {{-f|--fd <socket-descriptor>}} socket file descriptor to be used
 {{-s|--socket <socketname> socket file used for communication
 \t-u|--uid <uid> -g|--gid <gid>}} - uid:gid combination to give  access to this socket
 \tNote: -s & -f can not be used together
 [-n|--nodaemon] Run as a normal program
 [-r|--readonly] Refuse to change anything
"""
LONG: Final = {"path": "p", "fd": "f", "socket": "s", "uid": "u", "gid": "g", "nodaemon": "n",
               "readonly": "r", "help": "h"}  # fmt: skip
TAKES_VALUE: Final = "pfsug"
UMASK: Final = 0o007  # of the socket


class ToolError(Exception):
    """What the user is told in one line."""


@dataclass
class Settings:
    """The command line."""

    path: str = ""
    socket: str | None = None
    fd: int | None = None
    uid: int | None = None
    gid: int | None = None
    daemon: bool = True
    read_only: bool = False


def parse(words: Sequence[str]) -> Settings | None:
    """The settings, None if help was asked for; ToolError."""
    wanted = {name: letter in TAKES_VALUE for long, letter in LONG.items()
              for name in (long, letter)}  # fmt: skip
    try:
        given, rest = getopt_long.parse(words, wanted)
    except getopt_long.OptionError as error:
        raise ToolError(f"{error.what} option or argument: {error.word}") from None
    if rest:
        raise ToolError(f"unexpected argument '{rest[0]}'")
    settings = Settings()
    for name, value in given:
        letter = LONG.get(name, name)
        if letter == "h":
            return None
        _set(settings, letter, value)
    _check(settings)
    return settings


def _set(settings: Settings, letter: str, value: str) -> None:
    numbers = {"f": "fd", "u": "uid", "g": "gid"}
    if letter == "p":
        settings.path = value
    elif letter == "s":
        settings.socket = value
    elif letter == "n":
        settings.daemon = False
    elif letter == "r":
        settings.read_only = True
    elif not value.isdecimal() or int(value) >= 1 << 31:
        raise ToolError(f"-{letter}: '{value}' is not a number")
    else:
        setattr(settings, numbers[letter], int(value))


def _check(settings: Settings) -> None:
    if (settings.socket is None and settings.fd is None) or not settings.path:
        raise ToolError("socket, socket descriptor or path not specified")
    if settings.socket is not None and settings.fd is not None:
        raise ToolError("both named socket and socket descriptor specified")
    if settings.socket is not None and None in (settings.uid, settings.gid):
        raise ToolError("owner uid:gid not specified, owner uid:gid specifies who can access the"
                        " socket file")  # fmt: skip


def open_root(path: str) -> Root:
    """The folder; ToolError."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise ToolError(f'specified path "{path}" is not directory')
        return Root(path)
    except OSError as error:
        raise ToolError(f'invalid path "{path}" specified, {error.strerror}') from error


def listen(settings: Settings) -> socket.socket:
    """The socket that an emulator connects to; ToolError."""
    assert settings.socket is not None and settings.uid is not None and settings.gid is not None
    if os.path.lexists(settings.socket):
        raise ToolError("socket already exists")
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(UMASK)
    try:
        listener.bind(settings.socket)
        os.chown(settings.socket, settings.uid, settings.gid)
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise ToolError(f"{settings.socket}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


def _connection(settings: Settings, listener: socket.socket | None) -> socket.socket:
    if listener is not None:
        with listener:
            return listener.accept()[0]
    assert settings.fd is not None
    return socket.socket(fileno=settings.fd)


def _open_descriptor(fd: int) -> None:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise ToolError(f"descriptor {fd} is not a socket")
    except OSError as error:
        raise ToolError(f"descriptor {fd}: {error.strerror}") from error


def _daemonize() -> None:
    """Into the background, as daemon(3)."""
    if os.fork():
        os._exit(0)
    os.setsid()
    leave_terminal()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit status."""
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        if settings is None:
            print(USAGE, end="", file=sys.stderr)
            return 1
        return _run(settings)
    except ToolError as error:
        print(f"{TOOL}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(settings: Settings) -> int:
    folder = LocalFolder(open_root(settings.path), Trusted(), read_only=settings.read_only)
    if settings.fd is not None:
        _open_descriptor(settings.fd)
    listener = None if settings.socket is None else listen(settings)
    if settings.daemon:
        _daemonize()
    try:
        with _connection(settings, listener) as connection:
            os.umask(0)
            if os.geteuid() == 0:
                drop_capabilities()
            Helper(folder).serve(connection)
    except OSError as error:
        raise ToolError(error.strerror or str(error)) from error
    return 0
