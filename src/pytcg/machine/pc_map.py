"""Every port, physical address and interrupt number of the `pc` board."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from pytcg.hw.chipset import ich9, piix4_pm
from pytcg.hw.core import acpi_pm
from pytcg.machine.acpi.hardware import Hardware, ParallelPort, SerialPort
from pytcg.machine.layout import low_memory_end

DMA_LOW: Final = 0x00
PIC_MASTER: Final = 0x20
PIT: Final = 0x40
KEYBOARD_DATA: Final = 0x60
PORT_B: Final = 0x61
KEYBOARD_COMMAND: Final = 0x64
RTC: Final = 0x70
DMA_PAGES: Final = 0x80  # the first is the POST port
PORT_A: Final = 0x92
COPROCESSOR_ERROR: Final = 0xF0
PIC_SLAVE: Final = 0xA0
APM_CONTROL: Final = 0xB2
DMA_HIGH: Final = 0xC0
DEBUG_CONSOLE: Final = 0xE9
DISPI: Final = (0x1CE, 0x1CF, 0x1D0)  # index, data, data
VGA: Final = 0x3B0
ELCR: Final = 0x4D0
FLOPPY: Final = 0x3F0
FLOPPY_DMA: Final = 2
FW_CFG_SELECTOR: Final = 0x510
FW_CFG_DATA: Final = 0x511
FW_CFG_DMA: Final = 0x514
PM_BASE: Final = 0x600  # where firmware puts it
GPE0: Final = 0xAFE0
PCI_HOTPLUG: Final = 0xAE00
PCI_ADDRESS: Final = 0xCF8
RESET_CONTROL: Final = 0xCF9
PCI_DATA: Final = 0xCFC
COM_PORTS: Final = (
    SerialPort(0x3F8, 4), SerialPort(0x2F8, 3),
    SerialPort(0x3E8, 4), SerialPort(0x2E8, 3),
)  # fmt: skip

LPT_PORTS: Final = (ParallelPort(0x378, 7), ParallelPort(0x278, 7), ParallelPort(0x3BC, 7))

IDE_CHANNELS: Final = ((0x1F0, 0x3F6, 14), (0x170, 0x376, 15))  # ports, control port, IRQ

IO_APIC: Final = 0xFEC00000
HPET: Final = 0xFED00000
HPET_SIZE: Final = 0x400
LOCAL_APIC: Final = 0xFEE00000
PCI_MEMORY_END: Final = IO_APIC  # windows lie below
APIC_PAGE: Final = 0x1000
ACPI_TABLES: Final = 0xF0000
SMBIOS_TABLES: Final = 0xF8000

IRQ_TIMER: Final = 0
IRQ_KEYBOARD: Final = 1
IRQ_FLOPPY: Final = 6
IRQ_RTC: Final = 8
IRQ_SCI: Final = 9
IRQ_MOUSE: Final = 12
IRQ_COPROCESSOR: Final = 13
TIMER_PIN: Final = 2  # of the I/O APIC; the MADT's override says so

HOST_BRIDGE: Final = 0  # slots
PIIX: Final = 1
VGA_SLOT: Final = 2
Q35_MEMORY_END: Final = 0xB0000000  # of RAM below 4 GiB: there is configuration space
Q35_ECAM: Final = 0xB0000000
Q35_ECAM_SIZE: Final = 0x10000000
ICH9: Final = 31
ICH9_SATA, ICH9_SMBUS = 2, 3  # functions
PIRQ_PIN: Final = 16  # of the I/O APIC: PIRQA
ACPI_ENABLE: Final = 0xF1  # commands for APM_CONTROL
ACPI_DISABLE: Final = 0xF0
SLEEP_SOFT_OFF: Final = 0  # SLP_TYP that \_S5 names
SLEEP_TO_RAM: Final = 1
SLEEP_TO_DISK: Final = 2
SLEEP_TYPES: Final = {4: SLEEP_TO_DISK, 5: SLEEP_SOFT_OFF}
RESET_SYSTEM: Final = 6  # for port CF9h: SYS_RST and RST_CPU


def acpi_hardware(
    ram_size: int, serial_ports: Sequence[SerialPort],
    parallel_ports: Sequence[ParallelPort] = (), *, hpet: bool = True, vga: bool = False,
    q35: bool = False, hotplug_slots: Sequence[int] = (),
    sleep_states: Container[int] = (4, 5),
) -> Hardware:  # fmt: skip
    """What the ACPI tables tell the operating system of all this."""
    first = Q35_ECAM + Q35_ECAM_SIZE if q35 else low_memory_end(ram_size)
    return Hardware(
        lapic=LOCAL_APIC,
        ioapic=IO_APIC,
        sci=IRQ_SCI,
        smi_command=APM_CONTROL,
        acpi_enable=ACPI_ENABLE,
        acpi_disable=ACPI_DISABLE,
        pm1_event=PM_BASE + acpi_pm.Block.PM1_STS,
        pm1_control=PM_BASE + acpi_pm.Block.PM1_CNT,
        pm_timer=PM_BASE + acpi_pm.Block.PM_TMR,
        gpe0=PM_BASE + acpi_pm.Block.GPE0_STS if q35 else GPE0,
        gpe0_length=acpi_pm.ICH9_GPE0_LENGTH if q35 else piix4_pm.GPE_LENGTH,
        reset_port=RESET_CONTROL,
        reset_value=RESET_SYSTEM,
        sleep_types={state: code for state, code in SLEEP_TYPES.items() if state in sleep_states},
        serial_ports=serial_ports,
        parallel_ports=parallel_ports,
        isa_slot=ICH9 if q35 else PIIX,
        ecam=Q35_ECAM if q35 else None,
        pirq=ich9.swizzle if q35 else None,
        hpet=HPET if hpet else None,
        vga=vga,
        hotplug=PCI_HOTPLUG if hotplug_slots else None,
        hotplug_slots=hotplug_slots,
        memory_window=(first, PCI_MEMORY_END - 1),
    )
