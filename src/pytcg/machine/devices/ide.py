"""IDE disks and CD-ROMs."""

from __future__ import annotations

from typing import Final

from pytcg.hw.storage.ata import AtaDisk
from pytcg.hw.storage.ata_drive import AtaDrive
from pytcg.hw.storage.ata_identify import DiskIdentity
from pytcg.hw.storage.atapi_drive import AtapiDrive
from pytcg.hw.storage.ide_drive import IdeDrive
from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.unit import UnitIdentity
from pytcg.machine.devices.ide_bus import IdeBus
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError

FIRMWARE: Final = "2.5+"


def build_disk(rack: Rack, values: Values) -> object:
    """ide-hd."""
    drive = rack.take_drive("ide-hd", values)
    if drive.io is None:
        raise DeviceError("-device ide-hd: Device needs media, but drive is empty")
    if drive.io.read_only:
        raise DeviceError(f"-device ide-hd: Block node '{drive.id}' is read-only")
    place = _place(rack, "ide-hd", values)
    write_cache = values["write-cache"]
    disk = AtaDisk(drive.io, _identity(rack, place, values, "QEMU HARDDISK"),
                   drive.write_cache if write_cache is None else write_cache,
                   place[0].queue_depth)  # fmt: skip
    return _connect(rack, place, values, AtaDrive(disk))


def build_cdrom(rack: Rack, values: Values) -> object:
    """ide-cd: with no drive it is empty."""
    drive = rack.take_tray("ide-cd", values)
    place = _place(rack, "ide-cd", values)
    identity = _identity(rack, place, values, "QEMU DVD-ROM")
    unit = CdRom(
        UnitIdentity(CD_ROM, product="QEMU DVD-ROM", serial=identity.serial, removable=True,
                     atapi=True),
        drive.io,
    )  # fmt: skip
    drive.tray = unit
    return _connect(rack, place, values, AtapiDrive(unit, identity))


Place = tuple[IdeBus, int]


def _place(rack: Rack, name: str, values: Values) -> Place:
    """Bus and unit: as asked for, else the first free one; DeviceError if taken."""
    known = rack.ide_buses()
    if values["bus"] and values["bus"] not in known:
        raise DeviceError(f"-device {name}: Bus '{values['bus']}' not found")
    buses = [known[values["bus"]]] if values["bus"] else list(known.values())
    unit = values["unit"]
    free = [
        (bus, number)
        for bus in buses
        for number in ([unit] if unit is not None else range(bus.units))
        if number < bus.units and number not in bus.drives
    ]
    if unit is not None and buses and all(unit >= bus.units for bus in buses):
        raise DeviceError(f"-device {name}: Can't create IDE unit {unit},"
                          f" bus supports only {buses[0].units} units")  # fmt: skip
    if not free:
        if values["bus"] and unit is not None:
            raise DeviceError(f"-device {name}: IDE unit {unit} is in use")
        raise DeviceError(f"-device {name}: no IDE unit is free")
    return free[0]


def _identity(rack: Rack, place: Place, values: Values, model: str) -> DiskIdentity:
    bus, unit = place
    number = list(rack.ide_buses().values()).index(bus) * bus.units + unit + 1
    return DiskIdentity(values["serial"] or f"QM{number:05}", values["model"] or model,
                        values["ver"] or FIRMWARE, values["wwn"])  # fmt: skip


def _connect(rack: Rack, place: Place, values: Values, drive: IdeDrive) -> IdeDrive:
    bus, unit = place
    bus.connect(unit, drive)
    bus.drives[unit] = drive
    rack.add_boot(values, f"{bus.path}/disk@{unit:x}")
    return drive
