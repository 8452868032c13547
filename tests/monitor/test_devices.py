"""Devices that come and go, by commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from monitor.station import Station

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
        ({"driver": "edu"}, "Bus 'pci.0' does not support hotplugging"),
        ({"driver": "scsi-hd", "drive": "n", "bus": "x"}, "Bus 'x' not found"),
        ({"driver": "scsi-hd", "nix": 1}, "Property 'scsi-hd.nix' not found"),
        ({}, "Parameter 'driver' is missing"),
    ):  # fmt: skip
        told = made.say({"execute": "device_add", "arguments": arguments})
        assert told["error"]["desc"] == text
    assert made.refused("device_del", id="nix") == "Device 'nix' not found"
    assert made.refused("device_del", id="s") == "Bus 'pci.0' does not support hotplugging"


def test_a_port_comes_and_goes_and_tells(station: Make) -> None:
    made = station("-device virtio-serial-pci -chardev ringbuf,id=c")
    port = {"driver": "virtserialport", "chardev": "c", "id": "p", "name": "agent"}
    assert made.say({"execute": "device_add", "arguments": port}) == {"return": {}}
    device = made.rack.devices["p"]
    device.set_guest_open(is_open=True)
    made.event("VSERPORT_CHANGE", id="p", open=True)
    made.run("device_del", id="p")
    made.event("VSERPORT_CHANGE", id="p", open=False)
    made.event("DEVICE_DELETED", device="p")
    assert made.say({"execute": "device_add", "arguments": port}) == {"return": {}}


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
