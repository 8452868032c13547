"""`info pci`, `pic`, `mtree`, `qtree`, `roms`: the board, as QEMU prints it."""

from __future__ import annotations

from typing import Final

from pytcg.hw.core.ioapic import IoApic
from pytcg.hw.pci.bar import Bar
from pytcg.hw.pci.config import Reg
from pytcg.hw.pci.device import PciDevice
from pytcg.monitor.human.table import Shell

CLASSES: Final = {
    0x0100: "SCSI controller", 0x0101: "IDE controller", 0x0106: "SATA controller",
    0x0108: "NVMe controller", 0x0180: "Storage controller", 0x0200: "Ethernet controller",
    0x0300: "VGA controller", 0x0500: "RAM controller", 0x0600: "Host bridge",
    0x0601: "ISA bridge", 0x0604: "PCI bridge", 0x0680: "Bridge",
    0x0780: "Communication controller", 0x0C03: "USB controller", 0x0C05: "SMBus",
}  # fmt: skip
UNMAPPED: Final = (1 << 64) - 1
_MODES: Final = ("fixed ", "lowpri", "SMI   ", "...   ", "NMI   ", "INIT  ", "...   ", "extINT")


def class_name(device: PciDevice) -> str:
    """What a card is, in words."""
    code = device.config.get(Reg.CLASS_CODE, 3) >> 8
    return CLASSES.get(code, f"Class {code:04x}")


def identifier(device: PciDevice, register: Reg) -> str:
    """Vendor and device, from a register on."""
    return f"{device.config.get(register, 2):04x}:{device.config.get(register + 2, 2):04x}"


def pci(shell: Shell, words: list[str]) -> str:
    """info pci."""
    del words
    devices = shell.machine.board.pci.devices
    return "".join(_card(devfn, devices[devfn]) for devfn in sorted(devices))


def _card(devfn: int, device: PciDevice) -> str:
    config = device.config
    identity = identifier(device, Reg.VENDOR_ID)
    subsystem = identifier(device, Reg.SUBSYSTEM_VENDOR_ID)
    lines = [f"  Bus {0:2}, device {devfn >> 3:3}, function {devfn & 7}:",
             f"    {class_name(device)}: PCI device {identity}",
             f"      PCI subsystem {subsystem}"]  # fmt: skip
    pin = config.get(Reg.INTERRUPT_PIN, 1)
    if pin:
        lines.append(f"      IRQ {config.get(Reg.INTERRUPT_LINE, 1)}, pin {'?ABCD'[pin]}")
    lines += map(_window, [*device.bars, *([device.rom] if device.rom else [])])
    return "\n".join((*lines, '      id ""')) + "\n"


def _window(bar: Bar) -> str:
    base = UNMAPPED if bar.base is None else bar.base
    end = (base + bar.size - 1) & UNMAPPED
    if bar.is_io:
        return f"      BAR{bar.index}: I/O at {base:#06x} [{end:#06x}]."
    bits, fetch = 8 * bar.width, " prefetchable" if bar.type & 8 else ""
    return f"      BAR{bar.index}: {bits} bit{fetch} memory at {base:#010x} [{end:#010x}]."


def pic(shell: Shell, words: list[str]) -> str:
    """info pic."""
    del words
    pair, ioapic = shell.machine.board.interrupts.look()
    text = _ioapic(ioapic)
    for number, chip in ((1, pair.slave), (0, pair.master)):
        text += (f"pic{number}: irr={chip.irr:02x} imr={chip.imr:02x} isr={chip.isr:02x}"
                 f" hprio={(chip.lowest + 1) & 7} irq_base={chip.icw2:02x}"
                 f" rr_sel={int(chip.read_isr)} elcr={chip.elcr:02x}"
                 f" fnm={chip.icw4 >> 4 & 1}\n")  # fmt: skip
    return text


def _ioapic(chip: IoApic) -> str:
    lines = [f"ioapic0: ver=0x20 id={chip.id:#04x} sel={chip.index:#04x}"]
    for pin, entry in enumerate(chip.entries):
        mode = _MODES[entry >> 8 & 7].strip()
        polarity = "active-lo" if entry & 1 << 13 else "active-hi"
        trigger = "level" if entry & 1 << 15 else "edge "
        masked = "masked" if entry & 1 << 16 else "      "
        logical = "logical" if entry & 1 << 11 else "physical"
        lines.append(f"  pin {pin:<2} {entry:#018x} dest={entry >> 56:x} vec={entry & 0xFF:<3}"
                     f" {polarity} {trigger} {masked} {mode:6} {logical}".rstrip())  # fmt: skip
    remote = [str(pin) for pin, entry in enumerate(chip.entries) if entry & 1 << 14]
    pending = [str(pin) for pin in range(len(chip.entries)) if chip.inputs >> pin & 1]
    return "\n".join((*lines, "  IRR      " + (" ".join(pending) or "(none)"),
                      "  Remote IRR " + (" ".join(remote) or "(none)"))) + "\n"  # fmt: skip


def mtree(shell: Shell, words: list[str]) -> str:
    """info mtree: physical memory as it is laid out now."""
    del words
    text = "address-space: memory\n"
    for region in shell.machine.board.memory.regions:
        kind = "ram" if region.writable else "rom"
        text += (f"  {region.physical:016x}-{region.end - 1:016x} (prio 0, {kind}):"
                 f" pc.ram @{region.offset:016x}\n")  # fmt: skip
    return text


def qtree(shell: Shell, words: list[str]) -> str:
    """info qtree: the PCI cards, and what hangs on the other buses."""
    del words
    board = shell.machine.board
    text = "bus: main-system-bus\n  type System\n  dev: i440FX-pcihost, id \"\"\n"
    text += "    bus: pci.0\n      type PCI\n"
    for devfn in sorted(board.pci.devices):
        device = board.pci.devices[devfn]
        text += f"      dev: {type(device).__name__}, id \"\"\n"
        text += f"        addr = {devfn >> 3:02x}.{devfn & 7}\n"
        text += f"        class {class_name(device)}, addr 00:{devfn >> 3:02x}.{devfn & 7}"
        text += f", pci id {identifier(device, Reg.VENDOR_ID)}\n"
    for number, channel in enumerate(board.ide.channels if board.ide is not None else ()):
        text += f"        bus: ide.{number}\n          type IDE\n"
        for unit, drive in enumerate(channel.drives):
            if drive is not None:
                text += f'          dev: {type(drive).__name__}, id ""\n'
                text += f"            unit = {unit}\n"
    return text
