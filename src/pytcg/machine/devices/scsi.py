"""SCSI adapters, and the disks and CD-ROMs on their buses."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from pytcg.hw.storage.scsi.cdrom import CD_ROM, CdRom
from pytcg.hw.storage.scsi.disk import DISK, ScsiDisk
from pytcg.hw.storage.scsi.unit import CAPACITY_CHANGED, ScsiUnit, UnitIdentity
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.scsi import MAX_LUN, MAX_TARGET, VirtioScsi
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import STORAGE_SCSI, boot_path, plug
from pytcg.machine.drives import DeviceError


class ScsiBus(NamedTuple):
    """An adapter and its card."""

    adapter: VirtioScsi
    card: VirtioPci


def build_adapter(rack: Rack, values: Values) -> object:
    """virtio-scsi-pci; its bus is ID.0, or scsi.N."""
    rack.take_iothread("virtio-scsi-pci", values)
    adapter = VirtioScsi()
    card = plug(rack, "virtio-scsi-pci", values, adapter, STORAGE_SCSI)
    number = sum(isinstance(bus, ScsiBus) for bus in rack.buses.values())
    name = f"{values['id']}.0" if values["id"] else f"scsi.{number}"
    rack.add_bus(name, ScsiBus(adapter, card))
    return card


def build_disk(rack: Rack, values: Values) -> object:
    """scsi-hd."""
    bus = _bus(rack, "scsi-hd", values)
    drive = rack.take_drive("scsi-hd", values)
    if drive.io is None:
        raise DeviceError("-device scsi-hd: Device needs media, but drive is empty")
    if drive.io.read_only:
        raise DeviceError(f"-device scsi-hd: Block node '{drive.id}' is read-only")
    identity = UnitIdentity(
        DISK, values["vendor"], values["product"] or "QEMU HARDDISK", values["ver"] or "2.5+",
        values["serial"] or drive.id,
    )  # fmt: skip
    cache = values["write-cache"]
    disk = ScsiDisk(identity, drive.io, write_cache=drive.write_cache if cache is None else cache)
    drive.on_resize = lambda: disk.attention.append(CAPACITY_CHANGED)
    return _attach(rack, bus, "scsi-hd", values, disk)


def build_cdrom(rack: Rack, values: Values) -> object:
    """scsi-cd: with no drive it is empty."""
    bus = _bus(rack, "scsi-cd", values)
    drive = rack.take_tray("scsi-cd", values)
    identity = UnitIdentity(
        CD_ROM, values["vendor"], values["product"] or "QEMU CD-ROM", values["ver"] or "2.5+",
        values["serial"] or "", removable=True,
    )  # fmt: skip
    cdrom = drive.tray = CdRom(identity, drive.io)
    return _attach(rack, bus, "scsi-cd", values, cdrom)


def _bus(rack: Rack, name: str, values: Values) -> ScsiBus:
    wanted = values["bus"]
    for known, bus in rack.buses.items():
        if isinstance(bus, ScsiBus) and wanted in (None, known):
            return bus
    if wanted is None:
        raise DeviceError(f"-device {name}: No 'SCSI' bus found for device '{name}'")
    raise DeviceError(f"-device {name}: Bus '{wanted}' not found")


def _attach(rack: Rack, bus: ScsiBus, name: str, values: Values, unit: ScsiUnit) -> ScsiUnit:
    units, lun, target = bus.adapter.units, values["lun"], values["scsi-id"]
    if target is None:
        target = next((number for number in range(MAX_TARGET + 1) if (number, lun) not in units),
                      MAX_TARGET + 1)  # fmt: skip
    if target > MAX_TARGET or lun > MAX_LUN:
        raise DeviceError(f"-device {name}: bad scsi device id or lun: {target}:{lun}")
    if (target, lun) in units:
        raise DeviceError(f"-device {name}: lun already used by another device: {target}:{lun}")
    units[target, lun] = unit
    rack.put_on(bus)
    rack.undo_by(partial(_detach, rack, bus.adapter, (target, lun)))
    bus.adapter.announce(target, lun, present=True)
    path = boot_path(bus.card, "scsi")
    rack.add_boot(values, f"{path}/channel@0/disk@{target:x},{lun:x}")
    return unit


def _detach(rack: Rack, adapter: VirtioScsi, place: tuple[int, int]) -> None:
    with rack.chardevs.context.lock:
        del adapter.units[place]
        adapter.announce(*place, present=False)
