"""The standard VGA as a device with a name."""

from __future__ import annotations

from pytcg.machine.board.vga import MEMORY_SIZE, Display
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError

MIB = 1 << 20


def build(rack: Rack, values: Values) -> object:
    """VGA: there may be one, if `-vga` has not made it."""
    board = rack.board
    if values["vgamem_mb"] << 20 != MEMORY_SIZE:
        raise DeviceError(f"-device VGA: vgamem_mb={values['vgamem_mb']}: the card has"
                          f" {MEMORY_SIZE // MIB} MiB")  # fmt: skip
    if board.display is not None:
        raise DeviceError("-device VGA: there is a VGA already")
    display = Display(board.backplane, board.config.vga_rom)
    rack.plug_pci(display.card, "VGA", values)
    if board.hotplug is not None:  # it stays
        board.hotplug.removable &= ~(1 << (display.card.devfn >> 3))
    board.display = display
    return display.card
