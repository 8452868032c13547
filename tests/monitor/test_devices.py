"""Devices that come and go, by commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.station import Station
from pytcg.hw.chipset.pci_hotplug import Reg
from pytcg.machine import pc_map as at

Make = Callable[[str], Station]


def test_a_disk_comes_and_goes(station: Make, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = station("-device virtio-scsi-pci,id=s")
    made.run("blockdev-add", driver="raw", node_name="n",
             file={"driver": "file", "filename": str(tmp_path / "disk")})  # fmt: skip
    made.say({"execute": "device_add", "arguments": {
        "driver": "scsi-hd", "bus": "s.0", "id": "d", "drive": "n", "scsi-id": 3}})  # fmt: skip
    assert made.run("query-block")[0]["qdev"] == "d"
    assert (3, 0) in made.rack.buses["s.0"].adapter.units
    again = {"driver": "scsi-hd", "drive": "n", "id": "e"}
    assert "Conflicts" in made.say({"execute": "device_add", "arguments": again})["error"]["desc"]
    assert made.refused("blockdev-del", node_name="n") == "Node n is in use"
    made.run("device_del", id="d")
    assert made.event("DEVICE_DELETED")["path"] == "/machine/peripheral/d"
    made.run("blockdev-del", node_name="n")
    assert made.run("query-block") == []
    for arguments, text in (
        ({"driver": "nix"}, "'nix' is not a valid device model name"),
        ({"driver": "isa-serial"}, "Bus 'isa.0' does not support hotplugging"),
        ({"driver": "edu", "id": "4x"}, "Parameter 'id' expects an identifier"),
        ({"driver": "scsi-hd", "drive": "n", "bus": "x"}, "Bus 'x' not found"),
        ({"driver": "scsi-hd", "nix": 1}, "Property 'scsi-hd.nix' not found"),
        ({}, "Parameter 'driver' is missing"),
    ):  # fmt: skip
        told = made.say({"execute": "device_add", "arguments": arguments})
        assert told["error"]["desc"] == text
    assert made.refused("device_del", id="nix") == "Device 'nix' not found"


def test_a_port_comes_and_goes_and_tells(station: Make) -> None:
    made = station("-device virtio-serial-pci -chardev ringbuf,id=c")
    port = {"driver": "virtserialport", "chardev": "c", "id": "p", "name": "agent"}
    assert made.say({"execute": "device_add", "arguments": port}) == {"return": {}}
    device = made.rack.find("p").device
    device.set_guest_open(is_open=True)
    made.event("VSERPORT_CHANGE", id="p", open=True)
    made.run("device_del", id="p")
    made.event("VSERPORT_CHANGE", id="p", open=False)
    made.event("DEVICE_DELETED", device="p")
    assert made.say({"execute": "device_add", "arguments": port}) == {"return": {}}


def plug(made: Station, **values: object) -> dict[str, object]:
    return made.say({"execute": "device_add", "arguments": values})


def eject(made: Station, slot: int) -> None:
    """What ACPI's _EJ0 does."""
    with made.loop.lock:
        made.board.backplane.ports.write(at.PCI_HOTPLUG + Reg.B0EJ, 4, 1 << slot)


def test_a_card_with_a_disk_comes_and_goes(station: Make, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = station("-drive if=none,id=n,format=raw,file={folder}/disk")
    assert plug(made, driver="virtio-blk-pci", drive="n", id="d", addr=5, bootindex=1) == {
        "return": {}}  # fmt: skip
    ports, base = made.board.backplane.ports, at.PCI_HOTPLUG
    assert ports.read(base + Reg.PCIU, 4) == 1 << 5
    assert made.board.chipset.pm.gpe_status == 1 << 1
    assert made.run("query-block")[0]["qdev"] == "/machine/peripheral/d/virtio-backend"
    made.run("device_del", id="d")
    assert ports.read(base + Reg.PCID, 4) == 1 << 5
    assert made.refused("device_del", id="d") == "Device d is already in the process of unplug"
    eject(made, 5)
    assert 5 << 3 not in made.board.pci.devices
    made.event("DEVICE_DELETED", path="/machine/peripheral/d/virtio-backend")
    made.event("DEVICE_DELETED", path="/machine/peripheral/d", device="d")
    assert made.run("query-block") == [] and not made.board.boot_order.devices
    assert ports.read(base + Reg.PCID, 4) == 0


def test_a_card_goes_with_what_is_on_its_bus(station: Make) -> None:
    made = station("-chardev ringbuf,id=c")
    plug(made, driver="virtio-serial-pci", id="v", addr=6)
    plug(made, driver="virtserialport", id="p", bus="v.0", chardev="c")
    eject(made, 6)
    made.event("DEVICE_DELETED", device="v")
    told = [data.get("device") for _, data in made.events("DEVICE_DELETED")]
    assert told == ["p", None, "v"]
    assert plug(made, driver="virtserialport", id="p", chardev="c")["error"]
    plug(made, driver="virtio-serial-pci", id="v")
    assert plug(made, driver="virtserialport", id="p", chardev="c") == {"return": {}}


def test_a_card_that_could_not_be_built_takes_nothing(station: Make, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = station("-drive if=none,id=n,format=raw,file={folder}/disk -device edu,addr=4,id=e")
    before = dict(made.board.pci.devices)
    for values, text in (
        ({"driver": "virtio-blk-pci", "drive": "n", "addr": "4"}, "PCI: slot 4 function 0 not"
         " available for virtio-blk-pci, in use by edu,id=e"),
        ({"driver": "virtio-rng-pci", "addr": "4.1"}, "PCI: slot 4 function 0 already occupied by"
         " edu, new func virtio-rng-pci cannot be exposed to guest."),
        ({"driver": "nvme", "drive": "n", "serial": "s", "bus": "x"}, "Bus 'x' not found"),
    ):  # fmt: skip
        assert plug(made, **values)["error"]["desc"] == text
    assert made.board.pci.devices == before
    assert plug(made, driver="nvme", drive="n", serial="s") == {"return": {}}


@pytest.mark.parametrize("values", [
    {"driver": "virtio-rng-pci"}, {"driver": "virtio-balloon-pci"}, {"driver": "virtio-scsi-pci"},
    {"driver": "virtio-tablet-pci"}, {"driver": "virtio-keyboard-pci"}, {"driver": "ich9-ahci"},
    {"driver": "edu"}, {"driver": "nvme", "serial": "s"}, {"driver": "virtio-serial-pci"},
], ids=lambda values: values["driver"])  # fmt: skip
def test_every_kind_of_card_comes_and_goes_twice(station: Make, values: dict[str, str]) -> None:
    made = station("")
    buses, inputs = set(made.rack.buses), list(made.board.inputs)
    for _ in range(2):
        assert plug(made, id="x", **values) == {"return": {}}
        card = made.rack.find("x").device
        made.run("device_del", id="x")
        made.run("system_reset")  # which does what a guest was asked to do
        made.event("DEVICE_DELETED", device="x")
        assert card not in made.board.pci.devices.values()
        assert (set(made.rack.buses), made.board.inputs) == (buses, inputs)
        made.forget()


def test_the_balloon(station: Make) -> None:
    made = station("")
    assert made.refused("query-balloon") == "No balloon device has been activated"
    made = station("-device virtio-balloon-pci")
    assert made.run("query-balloon") == {"actual": 16 << 20}
    made.run("balloon", value=8 << 20)
    card = next(card for card in made.board.pci.devices.values() if hasattr(card, "device"))
    assert card.device.target == (8 << 20) // 4096


def test_objects_have_paths_and_properties(station: Make) -> None:
    made = station("-device virtio-scsi-pci,id=s,addr=5 -device edu,id=e")
    names = {row["name"]: row["type"] for row in made.run("qom-list", path="/machine/peripheral")}
    assert names == {"s": "child<virtio-scsi-pci>", "e": "child<edu>"}
    assert made.run("qom-get", path="/machine/peripheral/s", property="addr") == 5 << 3
    assert made.run("qom-get", path="s", property="type") == "virtio-scsi-pci"
    assert made.run("qom-get", path="/machine/unattached/device[0]", property="realized") is True
    assert made.run("qom-list", path="/machine/peripheral/e")
    assert made.refused("qom-list", path="/nix") == "Device '/nix' not found"
    assert made.refused("qom-get", path="e", property="x") == "Property 'edu.x' not found"
    assert "after it was realized" in made.refused("qom-set", path="e", property="addr", value=3)
