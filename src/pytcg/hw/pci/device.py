"""A PCI function: one class, whose configuration space is made from a table.

A device is a subclass with an `Identity`; its constructor says what else it has:

    class Edu(PciDevice):
        identity = Identity(0x1234, 0x11E8, class_code=0x00FF00, revision=0x10, pin=1)

        def __init__(self) -> None:
            super().__init__()
            self.add_bar(0, 1 << 20, BarType.MEMORY, self._read, self._write)
            self.add_msi()

        def reset(self) -> None:
            super().reset()
            …its own registers…

* `add_bar(index, size, type, read, write)`: a window; `read(offset, size)` and
  `write(offset, size, value)` are called with 1, 2, 4 or 8 bytes while the window is enabled,
  wherever software moved it. `add_memory_bar(index, type, backing)`: one that shows memory.
* `add_rom(image)`: an expansion ROM.
* `add_msi()`, `add_msix(bar, vectors, …)`: messages. `notify(vector)` sends one and says whether
  messages are on; `set_intx(level)` drives the pin, which is quiet while they are on.
* `dma_read(address, length)`, `dma_write(address, data)`: guest memory as a bus master. `DmaError`
  if software has not enabled that or no memory answers; the device does what its datasheet says.
  `dma_map(pieces)` is RAM in place.
* `config.define(…)` for registers of its own, `config_written(reg, size)` to hear of stores.

`PciBus.plug` (`bus.py`) puts it into a slot. The caller of all this holds the device lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from pytcg.hw.pci.bar import Backing, Bar, BarType, Read, Write, memory_bar, rom_bar
from pytcg.hw.pci.config import Command, ConfigSpace, Reg, Status
from pytcg.hw.pci.msi import Msi, MsiX
from pytcg.hw.state import State, StateError, load, save

MIN_ROM: Final = 2048
ROM_ENABLE: Final = 1
COMMAND, MASTER = int(Reg.COMMAND), int(Command.BUS_MASTER)  # looked at for each DMA access


class DmaError(Exception):
    """A bus master's access that nobody answered, or that software has not enabled."""


class DmaMap(Protocol):
    """Guest memory that bytes are moved to or from in place."""

    @property
    def views(self) -> Sequence[memoryview]:
        """The bytes, in order."""
        ...

    def stored(self) -> None:
        """They were stored to."""
        ...


@dataclass(frozen=True)
class Identity:
    """What a function says of itself; ``class_code`` is 24 bits, ``pin`` 1 for INTA, 0 for none."""

    vendor: int
    device: int
    class_code: int
    revision: int = 0
    subsystem_vendor: int = 0x1AF4
    subsystem: int = 0x1100
    pin: int = 0
    multifunction: bool = False


class Host(Protocol):
    """What a function finds on its slot."""

    def map_bar(self, bar: Bar) -> None:
        """Let the window answer at its base."""
        ...

    def unmap_bar(self, bar: Bar) -> None:
        """Take the window away from its base."""
        ...

    def set_pin(self, device: PciDevice, level: bool) -> None:
        """Drive the function's interrupt pin."""
        ...

    def deliver(self, address: int, data: int) -> None:
        """The memory write that is an interrupt message."""
        ...

    def dma_read(self, address: int, length: int) -> bytes:
        """Bytes of guest memory; DmaError."""
        ...

    def dma_write(self, address: int, data: bytes) -> None:
        """Store to guest memory; DmaError."""
        ...

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> DmaMap | None:
        """(address, length) ranges in place; None where some are no plain RAM."""
        ...


class PciDevice:
    """See the module's text. ``devfn`` is slot * 8 + function, once plugged."""

    identity: ClassVar[Identity]

    def __init__(self) -> None:
        self.config = ConfigSpace()
        self.bars: list[Bar] = []
        self.rom: Bar | None = None
        self.msi: Msi | None = None
        self.msix: MsiX | None = None
        self.host: Host | None = None
        self.devfn = -1
        self.intx = False
        self._define_header(self.identity)

    def _define_header(self, who: Identity) -> None:
        define = self.config.define
        commands = (Command.IO | Command.MEMORY | Command.BUS_MASTER | Command.SERR
                    | Command.INTX_DISABLE)
        define(Reg.VENDOR_ID, 2, who.vendor)
        define(Reg.DEVICE_ID, 2, who.device)
        define(Reg.COMMAND, 2, writable=commands)
        define(Reg.STATUS, 2, clearable=Status.ERRORS)
        define(Reg.REVISION_ID, 1, who.revision)
        define(Reg.CLASS_CODE, 3, who.class_code)
        define(Reg.CACHE_LINE_SIZE, 1, writable=0xFF)
        define(Reg.HEADER_TYPE, 1, 0x80 if who.multifunction else 0)
        define(Reg.SUBSYSTEM_VENDOR_ID, 2, who.subsystem_vendor)
        define(Reg.SUBSYSTEM_ID, 2, who.subsystem)
        define(Reg.INTERRUPT_LINE, 1, writable=0xFF)
        define(Reg.INTERRUPT_PIN, 1, who.pin)

    # --- what a device is made of --------------------------------------------------------------

    def add_bar(self, index: int, size: int, type: int, read: Read, write: Write) -> Bar:
        """A window behind base address register ``index``."""
        return self._add(Bar(index, size, type, read, write))

    def add_memory_bar(self, index: int, type: int, backing: Backing) -> Bar:
        """A window onto memory, whose size is a power of two of whole pages."""
        return self._add(memory_bar(index, type, backing))

    def _add(self, bar: Bar) -> Bar:
        flags = bar.type & 0x0F
        writable = -bar.size & ((1 << bar.width * 8) - 1)
        self.config.define(Reg.BASE_ADDRESS + 4 * bar.index, bar.width, flags, writable=writable)
        self.bars.append(bar)
        return bar

    def add_rom(self, image: bytes) -> Bar:
        """An expansion ROM (PCI 3.0, 6.2.5.2), as large as its image needs."""
        size = max(MIN_ROM, 1 << (len(image) - 1).bit_length())
        return self._set_rom(rom_bar(image, size))

    def add_memory_rom(self, backing: Backing) -> Bar:
        """The same in memory, whose size is a power of two of whole pages."""
        return self._set_rom(memory_bar(-1, BarType.MEMORY, backing))

    def _set_rom(self, rom: Bar) -> Bar:
        self.rom, size = rom, rom.size
        self.config.define(Reg.EXPANSION_ROM, 4, writable=-size & 0xFFFFFFFF | ROM_ENABLE)
        return rom

    def add_msi(self) -> Msi:
        """One message."""
        self.msi = Msi(self.config, self._deliver)
        return self.msi

    def add_msix(self, bar: Bar, vectors: int, *, table: int = 0, pba: int = 0x800) -> MsiX:
        """``vectors`` messages, with their table and pending bits at these offsets of the BAR."""
        self.msix = MsiX(self.config, self._deliver, bar, vectors, table, pba)
        return self.msix

    # --- interrupts ----------------------------------------------------------------------------

    @property
    def messages(self) -> bool:
        """Whether MSI or MSI-X is switched on."""
        return bool((self.msix and self.msix.enabled) or (self.msi and self.msi.enabled))

    def notify(self, vector: int = 0) -> bool:
        """Send a message; False if messages are off, and the pin is to be used."""
        if self.msix is not None and self.msix.enabled:
            self.msix.notify(vector)
            return True
        if self.msi is not None and self.msi.enabled:
            self.msi.notify()
            return True
        return False

    def set_intx(self, level: bool) -> None:
        """The level the device wants on its pin."""
        self.intx = level
        self._sync()

    def _deliver(self, address: int, data: int) -> None:
        if self.host is not None and self.config.bytes[COMMAND] & MASTER:
            self.host.deliver(address, data)

    # --- the bus's side ------------------------------------------------------------------------

    def reset(self) -> None:
        """RST#: registers, windows and pin; subclasses add their own."""
        self.config.reset()
        self.intx = False
        if self.msix is not None:
            self.msix.reset()
        self._sync()

    def read_config(self, reg: int, size: int) -> int:
        """A configuration read of 1, 2 or 4 bytes."""
        return self.config.get(reg, size)

    def write_config(self, reg: int, size: int, value: int) -> None:
        """A configuration write of 1, 2 or 4 bytes."""
        self.config.write(reg, size, value)
        self._sync()
        if self.msix is not None:
            self.msix.sync()
        self.config_written(reg, size)

    def config_written(self, reg: int, size: int) -> None:
        """For devices with registers of their own in configuration space."""

    def _commanded(self, bit: int) -> bool:
        return bool(self.config.get(Reg.COMMAND, 2) & bit)

    def _sync(self) -> None:
        """Windows and pin as the registers say."""
        status = self.config.get(Reg.STATUS, 2) & ~Status.INTERRUPT
        self.config.put(Reg.STATUS, 2, status | (Status.INTERRUPT if self.intx else 0))
        if self.host is None:
            return
        for bar in self.bars:
            bar.move(self._wanted(bar), self.host)
        if self.rom is not None:
            self.rom.move(self._wanted_rom(self.rom), self.host)
        quiet = self.messages or self._commanded(Command.INTX_DISABLE)
        self.host.set_pin(self, self.intx and not quiet)

    def _wanted(self, bar: Bar) -> int | None:
        if not self._commanded(Command.IO if bar.is_io else Command.MEMORY):
            return None
        return bar.place(self.config.get(Reg.BASE_ADDRESS + 4 * bar.index, bar.width))

    def _wanted_rom(self, rom: Bar) -> int | None:
        register = self.config.get(Reg.EXPANSION_ROM, 4)
        shown = register & ROM_ENABLE and self._commanded(Command.MEMORY)
        return rom.place(register) if shown else None

    # --- bus mastering -------------------------------------------------------------------------

    def _master(self) -> Host:
        if self.host is None or not self.config.bytes[COMMAND] & MASTER:
            raise DmaError("bus mastering is not enabled")
        return self.host

    def dma_read(self, address: int, length: int) -> bytes:
        """Bytes of guest memory; DmaError."""
        host = self._master()
        try:
            return host.dma_read(address, length)
        except DmaError:
            self._abort()
            raise

    def dma_write(self, address: int, data: bytes) -> None:
        """Store to guest memory; DmaError."""
        host = self._master()
        try:
            host.dma_write(address, data)
        except DmaError:
            self._abort()
            raise

    def dma_map(self, pieces: Iterable[tuple[int, int]]) -> DmaMap | None:
        """Guest memory in place; None: go by `dma_read` and `dma_write`, which know what is wrong.

        For what is moved at once: the guest may do anything with its memory afterwards.
        """
        if self.host is None or not self.config.bytes[COMMAND] & MASTER:
            return None
        return self.host.dma_map(pieces)

    def _abort(self) -> None:
        status = self.config.get(Reg.STATUS, 2)
        self.config.put(Reg.STATUS, 2, status | Status.RECEIVED_MASTER_ABORT)

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        """Subclasses add their registers to this dict."""
        kept = save(self, 1, ("intx",)) | {"config": self.config.bytes.hex()}
        return kept | ({"msix": self.msix.state()} if self.msix is not None else {})

    def restore(self, state: State) -> None:
        try:
            config = bytes.fromhex(state["config"])
        except (KeyError, TypeError, ValueError):
            raise StateError(f"{type(self).__name__}: no configuration space") from None
        if len(config) != len(self.config.bytes):
            raise StateError(f"{type(self).__name__}: {len(config)} bytes of configuration space")
        if self.msix is not None:
            self.msix.restore(state.get("msix", {}))
        load(self, state, 1, ("intx",))
        self.config.bytes[:] = config
        self._sync()


__all__ = ["BarType", "DmaError", "DmaMap", "Host", "Identity", "PciDevice"]
