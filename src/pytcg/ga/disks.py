"""Disks: which there are, where they are plugged in, and how busy they are."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from pytcg.ga.command import command, named

if TYPE_CHECKING:
    from pytcg.ga.agent import Agent

BLOCK = "/sys/class/block"
FIELDS = ("read-ios", "read-merges", "read-sectors", "read-ticks", "write-ios", "write-merges",
          "write-sectors", "write-ticks", "ios-pgr", "total-ticks", "weight-ticks", "discard-ios",
          "discard-merges", "discard-sectors", "discard-ticks", "flush-ios",
          "flush-ticks")  # of /proc/diskstats  # fmt: skip
PCI = re.compile(r"/([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])(?=/)")
SCSI = re.compile(r"/target(\d+):\d+:\d+/\d+:(\d+):(\d+):(\d+)/block/")
SCSI_KINDS = {"ata_piix": "ide", "ahci": "sata", "usb-storage": "usb", "virtio": "scsi"}


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def real_path(agent: Agent, name: str) -> str:
    """A block device's place under /sys/devices, by its kernel name."""
    return os.path.realpath(agent.path(f"{BLOCK}/{name}"))


def address_of(agent: Agent, name: str) -> dict[str, Any] | None:
    """Bus, controller and place of a whole disk; None for one of no bus."""
    place = real_path(agent, name)
    if "/virtual/" in place:
        return None
    found: dict[str, Any] = {"bus-type": "unknown", "bus": 0, "target": 0, "unit": 0}
    found["pci-controller"] = {"domain": -1, "bus": -1, "slot": -1, "function": -1}
    bridges = list(PCI.finditer(place))
    if bridges:
        numbers = (int(text, 16) for text in bridges[-1].groups())
        found["pci-controller"] = named(("domain", "bus", "slot", "function"), numbers)
    found["dev"] = f"/dev/{name}"
    scsi = SCSI.search(place + "/")
    if "/nvme/" in place:
        found["bus-type"] = "nvme"
    elif scsi:
        channel, target, unit = (int(text) for text in scsi.groups()[1:])
        driver = _driver(place[: bridges[-1].end()] if bridges else place)
        found["bus-type"] = "usb" if "/usb" in place else SCSI_KINDS.get(driver, "scsi")
        found.update({"bus": channel, "target": target, "unit": unit})
    elif re.search(r"/virtio\d+/block/", place):
        found["bus-type"] = "virtio"
    serial = _serial(agent, place)
    if serial:
        found["serial"] = serial
    return found


def _driver(place: str) -> str:
    return os.path.basename(os.path.realpath(os.path.join(place, "driver")))


def _serial(agent: Agent, place: str) -> str | None:
    """As udev knows it."""
    number = _text(os.path.join(place, "dev"))
    properties = _text(agent.path(f"/run/udev/data/b{number}")) or ""
    for line in properties.splitlines():
        if line.startswith("E:ID_SERIAL="):
            return line.partition("=")[2]
    return None


@command("guest-get-disks")
def get_disks(agent: Agent) -> list[dict[str, Any]]:
    """Disks and partitions that hold something."""
    rows = []
    for name in sorted(os.listdir(agent.path(BLOCK))):
        place = real_path(agent, name)
        if _text(os.path.join(place, "size")) in (None, "0"):
            continue
        partition = os.path.exists(os.path.join(place, "partition"))
        row: dict[str, Any] = {"name": _node(name), "partition": partition}
        row["dependencies"] = _dependencies(place, partition=partition)
        alias = _text(os.path.join(place, "dm", "name"))
        if alias:
            row["alias"] = alias
        address = None if partition else address_of(agent, name)
        if address is not None:
            row["address"] = address
        rows.append(row)
    return rows


def _node(name: str) -> str:
    return "/dev/" + name.replace("!", "/")


def _dependencies(place: str, *, partition: bool) -> list[str]:
    if partition:
        return [_node(os.path.basename(os.path.dirname(place)))]
    slaves = os.path.join(place, "slaves")
    return [_node(name) for name in sorted(os.listdir(slaves))] if os.path.isdir(slaves) else []


@command("guest-get-diskstats")
def disk_stats(agent: Agent) -> list[dict[str, Any]]:
    """The kernel's counters, as far as it has them."""
    rows = []
    for line in (_text(agent.path("/proc/diskstats")) or "").splitlines():
        words = line.split()
        if len(words) >= 3:
            stats = named(FIELDS, map(int, words[3:]))
            rows.append({"name": words[2], "major": int(words[0]), "minor": int(words[1]),
                         "stats": stats})  # fmt: skip
    return rows


@command("guest-get-devices")
def get_devices(agent: Agent) -> list[dict[str, Any]]:
    """Drivers with their versions, which Windows has: here the command is always disabled."""
    del agent
    return []
