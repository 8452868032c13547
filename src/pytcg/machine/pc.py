"""The `pc` board: a PC of the AT kind with local APIC, I/O APIC and ACPI, and a PCI bus.

Wiring only: which chips there are and how they are connected. Every number is in `pc_map`. There is
no BIOS: what one would leave behind, `firmware` does after each reset.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

from pytcg.chardev.base import Chardev
from pytcg.exec.bus import CpuBus
from pytcg.hw.clock import Clock
from pytcg.hw.core import acpi_pm
from pytcg.hw.core.acpi_pm import AcpiPm, ApmControl
from pytcg.hw.core.apic import LocalApic
from pytcg.hw.core.apic_bus import ApicBus
from pytcg.hw.core.glue import (
    DebugConsole,
    DebugExit,
    PostPort,
    ResetControl,
    SystemControlPortA,
    SystemControlPortB,
)
from pytcg.hw.core.i8254 import I8254
from pytcg.hw.core.i8259 import I8259Pair
from pytcg.hw.core.ioapic import IoApic
from pytcg.hw.core.mc146818 import Mc146818
from pytcg.hw.core.uart16550 import Uart16550
from pytcg.hw.input.i8042 import I8042
from pytcg.hw.line import Line
from pytcg.hw.pci.bus import ConfigMechanism1, PciBus
from pytcg.hw.state import Chip
from pytcg.machine import acpi, firmware
from pytcg.machine import pc_map as at
from pytcg.machine.bus import MmioBus, MmioRegion, PortBus, PortHandlers
from pytcg.machine.cpu_bus import PcCpuBus
from pytcg.machine.layout import low_memory_end
from pytcg.machine.pci_host import GuestMemory, PciSpaces, deliver_message
from pytcg.machine.runner import Event, PowerRequest, Vcpu
from pytcg.machine.wires import OrGate, and_gate

C = TypeVar("C", bound=Chip)


@dataclass(frozen=True)
class PcConfig:
    """What one PC is made of."""

    ram_size: int
    serials: Sequence[Chardev | None] = ()  # None: this port has no UART
    debugcon: Chardev | None = None
    debug_exit: tuple[int, int] | None = None  # first port, number of ports
    epoch: int = field(default_factory=lambda: int(time.time()))


class SerialLink(NamedTuple):
    """A UART and what it is connected to."""

    port: acpi.SerialPort
    uart: Uart16550
    chardev: Chardev


class Pc:
    """The board with its processor plugged in. Give `boot` something to do, let a Runner run it."""

    def __init__(
        self,
        config: PcConfig,
        clock: Clock,
        lock: threading.RLock,
        memory: GuestMemory,
        make_vcpu: Callable[[CpuBus], Vcpu],
    ) -> None:
        self.config = config
        self.memory = memory
        self.boot: Callable[[Vcpu], None] = lambda vcpu: None
        self._clock = clock
        self._request: PowerRequest | None = None
        self._chips: list[Chip] = []
        self.ports = PortBus()
        self.mmio = MmioBus()
        self.cpu_bus = PcCpuBus(self.ports, self.mmio, lock)
        self.vcpu = make_vcpu(self.cpu_bus)
        self._make_interrupt_controllers()
        self._isa = [OrGate() for _ in range(16)]
        for irq, gate in enumerate(self._isa):
            gate.out.connect(partial(self._drive_irq, irq))
        self._make_timers()
        self._make_power_control()
        self._make_pci()
        self.serial_links = self._make_serial_ports()
        self._make_debug_devices()

    # --- life ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Power-on or reset: chips, memory contents, processor, in this order."""
        for chip in self._chips:
            chip.reset()
        self.pci.reset()
        self._request = None
        firmware.program_interrupts(self.pic, self.lapic)
        uarts = [link.port for link in self.serial_links]
        data_area = firmware.bios_data_area([uart.base for uart in uarts])
        self.memory.write(firmware.BIOS_DATA_AREA, data_area)
        self.memory.write(at.ACPI_TABLES, acpi.build(at.acpi_hardware(uarts), at.ACPI_TABLES))
        self.vcpu.reset()
        self.boot(self.vcpu)

    def take_request(self) -> PowerRequest | None:
        """The event the guest asked for since the last call."""
        request, self._request = self._request, None
        return request

    def _ask(self, request: PowerRequest) -> None:
        """The first request counts: the guest runs on for a moment."""
        if self._request is None:
            self._request = request
            self.vcpu.request_exit()

    def _ask_reset(self) -> None:
        self._ask(PowerRequest(Event.RESET))

    def _ask_sleep(self, sleep_type: int) -> None:
        if sleep_type == at.SLEEP_SOFT_OFF:
            self._ask(PowerRequest(Event.POWER_OFF))

    def _ask_debug_exit(self, status: int) -> None:
        self._ask(PowerRequest(Event.DEBUG_EXIT, status & 0xFF))

    # --- interrupts ----------------------------------------------------------------------------

    def _drive_irq(self, irq: int, level: bool) -> None:
        """An ISA interrupt reaches both the 8259s and the I/O APIC; the guest masks one of them."""
        self.pic.set_irq(irq, level)
        pin = at.TIMER_PIN if irq == at.IRQ_TIMER else irq
        if irq != at.TIMER_PIN:  # IRQ 2 is the 8259s' cascade
            self.ioapic.set_irq(pin, level)

    def _connect_irq(self, line: Line, irq: int) -> None:
        line.connect(self._isa[irq].input())

    def _make_interrupt_controllers(self) -> None:
        self.apic_bus = ApicBus()
        self.pic = self._add(I8259Pair())
        self.ioapic = self._add(IoApic(self.apic_bus.deliver))
        self.lapic = self._add(
            LocalApic(
                self._clock,
                0,
                self.apic_bus.send_ipi,
                tsc=self.vcpu.tsc,
                tsc_hz=self.vcpu.tsc_frequency,
            )
        )
        self.apic_bus.attach(self.lapic)
        self.lapic.extint = self.pic.acknowledge
        self.lapic.on_eoi = self.ioapic.end_of_interrupt
        self.lapic.on_nmi = self.vcpu.raise_nmi
        self.lapic.on_init = self._ask_reset
        self.pic.intr.connect(partial(self.lapic.set_lint, 0))
        self.lapic.intr.connect(self.vcpu.set_intr)
        self.cpu_bus.attach_lapic(self.lapic)
        self.ports.attach(self.pic.master, at.PIC_MASTER, count=2)
        self.ports.attach(self.pic.slave, at.PIC_SLAVE, count=2)
        self.ports.attach(self.pic.master, at.ELCR, count=1, first=2)
        self.ports.attach(self.pic.slave, at.ELCR + 1, count=1, first=2)
        self.mmio.attach(
            MmioRegion(at.IO_APIC, at.APIC_PAGE, self._read_ioapic, self._write_ioapic)
        )
        self.mmio.attach(
            MmioRegion(at.LOCAL_APIC, at.APIC_PAGE, self._read_lapic, self._write_lapic)
        )

    # The APICs' registers are 32 bits wide, one every 16 bytes; narrower reads see a part of one.

    def _read_ioapic(self, offset: int, size: int) -> int:
        return _part(self.ioapic.read(offset >> 4), offset, size)

    def _write_ioapic(self, offset: int, size: int, value: int) -> None:
        del size
        if not offset & 15:
            self.ioapic.write(offset >> 4, value & 0xFFFFFFFF)

    def _read_lapic(self, offset: int, size: int) -> int:
        if not self.lapic.mmio_enabled:
            return (1 << size * 8) - 1
        return _part(self.lapic.read(offset >> 4), offset, size)

    def _write_lapic(self, offset: int, size: int, value: int) -> None:
        del size
        if self.lapic.mmio_enabled and not offset & 15:
            self.lapic.write(offset >> 4, value & 0xFFFFFFFF)

    # --- the AT's chips ------------------------------------------------------------------------

    def _add(self, chip: C) -> C:
        """Remember a chip for the reset line."""
        self._chips.append(chip)
        return chip

    def _make_timers(self) -> None:
        self.pit = self._add(I8254(self._clock))
        self._connect_irq(self.pit.out[0], at.IRQ_TIMER)
        self.ports.attach(self.pit, at.PIT, count=4)
        port_b = self._add(
            SystemControlPortB(
                self._clock, partial(self.pit.set_gate, 2), partial(self.pit.out_level, 2)
            )
        )
        self.ports.attach(port_b, at.PORT_B, count=1)
        self.rtc = self._add(Mc146818(self._clock, epoch=self.config.epoch))
        self._connect_irq(self.rtc.irq, at.IRQ_RTC)
        self.ports.attach(self.rtc, at.RTC, count=2)
        low_end = low_memory_end(self.config.ram_size)
        self.rtc.set_memory_size(low_end, self.config.ram_size - low_end)

    def _make_power_control(self) -> None:
        self.keyboard = self._add(I8042(self._ask_reset))
        self._connect_irq(self.keyboard.irq1, at.IRQ_KEYBOARD)
        self._connect_irq(self.keyboard.irq12, at.IRQ_MOUSE)
        self.ports.attach(self.keyboard, at.KEYBOARD_DATA, count=1, first=0)
        self.ports.attach(self.keyboard, at.KEYBOARD_COMMAND, count=1, first=1)
        self.ports.attach(self._add(SystemControlPortA(self._ask_reset)), at.PORT_A, count=1)
        self.ports.attach(self._add(ResetControl(self._ask_reset)), at.RESET_CONTROL, count=1)
        self.ports.attach(self._add(PostPort()), at.POST, count=1)
        self.pm = self._add(AcpiPm(self._clock, self._ask_sleep, timer_bits=32))
        self._connect_irq(self.pm.sci, at.IRQ_SCI)
        self._attach_pm()
        self.ports.attach(self._add(ApmControl(self.pm)), at.APM_CONTROL, count=2)

    def _make_pci(self) -> None:
        spaces = PciSpaces(self.ports, self.mmio, self.memory)
        self.pci = PciBus(spaces, spaces, partial(deliver_message, self.apic_bus.deliver))
        access = self._add(ConfigMechanism1(self.pci))
        address = PortHandlers(access.read_address, access.write_address)
        self.ports.attach_port(address, at.PCI_ADDRESS, size=4)
        for size in (1, 2, 4):
            for offset in range(0, 4, size):
                handlers = PortHandlers(
                    partial(access.read_data, offset, size),
                    partial(access.write_data, offset, size),
                )
                self.ports.attach_port(handlers, at.PCI_DATA + offset, size=size)

    def _attach_pm(self) -> None:
        """The PM timer must be read at once: its registers are attached at each width."""
        for size in (1, 2, 4):
            for reg in range(0, acpi_pm.WINDOW, size):
                handlers = PortHandlers(
                    partial(self.pm.read, reg, size),
                    lambda value, reg=reg, size=size: self.pm.write(reg, value, size),  # type: ignore[misc]
                )
                self.ports.attach_port(handlers, at.PM_BASE + reg, size=size)

    # --- serial ports and debugging ------------------------------------------------------------

    def _make_serial_ports(self) -> list[SerialLink]:
        return [
            self._make_serial_port(port, chardev)
            for port, chardev in zip(at.COM_PORTS, self.config.serials, strict=False)
            if chardev is not None
        ]

    def _make_serial_port(self, port: acpi.SerialPort, chardev: Chardev) -> SerialLink:
        uart = Uart16550(
            self._clock,
            chardev.write,
            can_transmit=lambda: not chardev.full(),
            receive_ready=chardev.accept_input,
        )
        chardev.on_room = uart.drain
        self._connect_irq(and_gate(uart.irq, uart.out2), port.irq)
        self.ports.attach(self._add(uart), port.base, count=8)
        return SerialLink(port, uart, chardev)

    def _make_debug_devices(self) -> None:
        if self.config.debugcon is not None:
            console = self._add(DebugConsole(self.config.debugcon.write))
            self.ports.attach(console, at.DEBUG_CONSOLE, count=1)
        if self.config.debug_exit is not None:
            first, count = self.config.debug_exit
            device = self._add(DebugExit(self._ask_debug_exit))
            self.ports.attach(device, first, count=count)
            handlers = PortHandlers(partial(device.read, 0), partial(device.write, 0))
            for size in (2, 4):  # the whole value counts, whatever the width
                self.ports.attach_port(handlers, first, size=size)


def _part(value: int, offset: int, size: int) -> int:
    """The bytes of a 32-bit register that an access at this offset sees."""
    return value >> (offset & 3) * 8 & (1 << size * 8) - 1 if not offset & 0xC else 0
