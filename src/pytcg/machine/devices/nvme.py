"""NVMe controllers and their namespaces."""

from __future__ import annotations

from typing import Final

from pytcg.hw.storage.nvme.controller import Nvme
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import boot_path
from pytcg.machine.drives import DeviceError, Drive

MAX_NAMESPACES: Final = 256
MAX_VECTORS: Final = 256  # its table is a page
MAX_QUEUES: Final = 511  # doorbells of a page, but for the admin queues'


def build_controller(rack: Rack, values: Values) -> object:
    """nvme: with a drive that is namespace 1; its bus, for nvme-ns, is its id, or nvme-bus.N."""
    serial, queues, vectors = values["serial"], values["max_ioqpairs"], values["msix_qsize"]
    if serial is None:
        raise DeviceError("-device nvme: serial property not set")
    if not 1 <= queues <= MAX_QUEUES:
        raise DeviceError(f"-device nvme: max_ioqpairs must be between 1 and {MAX_QUEUES}")
    if not 1 <= vectors <= MAX_VECTORS:
        raise DeviceError(f"-device nvme: msix_qsize must be between 1 and {MAX_VECTORS}")
    drive = _take(rack, "nvme", values) if values["drive"] is not None else None
    cache = values["write-cache"]
    if cache is None:
        cache = drive is None or drive.write_cache
    card = Nvme(serial, queues=queues, vectors=vectors, write_cache=cache)
    rack.plug_pci(card, "nvme", values)
    number = sum(isinstance(bus, Nvme) for bus in rack.buses.values())
    rack.add_bus(values["id"] or f"nvme-bus.{number}", card)
    if drive is not None:
        _add(rack, card, 1, drive, values)
    return card


def build_namespace(rack: Rack, values: Values) -> object:
    """nvme-ns."""
    card = _bus(rack, values["bus"])
    rack.put_on(card)
    taken = card.engine.namespaces
    wanted = values["nsid"] or min(set(range(1, MAX_NAMESPACES + 2)) - taken.keys())
    if wanted > MAX_NAMESPACES:
        raise DeviceError(f"-device nvme-ns: invalid namespace id (must be between 0 and"
                          f" {MAX_NAMESPACES})")  # fmt: skip
    if wanted in taken:
        raise DeviceError(f"-device nvme-ns: namespace id '{wanted}' already allocated")
    _add(rack, card, wanted, _take(rack, "nvme-ns", values), values)
    return taken[wanted]


def _bus(rack: Rack, wanted: str | None) -> Nvme:
    for name, bus in rack.buses.items():
        if isinstance(bus, Nvme) and wanted in (None, name):
            return bus
    if wanted is None:
        raise DeviceError("-device nvme-ns: No 'nvme-bus' bus found for device 'nvme-ns'")
    raise DeviceError(f"-device nvme-ns: Bus '{wanted}' not found")


def _take(rack: Rack, name: str, values: Values) -> Drive:
    drive = rack.take_drive(name, values)
    if drive.io is None:
        raise DeviceError(f"-device {name}: Device needs media, but drive is empty")
    return drive


def _add(rack: Rack, card: Nvme, number: int, drive: Drive, values: Values) -> None:
    assert drive.io is not None
    card.add_namespace(number, drive.io)
    rack.add_boot(values, f"{boot_path(card, 'pci1b36,10')}/namespace@{number:x},0")
