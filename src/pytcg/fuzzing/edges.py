"""`EdgeMap`: counts of the edges between blocks, as AFL++ and libFuzzer count them."""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from pytcg.errors import CpuError
from pytcg.exec.layout import ExecEnv, Slot
from pytcg.softmmu.ram import HostBuffer
from pytcg_native import load8, load64, native, ptr, store8, store64, u8, u32, u64

if TYPE_CHECKING:
    import numpy.typing as npt

    from pytcg.cpu import Cpu

MAP_SIZE = 1 << 16


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
