"""Where the host speaks: a virtio port, a serial line, or a socket that listens."""

from __future__ import annotations

import os
import select
import socket
import termios
import time
import tty
from typing import TYPE_CHECKING

from pytcg.ga.wire import Splitter

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

CHUNK = 65536
NOBODY_PAUSE = 0.1  # seconds between looks at a port whose other end is closed
RETRY_PAUSE = 5


class ChannelError(Exception):
    """It can't be opened; the text says why."""


def open_device(method: str, path: str) -> int:
    """A descriptor of a port or a serial line."""
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise ChannelError(f"error opening channel '{path}': {error.strerror}") from error
    if method == "isa-serial":
        try:
            tty.setraw(fd)
            settings = termios.tcgetattr(fd)
            settings[4] = settings[5] = termios.B38400
            termios.tcsetattr(fd, termios.TCSANOW, settings)
        except termios.error as error:
            os.close(fd)
            raise ChannelError(f"error configuring channel '{path}': {error.args[-1]}") from error
    return fd


def open_listener(method: str, path: str) -> socket.socket:
    """A listening socket."""
    try:
        if method == "vsock-listen":
            cid, _, port = path.partition(":")
            listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            listener.bind((int(cid), int(port)))
        else:
            if os.path.exists(path):
                os.unlink(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ChannelError(f"Failed to bind socket to {path}: {reason}") from error
    listener.listen(1)
    return listener


def serve_device(agent: Agent, fd: int) -> None:
    """Until the device is gone. Nobody at the other end is no end."""
    splitter = Splitter()
    while True:
        select.select([fd], [], [])
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            continue
        except OSError as error:
            agent.log("warning", f"error reading channel: {error.strerror}")
            return
        if not data:
            time.sleep(NOBODY_PAUSE)
            continue
        if not _write(agent, fd, agent.serve(splitter, data)):
            return


def _write(agent: Agent, fd: int, data: bytes) -> bool:
    """All of it, however slowly it is read."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [], 1)
        except OSError as error:
            agent.log("warning", f"error writing to channel: {error.strerror}")
            return False
    return True


def serve_listener(agent: Agent, listener: socket.socket) -> None:
    """One client after another, for ever."""
    while True:
        client, _ = listener.accept()
        with client:
            splitter = Splitter()
            while True:
                try:
                    data = client.recv(CHUNK)
                    if not data:
                        break
                    client.sendall(agent.serve(splitter, data))
                except OSError as error:
                    agent.log("debug", f"client went away: {error.strerror}")
                    break


def serve(agent: Agent, method: str, path: str, *, retry: bool) -> int:
    """Serve the host; an exit status if that ends."""
    while True:
        try:
            if method.endswith("-listen"):
                serve_listener(agent, open_listener(method, path))
            fd = open_device(method, path)
        except ChannelError as error:
            agent.log("critical", str(error))
            if not retry:
                agent.log("critical", "failed to create guest agent channel")
                return 1
        else:
            serve_device(agent, fd)
            os.close(fd)
            if not retry:
                return 1
        time.sleep(RETRY_PAUSE)
