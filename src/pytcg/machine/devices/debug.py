"""Devices that only emulators have."""

from __future__ import annotations

from pytcg.machine.board.debug import attach_debug_console, attach_debug_exit
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError


def build_exit(rack: Rack, values: Values) -> object:
    """isa-debug-exit."""
    port, count = values["iobase"], values["iosize"]
    if not 1 <= count <= 4 or port > 0x10000 - count:
        raise DeviceError("-device isa-debug-exit: no such ports")
    attach_debug_exit(rack.board.backplane, port, count)
    return attach_debug_exit


def build_edu(rack: Rack, values: Values) -> object:
    """edu."""
    from pytcg.hw.testing.edu import Edu

    card = Edu(values["dma_mask"])
    rack.plug_pci(card, "edu", values)
    return card


def build_testdev(rack: Rack, values: Values) -> object:
    """pc-testdev."""
    from pytcg.machine.board.testing import attach_testdev

    del values
    return attach_testdev(rack.board.backplane)


def build_console(rack: Rack, values: Values) -> object:
    """isa-debugcon."""
    chardev = rack.take_chardev("isa-debugcon", values)
    if chardev is None:
        raise DeviceError("-device isa-debugcon: Can't create debugcon device, empty char device")
    attach_debug_console(rack.board.backplane, chardev, values["iobase"],
                         readback=values["readback"])  # fmt: skip
    rack.chardevs.connect(chardev, None)
    return chardev
