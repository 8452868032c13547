"""The agent's program: options, pidfile, log, and then it serves."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from types import FrameType
from typing import TextIO

from pytcg.ga import options as opt
from pytcg.ga.agent import VERSION, Agent, StartError
from pytcg.ga.channel import serve
from pytcg.ga.command import COMMANDS


class Stop(Exception):
    """A signal asks for the end."""


def main(words: list[str] | None = None) -> int:
    """Run the agent; returns the exit status."""
    try:
        settings, given = opt.parse(sys.argv[1:] if words is None else words)
    except opt.OptionError as error:
        opt.complain(str(error))
        print("Unknown option, try 'qemu-ga --help' for more information.")
        return 1
    asked = {row.long for row, _ in given}
    if "help" in asked:
        print(opt.usage("qemu-ga"), end="")
        return 0
    if "version" in asked:
        print(f"QEMU Guest Agent {VERSION}")
        return 0
    if "help" in settings.names("block-rpcs") + settings.names("allow-rpcs"):
        print("\n".join(COMMANDS))
        return 0
    if "dump-conf" in asked:
        print(settings.dump(), end="")
        return 0
    return _start(settings)


def _start(settings: opt.Settings) -> int:
    method, path = settings.method, settings.path
    if method not in opt.METHODS:
        opt.complain(f"unsupported channel method/type: {method}")
        return 1
    if path is None:
        opt.complain("must specify a path for this channel")
        return 1
    if settings.values.get("allow-rpcs") and settings.values.get("block-rpcs"):
        opt.complain("options --allow-rpcs and --block-rpcs are mutually exclusive")
        return 1
    try:
        log = _open_log(settings)
        agent = Agent(settings.get("statedir", "/var/run"), blocked=_blocked(settings),
                      freeze_hook=settings.get("fsfreeze-hook", ""), log=log,
                      verbose=settings.on("verbose"))  # fmt: skip
        if settings.on("daemon"):
            _daemonize(settings.get("pidfile", "/var/run/qemu-ga.pid"))
    except StartError as error:
        opt.complain(str(error))
        return 1
    return _serve(agent, method, path, retry=settings.on("retry-path"))


def _serve(agent: Agent, method: str, path: str, *, retry: bool) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        return serve(agent, method, path, retry=retry)
    except Stop:
        return 0
    finally:
        agent.close()
        if method == "unix-listen" and os.path.exists(path):
            os.unlink(path)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Stop


def _blocked(settings: opt.Settings) -> frozenset[str]:
    allowed = settings.names("allow-rpcs")
    if allowed:
        return frozenset(COMMANDS) - frozenset(allowed)
    return frozenset(settings.names("block-rpcs"))


def _open_log(settings: opt.Settings) -> TextIO:
    name = settings.values.get("logfile")
    if name is None:
        return sys.stderr
    try:
        return open(name, "a", encoding="utf-8", errors="replace")
    except OSError as error:
        raise StartError(f"unable to open specified log file: {error.strerror}") from error


def _daemonize(pidfile: str) -> None:
    """Go on in the background; the pidfile is locked as long as the agent lives."""
    try:
        fd = os.open(pidfile, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StartError(f"Cannot lock pid file, {error.strerror}") from error
    if os.fork():
        os._exit(0)
    fcntl.lockf(fd, fcntl.LOCK_EX)  # a lock is its process's
    os.setsid()
    os.ftruncate(fd, 0)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.chdir("/")
    os.umask(0o77)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)


if __name__ == "__main__":
    sys.exit(main())
