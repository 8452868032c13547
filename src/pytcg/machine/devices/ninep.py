"""virtio-9p cards: a shared folder with a tag by which the guest mounts it."""

from __future__ import annotations

from typing import Final

from pytcg.hw.virtio.ninep import TAG_MAX, VirtioNinep
from pytcg.machine.devices.model import Values
from pytcg.machine.devices.rack import Rack
from pytcg.machine.devices.virtio import plug
from pytcg.machine.drives import DeviceError

NAME: Final = "virtio-9p-pci"
NETWORK: Final = 0x000200  # the class code that QEMU's card has, by a slip


def build(rack: Rack, values: Values) -> object:
    """virtio-9p-pci."""
    wanted, tag = values["fsdev"], values["mount_tag"]
    serve = rack.fsdevs.get(wanted)
    if serve is None:
        raise DeviceError(f"-device {NAME}: 9pfs device couldn't find fsdev with the id = "
                          f"{'NULL' if wanted is None else wanted}")  # fmt: skip
    if not tag:
        raise DeviceError(f"-device {NAME}: fsdev with id {wanted} needs mount_tag arguments")
    raw = tag.encode()
    if len(raw) > TAG_MAX - 1:
        raise DeviceError(f"-device {NAME}: mount tag '{tag}' ({len(raw)} bytes) is longer than"
                          f" maximum ({TAG_MAX - 1} bytes)")  # fmt: skip
    server = serve()
    server.after_store = rack.board.cpu_bus.after_store
    rack.undo_by(server.close)
    return plug(rack, NAME, values, VirtioNinep(server, raw), NETWORK)
