"""The `pc` board: a PC of the AT kind with local APIC, I/O APIC and ACPI, and a PCI bus.

What it is made of, and its life; the wiring is in `board`, one file a concern, and every number is
in `pc_map`. With a BIOS in its ROM it starts as a PC does. Given something to `boot` at once, it
does itself what a BIOS would leave behind (`firmware`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytcg.hw.pci.bus import SLOTS
from pytcg.machine import firmware
from pytcg.machine import pc_map as at
from pytcg.machine.acpi import link
from pytcg.machine.board import debug
from pytcg.machine.board.backplane import Backplane
from pytcg.machine.board.bios import attach_bios
from pytcg.machine.board.chipset import Chipset
from pytcg.machine.board.dma import IsaDma
from pytcg.machine.board.flash import FlashImage, attach_flashes
from pytcg.machine.board.floppy import make_fdc, tell_cmos
from pytcg.machine.board.fw_cfg import make_fw_cfg
from pytcg.machine.board.ide import make_ide
from pytcg.machine.board.kernel_interrupts import make_interrupts
from pytcg.machine.board.parallel import make_parallel_ports
from pytcg.machine.board.pci import make_hotplug, make_pci_bus
from pytcg.machine.board.power import PowerControl
from pytcg.machine.board.serial import make_serial_ports
from pytcg.machine.board.timers import Timers
from pytcg.machine.board.vga import Display
from pytcg.machine.boot_order import BootOptions, BootOrder
from pytcg.machine.pci_host import PciSpaces
from pytcg.machine.smbios import ANCHOR_FILE, TABLES_FILE, Smbios

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from pytcg.chardev.base import Chardev
    from pytcg.exec.bus import CpuBus
    from pytcg.hw.chipset.pci_hotplug import PciHotplug
    from pytcg.hw.clock import Clock
    from pytcg.hw.storage.ahci.hba import Ahci
    from pytcg.hw.storage.piix3_ide import Piix3Ide
    from pytcg.hw.virtio.input import VirtioInput
    from pytcg.machine.board.q35 import Q35Chipset
    from pytcg.machine.linux_rom import FirmwareKernel
    from pytcg.machine.runner import PowerRequest, Vcpu
    from pytcg.softmmu.address_map import AddressMap


@dataclass(frozen=True)
class PcConfig:
    """What one PC is made of."""

    ram_size: int
    serials: Sequence[Chardev | None] = ()  # None: this port has no UART
    debugcon: Chardev | None = None
    debugcon_port: int = at.DEBUG_CONSOLE
    bios: bytes | None = None  # a multiple of 64 KiB
    flashes: Sequence[FlashImage] = ()  # in place of the ROM
    kernel: FirmwareKernel | None = None  # for the firmware to start
    q35: bool = False  # the chipset of `q35`, with AHCI, in place of `pc`'s, with IDE
    hpet: bool = True
    smm: bool = False
    vga: bool = False
    vga_rom: bytes | None = None
    nographic: bool = False  # firmware talks to the first serial port
    boot: BootOptions = field(default_factory=BootOptions)
    smbios: Smbios | None = None
    parallels: Sequence[Chardev | None] = ()  # None: this port is not there
    sleep_states: frozenset[int] = frozenset((3, 4, 5))  # that ACPI names
    epoch: int = field(default_factory=lambda: int(time.time()))


class Pc:
    """The board with its processor plugged in. Give `boot` something to do, let a Runner run it."""

    def __init__(
        self,
        config: PcConfig,
        clock: Clock,
        lock: threading.RLock,
        memory: AddressMap,
        make_vcpu: Callable[[CpuBus], Vcpu],
    ) -> None:
        self.config = config
        self.memory = memory
        self.boot: Callable[[Vcpu], None] | None = None
        self.backplane = board = Backplane(clock, lock, memory, make_vcpu)
        self.cpu_bus = board.cpu_bus
        self.vcpu = board.vcpu
        self.interrupts = make_interrupts(board)
        self.timers = Timers(board, self.interrupts.set_pin, epoch=config.epoch,
                             ram_size=config.ram_size, hpet=config.hpet)  # fmt: skip
        self.power = PowerControl(board)
        if config.bios is not None:
            attach_bios(memory, config.bios)
        attach_flashes(board, config.flashes)
        spaces = PciSpaces(board.ports, board.mmio, memory)
        self.dma = IsaDma(board, spaces)
        self.fdc = make_fdc(board, self.dma)
        self.pci = make_pci_bus(board, spaces, self.interrupts.send, q35=config.q35)
        self.chipset: Chipset | Q35Chipset
        self.ide: Piix3Ide | None = None
        self.sata: Ahci | None = None
        if config.q35:
            from pytcg.machine.board.q35 import Q35Chipset, make_sata

            self.chipset = Q35Chipset(board, self.pci, config.ram_size, self.power.sleep,
                                      self.interrupts.set_pin)  # fmt: skip
            self.sata = make_sata(self.pci)
        else:
            self.chipset = Chipset(board, self.pci, config.ram_size, self.power.sleep,
                                   smm=config.smm)  # fmt: skip
            self.ide = make_ide(board, self.pci)
        self.display: Display | None = None
        if config.vga:
            self.display = Display(board, config.vga_rom)
            self.pci.plug(self.display.card, at.VGA_SLOT)
        self.hotplug: PciHotplug | None = None
        if not config.q35:
            self.hotplug = make_hotplug(board, self.pci, self.chipset.pm)
        self.fw_cfg = make_fw_cfg(board, spaces, config.ram_size, nographic=config.nographic)
        self.serial_links = make_serial_ports(board, config.serials)
        self.parallel_links = make_parallel_ports(board, config.parallels)
        if config.debugcon is not None:
            debug.attach_debug_console(board, config.debugcon, config.debugcon_port)
        self.boot_order = BootOrder(config.boot)
        self.inputs: list[VirtioInput] = []  # besides the keyboard and mouse of the 8042
        if config.kernel is not None:
            self.boot_order.before.append(config.kernel.boot_path)
        self.fw_cfg.before_reset(self._tell_firmware)

    def start(self) -> None:
        """Power-on or reset: chips, memory contents, processor, in this order."""
        self._tell_ports()
        self.backplane.reset()
        self.vcpu.reset()
        if self.boot is not None:
            self._play_firmware()
            self.boot(self.vcpu)

    def _tell_ports(self) -> None:
        """What the PM function says of the super I/O's ports."""
        if isinstance(self.chipset, Chipset):
            bases = [serial.port.base for serial in self.serial_links]
            bases += [parallel.port.base for parallel in self.parallel_links]
            self.chipset.power.tell_ports(
                parallel=at.LPT_PORTS[0].base in bases,
                serial=(at.COM_PORTS[0].base in bases, at.COM_PORTS[1].base in bases))

    def _play_firmware(self) -> None:
        """Leave the machine as a BIOS does."""
        self.chipset.set_up()
        if self.ide is not None:
            self.ide.set_up()
        self.interrupts.set_up()
        uarts = [link.port for link in self.serial_links]
        data_area = firmware.bios_data_area([uart.base for uart in uarts],
                                            [link.port.base for link in self.parallel_links])
        self.memory.write(firmware.BIOS_DATA_AREA, data_area)
        self.memory.write(at.ACPI_TABLES, self._acpi_tables().place(at.ACPI_TABLES))
        self.memory.write(at.SMBIOS_TABLES, self._smbios().place(at.SMBIOS_TABLES))

    def _smbios(self) -> Smbios:
        return self.config.smbios or Smbios(self.config.ram_size)

    def _acpi_tables(self) -> link.Image:
        uarts = [serial.port for serial in self.serial_links]
        parallels = [parallel.port for parallel in self.parallel_links]
        hardware = at.acpi_hardware(self.config.ram_size, uarts, parallels, hpet=self.config.hpet,
                                    vga=self.display is not None, q35=self.config.q35,
                                    hotplug_slots=self._hotplug_slots(),
                                    sleep_states=self.config.sleep_states)  # fmt: skip
        return link.build(hardware)

    def _hotplug_slots(self) -> list[int]:
        removable = self.hotplug.removable if self.hotplug is not None else 0
        return [slot for slot in range(SLOTS) if removable >> slot & 1]

    def _tell_firmware(self) -> None:
        """Tables that the firmware puts into memory itself."""
        if self.config.kernel is not None:
            self.config.kernel.tell(self.fw_cfg)
        self.boot_order.tell(self.timers.rtc, self.fw_cfg)
        tell_cmos(self.fdc, self.timers.rtc)
        smbios = self._smbios()
        self.fw_cfg.add_file(ANCHOR_FILE, smbios.anchor())
        self.fw_cfg.add_file(TABLES_FILE, smbios.tables())
        image = self._acpi_tables()
        self.fw_cfg.add_file(link.RSDP_FILE, bytes(image.rsdp))
        self.fw_cfg.add_file(link.TABLES_FILE, bytes(image.tables))
        self.fw_cfg.add_file(link.LOADER_FILE, image.script())

    def ask(self, request: PowerRequest) -> None:
        """Make a request as if the guest had; device lock held."""
        self.backplane.ask(request)

    def press_power_button(self) -> None:
        """The user presses it for a moment; device lock held."""
        self.chipset.pm.power_button()

    def take_request(self) -> PowerRequest | None:
        """The event the guest asked for since the last call."""
        return self.backplane.take_request()
