"""Floppy drives."""

from __future__ import annotations

from typing import Final

from pytcg.hw.storage.floppy.drive import FloppyDrive, Kind
from pytcg.hw.storage.floppy.front import UNITS
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError

KINDS: Final = {"144": Kind.THREE_INCH, "288": Kind.EXTENDED, "120": Kind.FIVE_INCH, "auto": None}


def build(rack: Rack, values: Values) -> object:
    """floppy: with no drive it is empty."""
    drives, unit = rack.board.fdc.drives, values["unit"]
    kind = values["drive-type"]
    if kind not in KINDS:
        raise DeviceError(f"-device floppy: drive-type doesn't know '{kind}'")
    if values["bus"] not in (None, "floppy-bus.0"):
        raise DeviceError(f"-device floppy: Bus '{values['bus']}' not found")
    if unit is None:
        unit = next((number for number in range(UNITS) if drives[number] is None), UNITS)
    if unit >= UNITS:
        raise DeviceError(f"-device floppy: Can't create floppy unit {unit}, bus supports only"
                          f" {UNITS} units")  # fmt: skip
    if drives[unit] is not None:
        raise DeviceError(f"-device floppy: Floppy unit {unit} is in use")
    drive = rack.take_tray("floppy", values)
    drives[unit] = drive.tray = floppy = FloppyDrive(drive.io, KINDS[kind])
    rack.add_boot(values, f"/pci@i0cf8/isa@1/fdc@03f0/floppy@{unit:x}")
    return floppy
