"""Devices that only emulators have."""

from __future__ import annotations

from pytcg.machine.board.debug import attach_debug_exit
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
