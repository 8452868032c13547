"""The differentiated description: sleep states, the PCI root with its interrupt routing, ISA."""

from __future__ import annotations

from typing import Final

from pytcg.hw.chipset import pci_hotplug
from pytcg.machine.acpi import aml, hotplug, resource
from pytcg.machine.acpi.hardware import Hardware
from pytcg.machine.acpi.resource import Space
from pytcg.machine.acpi.tables import table

BRIDGE: Final = "\\_SB.PCI0.ISA"
SLOTS: Final = 32
PINS: Final = 4
APIC_PIRQ: Final = 16  # the I/O APIC's pin of PIRQA
ECAM_SIZE: Final = 0x10000000
PIRQRC: Final = 0x60  # PIIX3's route registers
ROUTE_DISABLED: Final = 0x80
PRESENT, PRESENT_DISABLED = 0x0B, 0x09
CONFIG_PORTS: Final = (0xCF8, 0xCFF)


def dsdt(hardware: Hardware) -> bytes:
    """The table."""
    processor = aml.device(
        "CPU0", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(0))
    )
    devices = [processor, pci_root(hardware)]
    if hardware.hpet is not None:
        devices.append(hpet(hardware.hpet))
    body = sleep_states(hardware) + aml.scope("\\_SB", *devices) + hotplug.event(hardware)
    return table(b"DSDT", 2, body)


def sleep_states(hardware: Hardware) -> bytes:
    """\\_S3, \\_S4 and \\_S5: what the operating system writes into PM1_CNT."""
    states = b""
    for state, sleep_type in hardware.sleep_types.items():
        value = aml.integer(sleep_type)
        states += aml.name(f"\\_S{state}", aml.package(value, value, aml.ZERO, aml.ZERO))
    return states


def pci_root(hardware: Hardware) -> bytes:
    """Bus 0, what it passes on, and who is on it without saying so."""
    first, last = hardware.memory_window
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A08" if hardware.ecam else "PNP0A03")),
        aml.name("_CID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", aml.ZERO),
        resource.current(
            resource.words(Space.BUS_NUMBER, 0, 0xFF),
            resource.io_ports(CONFIG_PORTS[0], CONFIG_PORTS[1] - CONFIG_PORTS[0] + 1),
            resource.words(Space.IO, 0, CONFIG_PORTS[0] - 1),
            resource.words(Space.IO, CONFIG_PORTS[1] + 1, 0xFFFF),
            resource.dwords(0xA0000, 0xBFFFF, cacheable=True),
            resource.dwords(first, last),
        ),
        aml.name("_PRT", routing(hardware)),
        isa_bridge(hardware),
        *hotplug.slots(hardware),
    )


def routing(hardware: Hardware) -> bytes:
    """_PRT: each slot's pins by the board's swizzle; the PM function's pin is the SCI's."""
    if hardware.pirq is not None:
        return aml.package(*(
            aml.package(aml.integer(slot << 16 | 0xFFFF), aml.integer(pin), aml.ZERO,
                        aml.integer(APIC_PIRQ + hardware.pirq(slot, pin + 1)))
            for slot in range(SLOTS) for pin in range(PINS)))  # fmt: skip
    rows = []
    for slot in range(SLOTS):
        for pin in range(PINS):
            name = "LNK" + "ABCD"[(slot + pin - 1) % PINS]
            if slot == hardware.isa_slot and pin == 0:
                name = "LNKS"
            address = aml.integer(slot << 16 | 0xFFFF)
            link = aml.segment(f"{BRIDGE}.{name}")
            rows.append(aml.package(address, aml.integer(pin), link, aml.ZERO))
    return aml.package(*rows)


def isa_bridge(hardware: Hardware) -> bytes:
    """PIIX3: its router's registers, the links they make, and the devices behind it."""
    if hardware.pirq is not None:
        address = aml.name("_ADR", aml.integer(hardware.isa_slot << 16))
        return aml.device("ISA", address, *isa_devices(hardware))
    registers = [f"PRQ{number}" for number in range(PINS)]
    return aml.device(
        "ISA",
        aml.name("_ADR", aml.integer(hardware.isa_slot << 16)),
        aml.region("P40C", aml.PCI_CONFIG, PIRQRC, PINS),
        aml.byte_fields("P40C", *registers),
        _link_status(),
        _link_interrupt(),
        *(link(f"LNK{letter}", uid, registers[uid], hardware)
          for uid, letter in enumerate("ABCD")),
        sci_link(hardware),
        *isa_devices(hardware),
    )  # fmt: skip


def _link_status() -> bytes:
    """IQST: a link's _STA from its register."""
    disabled = aml.bit_and(aml.ARG0, aml.integer(ROUTE_DISABLED))
    return aml.method("IQST", 1, aml.when(disabled, aml.returns(aml.integer(PRESENT_DISABLED))),
                      aml.returns(aml.integer(PRESENT)))  # fmt: skip


def _link_interrupt() -> bytes:
    """IQCR: a link's _CRS from its register, in the buffer PRR0."""
    buffer = aml.name("PRR0", resource.template(resource.interrupts(0)))
    return buffer + aml.method(
        "IQCR", 1,
        aml.dword_field(aml.segment("PRR0"), 5, "PRRI"),
        aml.store(aml.ZERO, aml.segment("PRRI")),
        aml.when(aml.less(aml.ARG0, aml.integer(ROUTE_DISABLED)),
                 aml.store(aml.ARG0, aml.segment("PRRI"))),
        aml.returns(aml.segment("PRR0")),
        serialized=True,
    )  # fmt: skip


def link(identifier: str, uid: int, register: str, hardware: Hardware) -> bytes:
    """An interrupt link device (6.2.13) over one of the router's registers."""
    route = aml.segment(register)
    return aml.device(
        identifier,
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", aml.integer(uid)),
        aml.name("_PRS", resource.template(resource.interrupts(*hardware.pirq_choices))),
        aml.method("_STA", 0, aml.returns(aml.call("IQST", route))),
        aml.method("_DIS", 0, aml.bit_or(route, aml.integer(ROUTE_DISABLED), route)),
        aml.method("_CRS", 0, aml.returns(aml.call("IQCR", route))),
        aml.method("_SRS", 1, aml.dword_field(aml.ARG0, 5, "PRRI"),
                   aml.store(aml.segment("PRRI"), route)),
    )  # fmt: skip


def sci_link(hardware: Hardware) -> bytes:
    """The SCI is wired to its interrupt: nothing to choose."""
    fixed = resource.template(resource.interrupts(hardware.sci))
    return aml.device(
        "LNKS",
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", aml.integer(PINS)),
        aml.name("_PRS", fixed),
        aml.name("_CRS", fixed),
        aml.name("_STA", aml.integer(PRESENT)),
        aml.method("_DIS", 0),
        aml.method("_SRS", 1),
    )


def isa_devices(hardware: Hardware) -> list[bytes]:
    """Clock, keyboard, ports."""
    io, irq = resource.io_ports, resource.irq
    devices = [
        _device("RTC", "PNP0B00", 0, io(0x70, 2), irq(8)),
        _device("FDC0", "PNP0700", 0, io(0x3F2, 4), io(0x3F7, 1), irq(6), resource.dma(2)),
        _device("KBD", "PNP0303", 0, io(0x60, 1), io(0x64, 1), irq(1)),
        # The fixed hardware's ports are in use: no driver may claim them.
        _device("MBRD", "PNP0C02", 0, io(hardware.pm1_event, 0x40),
                io(hardware.gpe0, hardware.gpe0_length), io(hardware.smi_command, 2),
                *([io(hardware.hotplug, pci_hotplug.LENGTH)] if hardware.hotplug else []),
                *([resource.memory(hardware.ecam, ECAM_SIZE)] if hardware.ecam else [])),
    ]  # fmt: skip
    if hardware.mouse:
        devices.append(_device("MOU", "PNP0F13", 0, irq(12)))
    for number, port in enumerate(hardware.serial_ports, 1):
        devices.append(_device(f"COM{number}", "PNP0501", number, io(port.base, 8), irq(port.irq)))
    for number, parallel in enumerate(hardware.parallel_ports, 1):
        ports = io(parallel.base, 8), irq(parallel.irq)
        devices.append(_device(f"LPT{number}", "PNP0400", number, *ports))
    return devices


def hpet(address: int) -> bytes:
    """The high precision event timers' page."""
    return _device("HPET", "PNP0103", 0, resource.memory(address, 0x400))


def _device(identifier: str, eisa: str, uid: int, *items: bytes) -> bytes:
    parts = [aml.name("_HID", aml.eisa_id(eisa)), aml.name("_UID", aml.integer(uid))]
    state = aml.name("_STA", aml.integer(0xF))
    return aml.device(identifier, *parts, state, resource.current(*items))
