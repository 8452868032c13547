"""qcow2's place for a machine's state: guest clusters behind the disk's end.

It begins where the first L1 entry begins that the disk itself doesn't need; snapshots freeze it
along with the disk.
"""

from __future__ import annotations

import errno

from pytcg.block.device import BlockError
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.device import Qcow2Device


def _place(device: Qcow2Device, position: int, length: int) -> int:
    offset = device.vm_state_offset + position
    if offset + length >> 63:
        raise BlockError("Input/output error", errno.EIO)
    return offset


def read_vm_state(device: Qcow2Device, position: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from a position of the state; what was never written is zero."""
    offset = _place(device, position, len(buffer))
    with device.lock:
        token = device.begin()
    try:
        device.read_range(offset, buffer)
    finally:
        device.end(token)


def write_vm_state(device: Qcow2Device, position: int, data: memoryview) -> None:
    """Store a part of the state."""
    offset = _place(device, position, len(data))
    device.check_range(0, 0, write=True)
    device.writer.store(offset, data)


def grow_l1_for(device: Qcow2Device, entries: int) -> None:
    """Make the L1 table long enough, with room to grow."""
    from pytcg.block.formats.qcow2.resize import grow_l1

    size = max(1, len(device.map.l1))
    while size < entries:
        size = -(-size * 3 // 2)
    grow_l1(device, size)
