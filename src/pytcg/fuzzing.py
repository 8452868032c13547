"""Fuzzing: a map of edges as AFL++ counts them, and a harness that afl-fuzz drives.

A harness puts an input into guest memory, runs it from a snapshot, and says whether it crashed:

    def run(data: bytes) -> Stop:
        cpu.restore(snapshot)
        cpu.write(BUFFER, data)
        return cpu.run(start, end, max_insns=1_000_000)

    fuzz(cpu, run)

`afl-fuzz -i in -o out -- python harness.py @@` then fuzzes it (with AFL_SKIP_BIN_CHECK=1, as Python
is not instrumented); without afl-fuzz the harness runs the files named on the command line.
Several cores take several afl-fuzz (-M and -S): each harness is a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytcg.errors import CpuError
from pytcg.exec.layout import ExecEnv, Slot
from pytcg.softmmu.ram import HostBuffer
from pytcg_native import load8, load64, native, ptr, store8, store64, u8, u32, u64

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytcg.cpu import Cpu
    from pytcg.library.stop import Stop

MAP_SIZE = 1 << 16
_CONTROL, _STATUS = 198, 199  # AFL's fork server: file descriptors for requests and answers
_SHM_VARIABLE = "__AFL_SHM_ID"


@native
def note_edge(env: ExecEnv, data: ptr, address: u64, size: u32) -> None:
    """Count the edge from the last block to this one, as AFL's instrumentation does.

    ``data``: the last block's number, the map's mask, the map's address.
    """
    here: u64 = ((address * 0x9E37_79B9_7F4A_7C15) >> 32) & load64(data, 8)
    where: u64 = here ^ load64(data)
    edges: ptr = ptr(Slot(data + 16).record)
    count: u8 = load8(edges, where) + 1
    # A count that comes round to 0 would hide the edge.
    store8(edges, where, count if count != 0 else u8(1))
    store64(data, 0, here >> 1)


class EdgeMap:
    """Edge counts of a processor's runs, in ``size`` bytes (a power of two)."""

    def __init__(self, cpu: Cpu, *, size: int = MAP_SIZE, address: int | None = None,
                 start: int = 0, end: int | None = None):  # fmt: skip
        if size < 1 or size & (size - 1):
            raise CpuError(f"a map of {size} bytes: that is no power of two")
        self._own = HostBuffer(-(-size // 4096) * 4096, huge=False) if address is None else None
        self.address = self._own.address if self._own is not None else address or 0
        self.size = size
        self._head = HostBuffer(4096, huge=False)
        cpu._cpu.engine.attach([self._head, *([self._own] if self._own else [])])
        self._head.view[8:24] = struct.pack("<QQ", size - 1, self.address)
        self._hook = cpu.hooks.block(note_edge, start, end, data=self._head.address)

    @property
    def edges(self) -> npt.NDArray[np.uint8]:
        """The map itself, not a copy."""
        # Safe: the memory is this object's, or the caller's, who gave its address.
        memory: Any = (ctypes.c_uint8 * self.size).from_address(self.address)
        return np.frombuffer(memory, np.uint8)

    def begin(self) -> None:
        """A run begins: no block came before it."""
        self._head.view[0:8] = bytes(8)

    def clear(self) -> None:
        """Forget all counts."""
        self.begin()
        self.edges[:] = 0

    def remove(self) -> None:
        """Count no more."""
        self._hook.remove()


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
