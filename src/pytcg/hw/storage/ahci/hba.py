"""Intel ICH9's SATA controller in AHCI mode (82801IB datasheet 316972, chapter 15)."""

from __future__ import annotations

from typing import Final

from pytcg.hw.pci.bar import BarType
from pytcg.hw.pci.device import Identity, PciDevice
from pytcg.hw.state import State, load, save
from pytcg.hw.storage.ahci.port import AhciPort
from pytcg.hw.storage.ahci.regs import PORT_SIZE, PORTS, SLOTS, Ghc, Hba

ICH9_PORTS: Final = 6
WINDOW: Final = 0x1000
INDEX_WINDOW: Final = 32
INDEX: Final = 0x10  # of the index and data pair in the I/O window
VERSION: Final = 0x10000
# 64-bit addresses, queuing, AHCI only, first generation.
CAPABILITIES: Final = 1 << 31 | 1 << 30 | 1 << 20 | 1 << 18 | (SLOTS - 1) << 8 | ICH9_PORTS - 1
CAP_SATA: Final = 0x12
MAP: Final = 0x90  # configuration: the mode
AHCI_MODE: Final = 0x40


class Ahci(PciDevice):
    """`ports[n].connect(drive)` plugs a drive in before the machine starts."""

    identity = Identity(0x8086, 0x2922, class_code=0x010601, revision=2, pin=1)

    def __init__(self) -> None:
        super().__init__()
        self.control = int(Ghc.AHCI)
        self.pending = 0
        self._index = 0
        self._raised: list[int] = [0] * ICH9_PORTS
        self.ports = [AhciPort(self, self.sync) for _ in range(ICH9_PORTS)]
        self.config.define(MAP, 1, AHCI_MODE)
        sata = self.config.add_capability(CAP_SATA, 8)
        self.config.define(sata + 2, 2, 0x10)
        self.config.define(sata + 4, 4, INDEX >> 2 << 4 | 8)  # the pair is in BAR 4
        self.add_bar(4, INDEX_WINDOW, BarType.IO, self._read_pair, self._write_pair)
        self.add_bar(5, WINDOW, BarType.MEMORY, self._read, self._write)
        self.add_msi()

    def reset(self) -> None:
        super().reset()
        self._index = 0
        self._reset_hba()

    def _reset_hba(self) -> None:
        self.control = int(Ghc.AHCI)
        self.pending = 0
        for port in self.ports:
            port.reset()
        self.sync()

    # --- registers -----------------------------------------------------------------------------

    def _register(self, reg: int) -> int:
        match reg:
            case Hba.CAP:
                return CAPABILITIES
            case Hba.GHC:
                return self.control
            case Hba.IS:
                return self.pending
            case Hba.PI:
                return (1 << ICH9_PORTS) - 1
            case Hba.VS:
                return VERSION
        number, reg = divmod(reg - PORTS, PORT_SIZE)
        return self.ports[number].read(reg) if 0 <= number < ICH9_PORTS else 0

    def _read(self, offset: int, size: int) -> int:
        value = self._register(offset & ~3) | (
            self._register((offset & ~3) + 4) << 32 if size == 8 else 0)
        return value >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def _write(self, offset: int, size: int, value: int) -> None:
        if size == 8:
            self._write(offset, 4, value & 0xFFFFFFFF)
            self._write(offset + 4, 4, value >> 32)
        elif size == 4 and not offset & 3:
            self._write_register(offset, value)

    def _write_register(self, reg: int, value: int) -> None:
        if reg == Hba.GHC:
            if value & Ghc.RESET:
                self._reset_hba()
            else:
                self.control = value & Ghc.INTERRUPTS | Ghc.AHCI
        elif reg == Hba.IS:
            self.pending &= ~value
        number, reg = divmod(reg - PORTS, PORT_SIZE)
        if 0 <= number < ICH9_PORTS:
            self.ports[number].write(reg, value)
        self.sync()

    def _read_pair(self, offset: int, size: int) -> int:
        if offset == INDEX:
            return self._index & (1 << 8 * size) - 1
        return self._read(self._index, size) if offset == INDEX + 4 else 0

    def _write_pair(self, offset: int, size: int, value: int) -> None:
        if size != 4:
            return
        if offset == INDEX:
            self._index = value & WINDOW - 4
        elif offset == INDEX + 4:
            self._write(self._index, 4, value)

    # --- interrupts ----------------------------------------------------------------------------

    def sync(self) -> None:
        """IS and the pin as the ports have them; a message for each interrupt that is new."""
        news = 0
        for number, port in enumerate(self.ports):
            raised = port.irq & port.irq_enable
            if raised:
                self.pending |= 1 << number
            news |= raised & ~self._raised[number]
            self._raised[number] = raised
        enabled = bool(self.control & Ghc.INTERRUPTS)
        if self.messages:
            if news and enabled:
                self.notify()
        elif (wanted := bool(self.pending) and enabled) != self.intx:
            self.set_intx(wanted)

    # --- saved state ---------------------------------------------------------------------------

    def state(self) -> State:
        own = save(self, 1, ("control", "pending", "_index", "_raised"))
        ports = [port.state() for port in self.ports]
        return super().state() | {"hba": own, "ports": ports}

    def restore(self, state: State) -> None:
        super().restore(state)
        for port, saved in zip(self.ports, state["ports"], strict=True):
            port.restore(saved)
        load(self, state["hba"], 1, ("control", "pending", "_index", "_raised"))
        self.sync()
