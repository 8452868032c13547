"""IDE disks and CD-ROMs."""

from __future__ import annotations

from typing import Final

from pytcg.hw.storage.ata import AtaDisk
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.ata_identify import DiskIdentity
from pytcg.hw.storage.atapi_drive import AtapiDrive
from pytcg.hw.storage.ide_channel import UNITS
from pytcg.hw.storage.ide_drive import IdeDrive
from pytcg.hw.storage.piix3_ide import CHANNELS
from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.unit import UnitIdentity
from pytcg.machine import pc_map as at
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError

FIRMWARE: Final = "2.5+"
BUSES: Final = {f"ide.{number}": number for number in range(CHANNELS)}


def build_disk(rack: Rack, values: Values) -> object:
    """ide-hd."""
    drive = rack.take_drive("ide-hd", values)
    if drive.io is None:
        raise DeviceError("-device ide-hd: Device needs media, but drive is empty")
    if drive.io.read_only:
        raise DeviceError(f"-device ide-hd: Block node '{drive.id}' is read-only")
    place = _place(rack, "ide-hd", values)
    write_cache = values["write-cache"]
    disk = AtaDisk(drive.io, _identity(place, values, "QEMU HARDDISK"),
                   drive.write_cache if write_cache is None else write_cache)  # fmt: skip
    return _connect(rack, place, values, AtaDrive(disk))


def build_cdrom(rack: Rack, values: Values) -> object:
    """ide-cd: with no drive it is empty."""
    drive = rack.take_drive("ide-cd", values) if values["drive"] is not None else None
    place = _place(rack, "ide-cd", values)
    identity = _identity(place, values, "QEMU DVD-ROM")
    unit = CdRom(
        UnitIdentity(CD_ROM, product="QEMU DVD-ROM", serial=identity.serial, removable=True,
                     atapi=True),
        drive.io if drive is not None else None,
    )  # fmt: skip
    return _connect(rack, place, values, AtapiDrive(unit, identity))


def _place(rack: Rack, name: str, values: Values) -> tuple[int, int]:
    """Channel and unit: as asked for, else the first free one; DeviceError if taken."""
    channels = rack.board.ide.channels
    free = [
        (channel, unit)
        for channel in ([_channel(name, values["bus"])] if values["bus"] else range(CHANNELS))
        for unit in ([values["unit"]] if values["unit"] is not None else range(UNITS))
        if unit < UNITS and channels[channel].drives[unit] is None
    ]
    if values["unit"] is not None and values["unit"] >= UNITS:
        raise DeviceError(f"-device {name}: Can't create IDE unit {values['unit']},"
                          " bus supports only 2 units")  # fmt: skip
    if not free:
        if values["bus"] and values["unit"] is not None:
            raise DeviceError(f"-device {name}: IDE unit {values['unit']} is in use")
        raise DeviceError(f"-device {name}: no IDE unit is free")
    return free[0]


def _channel(name: str, bus: str) -> int:
    if bus not in BUSES:
        raise DeviceError(f"-device {name}: Bus '{bus}' not found")
    return BUSES[bus]


def _identity(place: tuple[int, int], values: Values, model: str) -> DiskIdentity:
    number = place[0] * UNITS + place[1] + 1
    return DiskIdentity(values["serial"] or f"QM{number:05}", values["model"] or model,
                        values["ver"] or FIRMWARE, values["wwn"])  # fmt: skip


def _connect(rack: Rack, place: tuple[int, int], values: Values, drive: IdeDrive
             ) -> IdeDrive:  # fmt: skip
    channel, unit = place
    rack.board.ide.channels[channel].connect(unit, drive)
    rack.add_boot(values, f"/pci@i0cf8/ide@{at.PIIX:x},1/drive@{channel:x}/disk@{unit:x}")
    return drive
