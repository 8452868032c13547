"""USB host controllers."""

from __future__ import annotations

from pytcg.hw.usb.uhci import Uhci
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack


def build_uhci(rack: Rack, values: Values) -> object:
    """piix3-usb-uhci: a controller with nothing in its ports."""
    card = Uhci(rack.board.backplane.clock)
    rack.plug_pci(card, "piix3-usb-uhci", values)
    return card
