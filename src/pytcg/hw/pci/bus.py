"""A PCI bus with its slots, and configuration mechanism 1 in front of it (PCI 3.0, 3.2.2.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pytcg.hw.line import Line
from pytcg.hw.pci.bar import BarSpace
from pytcg.hw.pci.config import SIZE, Reg
from pytcg.hw.pci.device import DmaError, DmaMap, PciDevice
from pytcg.hw.pci.msi import Deliver
from pytcg.hw.state import State, StateError, load, save

NOBODY: Final = 0xFFFFFFFF
ADDRESS_WRITABLE: Final = 0x80FFFFFC
ENABLE: Final = 0x80000000
SLOTS: Final = 32
PIRQS: Final = 4


class DmaMemory(Protocol):
    """Guest memory as bus masters see it; DmaError where there is none."""

    def dma_read(self, address: int, length: int) -> bytes: ...

    def dma_write(self, address: int, data: bytes) -> None: ...

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> DmaMap | None: ...


def swizzle(slot: int, pin: int) -> int:
    """The PIRQ (0 to 3) of a slot's pin (1 for INTA) on the i440FX board, as QEMU wires it."""
    return (pin - 1 + slot - 1) % PIRQS


class PciBus:
    """Bus 0: `plug` devices, `pirq[0..3]` are the interrupt lines, each the OR of its pins."""

    def __init__(self, space: BarSpace, memory: DmaMemory, deliver: Deliver,
                 route: Callable[[int, int], int] = swizzle, pirqs: int = PIRQS) -> None:
        self.map_bar = space.map_bar
        self.unmap_bar = space.unmap_bar
        self.dma_read = memory.dma_read
        self.dma_write = memory.dma_write
        self.dma_map = memory.dma_map
        self.deliver = deliver
        self.pirq = [Line() for _ in range(pirqs)]
        self.devices: dict[int, PciDevice] = {}
        self._route = route
        self._high: list[set[int]] = [set() for _ in range(pirqs)]

    def plug(self, device: PciDevice, slot: int | None = None, function: int = 0) -> None:
        """Put a device into a slot, the first free one if none is given; ValueError if taken."""
        if slot is None:
            taken = {devfn >> 3 for devfn in self.devices}
            slot = next((number for number in range(SLOTS) if number not in taken), SLOTS)
        devfn = slot << 3 | function
        if slot >= SLOTS or devfn in self.devices:
            where = f"slot {slot:#x} function {function}"
            raise ValueError(f"PCI: {where} is not available for {type(device).__name__}")
        device.devfn, device.host = devfn, self
        self.devices[devfn] = device
        device.reset()

    def unplug(self, device: PciDevice) -> None:
        """Take a device out of its slot."""
        device.reset()
        del self.devices[device.devfn]
        device.host = None

    def set_pin(self, device: PciDevice, level: bool) -> None:
        """Drive the interrupt pin of a device."""
        pin = device.config.get(Reg.INTERRUPT_PIN, 1)
        if pin:
            number = self._route(device.devfn >> 3, pin)
            high = self._high[number]
            (high.add if level else high.discard)(device.devfn)
            self.pirq[number].set(bool(high))

    def reset(self) -> None:
        """RST# of every device."""
        for device in self.devices.values():
            device.reset()

    def state(self) -> State:
        """Every device's, by slot and function."""
        devices = {f"{devfn >> 3:02x}.{devfn & 7}": self.devices[devfn].state()
                   for devfn in sorted(self.devices)}  # fmt: skip
        return save(self, 1, ()) | {"devices": devices}

    def restore(self, state: State) -> None:
        load(self, state, 1, ())
        devices = state.get("devices", {})
        places = {f"{devfn >> 3:02x}.{devfn & 7}": dev for devfn, dev in self.devices.items()}
        if devices.keys() != places.keys():
            raise StateError(f"PciBus: state of slots {', '.join(devices)}")
        for place, device in places.items():
            device.restore(devices[place])


class Ecam:
    """Configuration space as memory: 4 KiB a function, of which bus 0's have the first 256 bytes.

    PCI Express base specification, 7.2.2.
    """

    def __init__(self, bus: PciBus) -> None:
        self._bus = bus

    def _function(self, offset: int) -> PciDevice | None:
        """Whose registers an address shows; the numbers of bus and function, then 12 bits."""
        return self._bus.devices.get(offset >> 12) if offset & 0xFFF < SIZE else None

    def read(self, offset: int, size: int) -> int:
        """All ones where nobody is."""
        device = self._function(offset)
        if device is None or size > 4:
            return (1 << size * 8) - 1
        return device.read_config(offset & SIZE - 1, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """A configuration write."""
        device = self._function(offset)
        if device is not None and size <= 4:
            device.write_config(offset & SIZE - 1, size, value)


class ConfigMechanism1:
    """CONFIG_ADDRESS (a double word) and the four bytes of CONFIG_DATA behind it."""

    def __init__(self, bus: PciBus) -> None:
        self._bus = bus
        self.address = 0

    def reset(self) -> None:
        """RST#."""
        self.address = 0

    def read_address(self) -> int:
        """CONFIG_ADDRESS."""
        return self.address

    def write_address(self, value: int) -> None:
        """CONFIG_ADDRESS."""
        self.address = value & ADDRESS_WRITABLE

    def _selected(self) -> PciDevice | None:
        if not self.address & ENABLE or self.address >> 16 & 0xFF:
            return None
        return self._bus.devices.get(self.address >> 8 & 0xFF)

    def read_data(self, offset: int, size: int) -> int:
        """CONFIG_DATA + offset; all ones where nobody is (master abort)."""
        device = self._selected()
        if device is None:
            return NOBODY & (1 << size * 8) - 1
        return device.read_config((self.address & SIZE - 4) + offset, size)

    def write_data(self, offset: int, size: int, value: int) -> None:
        """CONFIG_DATA + offset."""
        device = self._selected()
        if device is not None:
            device.write_config((self.address & SIZE - 4) + offset, size, value)

    def state(self) -> State:
        return save(self, 1, ("address",))

    def restore(self, state: State) -> None:
        load(self, state, 1, ("address",))


__all__ = ["BarSpace", "ConfigMechanism1", "DmaError", "DmaMemory", "Ecam", "PciBus", "swizzle"]
