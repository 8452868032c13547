"""Port and MMIO dispatch: which device answers an address, and how wide accesses are split."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

PORTS = 0x10000


class ByteDevice(Protocol):
    """A chip with byte registers, as its datasheet numbers them."""

    def read(self, reg: int) -> int:
        """The register's value."""
        ...

    def write(self, reg: int, value: int) -> None:
        """Store to the register."""
        ...


class Claimed(Exception):
    """Two devices were attached to one address: a fault of the board, not of the guest."""


class PortHandlers(NamedTuple):
    """Who answers one port at one width; the value of the port is already bound."""

    read: Callable[[], int]
    write: Callable[[int], None]


class RunHandlers(NamedTuple):
    """Many accesses of a port in a row: read(count) gives their bytes, write(bytes) takes them."""

    read: Callable[[int], bytes]
    write: Callable[[bytes], None]


class MmioRegion(NamedTuple):
    """A device at a range of physical addresses: read(offset, size), write(offset, size, value)."""

    base: int
    length: int
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]


class Windows:
    """Ranges that come and go: base address registers. The one mapped last answers."""

    def __init__(self) -> None:
        self._windows: dict[object, MmioRegion] = {}

    def map(self, key: object, region: MmioRegion) -> None:
        """Let the region answer, until `unmap`."""
        self._windows[key] = region

    def unmap(self, key: object) -> None:
        """Take away what was mapped under this key."""
        del self._windows[key]

    def find(self, address: int, size: int) -> MmioRegion | None:
        """The window that holds the whole access."""
        for region in reversed(self._windows.values()):
            if region.base <= address and address + size <= region.base + region.length:
                return region
        return None


def _byte_handlers(device: ByteDevice, reg: int) -> PortHandlers:
    return PortHandlers(lambda: device.read(reg), lambda value: device.write(reg, value))


class PortBus:
    """The 64 Ki I/O ports. An access wider than what is attached is split into bytes, low first."""

    def __init__(self) -> None:
        # One dictionary look-up finds a bound handler: a guest polls its UART a lot.
        self._handlers: dict[tuple[int, int], PortHandlers] = {}
        self._runs: dict[tuple[int, int], RunHandlers] = {}
        self._windows = Windows()

    def map_window(self, key: object, base: int, length: int, read: Callable[[int, int], int],
                   write: Callable[[int, int, int], None]) -> None:
        """Let a window answer what nothing fixed does; `unmap_window` with its key ends that."""
        self._windows.map(key, MmioRegion(base, length, read, write))

    def unmap_window(self, key: object) -> None:
        """Take a window away."""
        self._windows.unmap(key)

    def attach_run(self, handlers: RunHandlers, port: int, *, size: int) -> None:
        """A quicker way for accesses in a row to a port that is attached."""
        self._runs[port, size] = handlers

    def read_run(self, port: int, size: int, count: int) -> bytes:
        """``count`` INs in a row."""
        if run := self._runs.get((port, size)):
            return run.read(count)
        return b"".join(self.read(port, size).to_bytes(size, "little") for _ in range(count))

    def write_run(self, port: int, size: int, data: bytes) -> None:
        """OUTs in a row."""
        if run := self._runs.get((port, size)):
            run.write(data)
            return
        for at in range(0, len(data), size):
            self.write(port, size, int.from_bytes(data[at : at + size], "little"))

    def attach(self, device: ByteDevice, port: int, *, count: int, first: int = 0) -> None:
        """Byte registers first, first + 1, … of the device at port, port + 1, …."""
        for index in range(count):
            self.attach_port(_byte_handlers(device, first + index), port + index, size=1)

    def attach_port(self, handlers: PortHandlers, port: int, *, size: int) -> None:
        """Handlers for accesses of just this size at just this port."""
        if (port, size) in self._handlers:
            raise Claimed(f"port {port:#x} is attached twice")
        self._handlers[port, size] = handlers

    def read(self, port: int, size: int) -> int:
        """IN: ports that nobody answers read all ones."""
        if found := self._handlers.get((port, size)):
            return found.read()
        if window := self._windows.find(port, size):
            return window.read(port - window.base, size)
        if size == 1:
            return 0xFF
        half = size // 2
        high = self.read((port + half) % PORTS, half)
        return self.read(port, half) | high << (half * 8)

    def write(self, port: int, size: int, value: int) -> None:
        """OUT: ports that nobody answers swallow the value."""
        if found := self._handlers.get((port, size)):
            found.write(value)
        elif window := self._windows.find(port, size):
            window.write(port - window.base, size, value)
        elif size > 1:
            half = size // 2
            self.write(port, half, value & ((1 << half * 8) - 1))
            self.write((port + half) % PORTS, half, value >> (half * 8))


class MmioBus:
    """Physical addresses outside RAM, by 4 KiB page: no device of a PC shares one with another."""

    def __init__(self) -> None:
        self._pages: dict[int, MmioRegion] = {}
        self._covered: dict[MmioRegion, MmioRegion] = {}
        self._windows = Windows()

    def map_window(self, key: object, base: int, length: int, read: Callable[[int, int], int],
                   write: Callable[[int, int, int], None]) -> None:
        """Let a window answer what nothing fixed does; `unmap_window` with its key ends that."""
        self._windows.map(key, MmioRegion(base, length, read, write))

    def unmap_window(self, key: object) -> None:
        """Take a window away."""
        self._windows.unmap(key)

    def attach(self, region: MmioRegion) -> None:
        """Let the region answer for every page it touches."""
        for page in range(region.base >> 12, (region.base + region.length + 0xFFF) >> 12):
            if page in self._pages:
                raise Claimed(f"address {page << 12:#x} is attached twice")
            self._pages[page] = region

    def move(self, region: MmioRegion, base: int) -> MmioRegion:
        """Let a region of one page answer elsewhere, before who does now, until it goes on."""
        self._pages.pop(region.base >> 12)
        if covered := self._covered.pop(region, None):
            self._pages[region.base >> 12] = covered
        moved = region._replace(base=base)
        if covered := self._pages.get(base >> 12):
            self._covered[moved] = covered
        self._pages[base >> 12] = moved
        return moved

    def read(self, address: int, size: int) -> int:
        """Load: addresses that nobody answers read all ones."""
        region = self._pages.get(address >> 12) or self._windows.find(address, size)
        if region is None or address - region.base + size > region.length:
            return (1 << size * 8) - 1
        return region.read(address - region.base, size)

    def write(self, address: int, size: int, value: int) -> None:
        """Store: addresses that nobody answers swallow the value."""
        region = self._pages.get(address >> 12) or self._windows.find(address, size)
        if region is not None and address - region.base + size <= region.length:
            region.write(address - region.base, size, value)
