"""Memory slots: the RAM window's parts where the guest sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytcg.accel.kvm.abi import MemoryFlag, struct
from pytcg.softmmu.perm import Perm

if TYPE_CHECKING:
    from pytcg.accel.kvm.device import KvmFile
    from pytcg.softmmu.ram import RamWindow


_MOST = 1 << 40
"""Physical addresses that any processor has."""


class Memory(Protocol):
    """Physical memory as rows of `pytcg.exec.layout.RANGE`."""

    window: RamWindow
    version: int

    def ranges(self) -> Iterable[tuple[int, int, int, int, int]]: ...


class Slot(NamedTuple):
    """One KVM memory region."""

    start: int
    size: int
    host: int
    flags: int


class Slots:
    """Keeps a VM's memory regions the same as an address map's."""

    def __init__(self, vm: KvmFile, memory: Memory, extra: tuple[Slot, ...] = ()):
        self._vm = vm
        self._extra = extra
        self._memory = memory
        self._slots: dict[Slot, int] = {}  # numbers
        self._version = -1

    def update(self) -> None:
        """Make the regions those of the map; its processors are not in the guest."""
        if self._version == self._memory.version:
            return
        self._version = self._memory.version
        wanted = self._wanted()
        for slot in self._slots.keys() - wanted:
            self._set(self._slots.pop(slot), slot._replace(size=0))
        numbers = set(self._slots.values())
        free = iter(number for number in range(len(wanted)) if number not in numbers)
        for slot in sorted(wanted - self._slots.keys()):
            self._slots[slot] = number = next(free)
            self._set(number, slot)

    def forget_pages(self) -> None:
        """Have KVM forget what it knows of the guest's page tables: the host wrote some.

        Where it shadows them it sees the guest's own stores only. A slot that goes does that.
        """
        if self._slots:
            slot, number = next(iter(self._slots.items()))
            self._set(number, slot._replace(size=0))
            self._set(number, slot)

    def _wanted(self) -> set[Slot]:
        """Stores that loads don't see afterwards come as MMIO: the slot is read-only."""
        base, found = self._memory.window.address, list[Slot]()
        for start, end, offset, stores, perms in self._memory.ranges():
            if not perms & Perm.READ or perms & Perm.DEVICE or end > _MOST:
                continue
            flags = 0 if stores == offset and perms & Perm.WRITE else MemoryFlag.READONLY
            slot = Slot(start, end - start, base + offset, int(flags))
            last = found[-1] if found else None
            if (last is not None and last.flags == slot.flags and last.start + last.size == start
                    and last.host + last.size == slot.host):  # fmt: skip
                found[-1] = last._replace(size=last.size + slot.size)
            else:
                found.append(slot)
        return {*found, *self._extra}

    def _set(self, number: int, slot: Slot) -> None:
        region = struct("memory_region")
        region.slot, region.flags = number, slot.flags
        region.guest_phys_addr, region.memory_size = slot.start, slot.size
        region.userspace_addr = slot.host
        self._vm.ioctl("SET_USER_MEMORY_REGION", region)
