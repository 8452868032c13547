"""Proxy helpers as processes: ours and QEMU's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytcg.ninep.local.beneath import Root
from pytcg.ninep.local.folder import LocalFolder
from pytcg.ninep.local.model import Trusted
from pytcg.ninep.proxy.helper import Helper

OUR_HELPER = (sys.executable, "-c",
              "import sys; from pytcg.cli.virtfs.main import main; sys.exit(main())")  # fmt: skip
QEMU_HELPER = ("/usr/lib/qemu/virtfs-proxy-helper",)
SOURCES = os.pathsep.join(sys.path)


@contextmanager
def helper(folder: Path, program: Sequence[str], *options: str) -> Iterator[socket.socket]:
    """A helper that serves a folder; the emulator's end of its connection."""
    if program == QEMU_HELPER and (not Path(program[0]).exists() or os.geteuid()):
        pytest.skip("QEMU 7.2's helper is of package qemu-system-common, and for root")
    ours, theirs = socket.socketpair()
    with ours:
        command = [*program, "-n", "-p", str(folder), "-f", str(theirs.fileno()), *options]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()],
                                   stderr=subprocess.DEVNULL,
                                   env={**os.environ, "PYTHONPATH": SOURCES})  # fmt: skip
        theirs.close()
        yield ours
    assert process.wait(20) == 0


@contextmanager
def helper_thread(folder: Path) -> Iterator[socket.socket]:
    """Our helper in a thread."""
    ours, theirs = socket.socketpair()
    server = Helper(LocalFolder(Root(str(folder)), Trusted()))
    thread = threading.Thread(target=server.serve, args=(theirs,))
    thread.start()
    with ours, theirs:
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        thread.join(20)
    assert not thread.is_alive()
