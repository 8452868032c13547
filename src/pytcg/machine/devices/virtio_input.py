"""virtio keyboards, mice and tablets."""

from __future__ import annotations

from functools import partial
from typing import Final

from pytcg.hw.virtio.input import VirtioInput, VirtioKeyboard, VirtioMouse, VirtioTablet
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import plug

KEYBOARD, MOUSE, OTHER = 0x090000, 0x090200, 0x098000  # class codes
CODES: Final = range(1, 128)  # keys that a keyboard may have


def _plug(rack: Rack, kind: str, values: Values, device: VirtioInput, class_code: int) -> object:
    rack.board.inputs.append(device)
    rack.undo_by(partial(rack.board.inputs.remove, device))
    return plug(rack, f"virtio-{kind}-pci", values, device, class_code)


def build_keyboard(rack: Rack, values: Values) -> object:
    """virtio-keyboard-pci."""
    device = VirtioKeyboard(CODES, values["serial"] or "")
    return _plug(rack, "keyboard", values, device, KEYBOARD)


def build_mouse(rack: Rack, values: Values) -> object:
    """virtio-mouse-pci."""
    return _plug(rack, "mouse", values, VirtioMouse(values["serial"] or ""), MOUSE)


def build_tablet(rack: Rack, values: Values) -> object:
    """virtio-tablet-pci: the pointer is where the viewer's is."""
    return _plug(rack, "tablet", values, VirtioTablet(values["serial"] or ""), OTHER)
