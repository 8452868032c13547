"""virtio cards."""

from __future__ import annotations

from typing import Any, Final

from pytcg.hw.pci.device import PciDevice
from pytcg.hw.virtio.balloon import VirtioBalloon
from pytcg.hw.virtio.blk import VirtioBlk
from pytcg.hw.virtio.device import Feature, VirtioDevice
from pytcg.hw.virtio.pci import VirtioPci
from pytcg.hw.virtio.rng import UNLIMITED, VirtioRng
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DeviceError
from pytcg.machine.entropy import HostEntropy

STORAGE_SCSI: Final = 0x010000  # class codes
OTHER: Final = 0x00FF00


def plug(rack: Rack, name: str, values: Values, device: VirtioDevice, class_code: int
         ) -> VirtioPci:  # fmt: skip
    """A card with the device on it, as its properties say, in a slot."""
    optional = {"packed": Feature.RING_PACKED, "indirect_desc": Feature.INDIRECT_DESC,
                "event_idx": Feature.EVENT_IDX}  # fmt: skip
    for key, feature in optional.items():
        device.options &= ~(1 << feature)
        if values[key]:
            device.options |= 1 << feature
    legacy, modern = not values["disable-legacy"], not values["disable-modern"]
    if not legacy and not modern:
        raise DeviceError(f"-device {name}: device cannot work as neither modern nor legacy mode"
                          " is enabled")  # fmt: skip
    try:
        card = VirtioPci(device, class_code, legacy=legacy, modern=modern,
                         vectors=values["vectors"])  # fmt: skip
    except ValueError as error:
        raise DeviceError(f"-device {name}: {error}") from None
    rack.plug_pci(card, name, values)
    return card


def build_blk(rack: Rack, values: Values) -> object:
    """virtio-blk-pci."""
    name = "virtio-blk-pci"
    drive = rack.take_drive(name, values)
    if drive.io is None:
        raise DeviceError(f"-device {name}: Device needs media, but drive is empty")
    cache = values["write-cache"]
    rack.take_iothread(name, values)
    device = VirtioBlk(drive.io, values["serial"] or "",
                       write_cache=drive.write_cache if cache is None else cache)  # fmt: skip
    card = plug(rack, name, values, device, STORAGE_SCSI)
    drive.on_resize = card.config_interrupt
    rack.add_boot(values, boot_path(card, "scsi") + "/disk@0,0")
    return card


def build_rng(rack: Rack, values: Values) -> object:
    """virtio-rng-pci: from a source that `rng` names, or the host's entropy."""
    name = "virtio-rng-pci"
    if values["period"] <= 0:
        raise DeviceError(f"-device {name}: 'period' parameter expects a positive integer")
    if values["max-bytes"] > UNLIMITED:
        raise DeviceError(f"-device {name}: 'max-bytes' parameter must be non-negative, and less"
                          " than 2^63")  # fmt: skip
    source: Any = HostEntropy()
    if values["rng"] is not None:
        source = rack.take_object(name, "rng", values)
    device = VirtioRng(source, rack.board.backplane.clock, values["max-bytes"], values["period"])
    rack.undo_by(device.close)
    return plug(rack, name, values, device, OTHER)


def build_balloon(rack: Rack, values: Values) -> object:
    """virtio-balloon-pci: what the guest gives back, the host gets."""
    memory = rack.board.memory

    def discard(address: int, length: int) -> None:
        region = memory.find(address)
        if region is None or not region.writable:
            return
        offset = region.offset + address - region.physical
        memory.window.discard(offset, length)
        for listener in memory.on_write:  # code that was translated there is gone
            listener(offset, length)

    device = VirtioBalloon(discard, deflate_on_oom=values["deflate-on-oom"])
    return plug(rack, "virtio-balloon-pci", values, device, OTHER)


def boot_path(card: PciDevice, kind: str) -> str:
    """A card's OpenFirmware path."""
    slot, function = divmod(card.devfn, 8)
    place = f"{slot:x},{function:x}" if function else f"{slot:x}"
    return f"/pci@i0cf8/{kind}@{place}"
