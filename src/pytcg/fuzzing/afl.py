"""afl-fuzz's side of a harness: its fork server's protocol, without a fork."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
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
    size = int(os.environ.get("AFL_MAP_SIZE", MAP_SIZE))
    edges = EdgeMap(cpu, size=1 << (size.bit_length() - 1), address=_attach(int(shared)),
                    start=start, end=end)  # fmt: skip
    return _serve(run, edges, names, crashes)


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


def _serve(run: Callable[[bytes], Stop], edges: EdgeMap, names: list[str],
           crashes: Sequence[str]) -> int:  # fmt: skip
    """AFL's fork server without a fork: each request is a run from the snapshot."""
    try:
        os.write(_STATUS, struct.pack("<I", 0))
    except OSError:
        data = _input(names)  # afl-showmap and others run the target by itself
        edges.begin()
        return int(run(data).kind in crashes)
    process = struct.pack("<I", os.getpid())
    while len(os.read(_CONTROL, 4)) == 4:
        os.write(_STATUS, process)
        edges.begin()
        stop = run(_input(names))
        status = 0
        if stop.kind in crashes:
            status = signal.SIGSEGV
        elif stop.kind == "timeout":
            status = signal.SIGKILL
        os.write(_STATUS, struct.pack("<I", status))
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
