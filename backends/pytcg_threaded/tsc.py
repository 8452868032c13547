"""The host's time-stamp counter, as guest code reads it, and its rate."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable

from pytcg.softmmu.ram import HostBuffer
from pytcg_llvm.cache import FACTS, CacheError, ObjectCache

_READ = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""RDTSC; SHL RDX, 32; OR RAX, RDX; RET: what the op `cycles` becomes."""
_BOOT = "/proc/sys/kernel/random/boot_id"


@functools.cache
def _counter() -> tuple[HostBuffer, Callable[[], int]]:
    buffer = HostBuffer(4096, huge=False)
    buffer.view[: len(_READ)] = _READ
    buffer.seal(0, 4096)
    # These bytes, without parameters; the buffer is kept beside what calls it.
    return buffer, ctypes.CFUNCTYPE(ctypes.c_uint64)(buffer.address)


def host_cycles() -> int:
    """The host's time-stamp counter."""
    return _counter()[1]()


@functools.cache
def tsc_frequency() -> int:
    """The counter's rate in Hz; what was measured since the host's boot is kept."""
    boot = _boot()
    try:
        known = ObjectCache(FACTS)
    except CacheError:
        return _measure()
    kept = (known.load("host/tsc") or b"").decode().split()
    if boot and len(kept) == 2 and kept[0] == boot:
        return int(kept[1])
    made = _measure()
    if boot:
        known.store("host/tsc", f"{boot} {made}".encode())
    return made


def _boot() -> str:
    """Names the time since the host was started; "" where nothing does."""
    try:
        with open(_BOOT, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _measure() -> int:
    """Against the monotonic clock."""
    def once() -> tuple[int, int, int]:
        before = time.monotonic_ns()
        cycles = host_cycles()
        after = time.monotonic_ns()
        return after - before, (before + after) // 2, cycles

    def sample() -> tuple[int, int]:
        # The quickest of several: a preempted one (or the first, which links) says nothing.
        _, middle, cycles = min(once() for _ in range(16))
        return middle, cycles

    time_0, cycles_0 = sample()
    time.sleep(0.02)
    time_1, cycles_1 = sample()
    return (cycles_1 - cycles_0) * 1_000_000_000 // (time_1 - time_0)
