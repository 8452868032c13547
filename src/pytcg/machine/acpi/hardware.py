"""What ACPI's tables say of a board; the board fills it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class SerialPort(NamedTuple):
    """A UART the operating system should know of."""

    base: int
    irq: int


class ParallelPort(NamedTuple):
    """A parallel port likewise."""

    base: int
    irq: int


@dataclass(frozen=True)
class Hardware:
    """Addresses, interrupts and values, each a register's or a table's."""

    lapic: int
    ioapic: int
    sci: int
    smi_command: int
    acpi_enable: int
    acpi_disable: int
    pm1_event: int
    pm1_control: int
    pm_timer: int
    gpe0: int
    gpe0_length: int
    reset_port: int
    reset_value: int
    sleep_types: dict[int, int]  # SLP_TYP of S3, S4, S5
    serial_ports: Sequence[SerialPort]
    parallel_ports: Sequence[ParallelPort] = ()
    isa_slot: int = 1  # of the bridge that has the PIRQ router
    pirq_choices: Sequence[int] = (5, 10, 11)
    memory_window: tuple[int, int] = (0xE0000000, 0xFEBFFFFF)  # for PCI, below 4 GiB
    hpet: int | None = None
    mouse: bool = False
    vga: bool = False
    ecam: int | None = None  # where configuration space is memory
    hotplug: int | None = None  # ports by which cards come and go
    hotplug_slots: Sequence[int] = ()
    pirq: Callable[[int, int], int] | None = None  # pins that go to the I/O APIC from 16 on
