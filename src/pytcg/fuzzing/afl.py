"""afl-fuzz's side of a harness: its fork server's protocol, without a fork for each input.

What afl-fuzz starts is the server; the inputs run in a second process of the same harness, one
after the other. That one afl-fuzz kills if an input takes too long; the server starts another.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytcg.errors import CpuError
from pytcg.fuzzing.edges import MAP_SIZE, EdgeMap

if TYPE_CHECKING:
    from pytcg.cpu import Cpu
    from pytcg.library.stop import Stop

_CONTROL, _STATUS = 198, 199  # AFL's fork server: file descriptors for requests and answers
_SHM_VARIABLE = "__AFL_SHM_ID"
_PIPES_VARIABLE = "PYTCG_AFL_PIPES"
"""Tells the second process where requests come from and answers go to."""


def fuzz(cpu: Cpu, run: Callable[[bytes], Stop], *, crashes: Sequence[str] = ("exception",),
         start: int = 0, end: int | None = None, arguments: Sequence[str] | None = None) -> int:
    """Be a target of afl-fuzz, or run the files named in ``arguments`` (default: sys.argv).

    ``run`` gets each input; a `Stop` of one of the kinds ``crashes`` is a crash, one of kind
    "timeout" a hang. Coverage counts code between ``start`` and ``end``. Returns an exit status.
    """
    names = list(sys.argv[1:] if arguments is None else arguments)
    shared = os.environ.get(_SHM_VARIABLE)
    if shared is None:
        return _run_files(run, names, crashes)
    pipes = os.environ.pop(_PIPES_VARIABLE, None)
    if pipes is None and _greet():
        return _serve()
    size = int(os.environ.get("AFL_MAP_SIZE", MAP_SIZE))
    edges = EdgeMap(cpu, size=1 << (size.bit_length() - 1), address=_attach(int(shared)),
                    start=start, end=end)  # fmt: skip
    if pipes is None:  # afl-showmap and others run the target by itself
        edges.begin()
        return int(run(_input(names)).kind in crashes)
    return _work(run, edges, names, crashes, *map(int, pipes.split(",")))


def _run_files(run: Callable[[bytes], Stop], names: list[str], crashes: Sequence[str]) -> int:
    """Without afl-fuzz: run each file, say how it ended."""
    status = 0
    for name in names:
        try:
            data = Path(name).read_bytes()
        except OSError as error:
            print(f"{name}: {error.strerror}", file=sys.stderr)
            return 1
        stop = run(data)
        print(f"{name}: {stop}")
        status = max(status, int(stop.kind in crashes))
    return status


def _greet() -> bool:
    """Tell afl-fuzz that there is a fork server; whether anybody listens."""
    try:
        os.write(_STATUS, struct.pack("<I", 0))
    except OSError:
        return False
    return True


def _serve() -> int:
    """AFL's fork server: have each input run, and report how that ended."""
    worker = _Worker()
    while len(os.read(_CONTROL, 4)) == 4:
        if worker.killed:
            worker = _Worker()
        os.write(_STATUS, struct.pack("<I", worker.pid))
        status = worker.run()
        if status is None:
            return worker.status
        os.write(_STATUS, struct.pack("<I", status))
    return 0


class _Worker:
    """This harness once more, in a process that may be killed."""

    def __init__(self) -> None:
        asked, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]], pass_fds=(asked, answer),
            env={**os.environ, _PIPES_VARIABLE: f"{asked},{answer}"})  # fmt: skip
        os.close(asked)
        os.close(answer)
        self.pid = self._process.pid
        self.killed = False
        self._answer()  # it is ready, or `run` sees that it is gone

    @property
    def status(self) -> int:
        """It has ended by itself: with which status."""
        return self._process.wait()

    def run(self) -> int | None:
        """The status of a run, as wait(2) has it; None if the process has ended by itself."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ask, b"r")
        status = self._answer()
        if status is None:
            os.close(self._ask)
            os.close(self._answers)
            ended = self._process.wait()
            self.killed = ended < 0
            return -ended if ended < 0 else None
        return status

    def _answer(self) -> int | None:
        data = os.read(self._answers, 4)
        return int.from_bytes(data, "little") if len(data) == 4 else None


def _work(run: Callable[[bytes], Stop], edges: EdgeMap, names: list[str], crashes: Sequence[str],
          requests: int, answers: int) -> int:  # fmt: skip
    """The second process: each request is a run from the snapshot."""
    os.write(answers, bytes(4))
    while os.read(requests, 1):
        edges.begin()
        stop = run(_input(names))
        status = 0
        if stop.kind in crashes:
            status = signal.SIGSEGV
        elif stop.kind == "timeout":
            status = signal.SIGKILL
        os.write(answers, struct.pack("<I", status))
    return 0


def _input(names: list[str]) -> bytes:
    if names:
        return Path(names[0]).read_bytes()
    os.lseek(0, 0, os.SEEK_SET)
    return os.read(0, 1 << 20)


def _attach(identifier: int) -> int:
    """The address of a System V shared memory segment."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    # shmat(int, const void *, int) returns a pointer, -1 for an error (its manual page).
    libc.shmat.restype = ctypes.c_void_p
    libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
    address = libc.shmat(identifier, None, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        raise CpuError(f"no shared memory {identifier}: {os.strerror(ctypes.get_errno())}")
    return int(address)
