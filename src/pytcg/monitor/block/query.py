"""What there is: drives, nodes, and how much they were used."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice
from pytcg.block.filters.filter import RequestPolicy
from pytcg.machine.disk_io import FLUSH, READ, UNMAP, WRITE, Accounts
from pytcg.monitor.block.bitmaps import describe_bitmaps
from pytcg.monitor.block.throttling import limits_of
from pytcg.monitor.command import Command

if TYPE_CHECKING:
    from pytcg.machine.drives import Drive
    from pytcg.monitor.machine import Machine

SECTOR: Final = 512
NOT_COUNTED: Final = (
    *(f"{kind}_merged" for kind in (READ, WRITE, UNMAP)),
    *(f"invalid_{kind}_operations" for kind in (READ, WRITE, FLUSH, UNMAP)),
)


def query_block(machine: Machine) -> Any:
    """Every drive."""
    return [_drive(drive) for drive in machine.drives.values()]


def _drive(drive: Drive) -> dict[str, Any]:
    tray = drive.tray
    told: dict[str, Any] = {
        "device": drive.id, "type": "unknown", "removable": tray is not None,
        "locked": tray is not None and tray.locked,
        "io-status": "ok" if drive.io is None else drive.io.status,
    }  # fmt: skip
    if drive.qdev:
        told["qdev"] = drive.qdev
    if tray is not None:
        told["tray_open"] = tray.tray_open
    if drive.io is not None:
        told["inserted"] = (describe_node(drive.io.device, write_cache=drive.write_cache)
                            | limits_of(drive.io))
    return told


def describe_node(device: BlockDevice, *, write_cache: bool = True, flat: bool = False
                  ) -> dict[str, Any]:  # fmt: skip
    """BlockDeviceInfo; ``flat`` leaves the images below out."""
    from pytcg.block.protocols.direct import DirectFile

    node = device.node
    lowest = list(_down(node))[-1]
    told: dict[str, Any] = {
        "file": node.filename, "node-name": node.node_name, "ro": node.read_only,
        "drv": node.format_name, "backing_file_depth": 0 if flat else _depth(node),
        "encrypted": False,
        "detect_zeroes": device.detects if isinstance(device, RequestPolicy) else "off",
        **limits_of(None), "write_threshold": 0, "image": image_info(node, flat=flat),
        "cache": {"writeback": write_cache, "direct": isinstance(lowest, DirectFile),
                  "no-flush": bool(getattr(lowest, "no_flush", False))},
    }  # fmt: skip
    if dirty := describe_bitmaps(node):
        told["dirty-bitmaps"] = dirty
    if node.backing is not None:
        told["backing_file"] = node.backing.node.filename
    return told


def _down(node: BlockDevice) -> list[BlockDevice]:
    found = [node]
    while found[-1].file is not None:
        found.append(found[-1].file.node)
    return found


def _depth(node: BlockDevice) -> int:
    depth = 0
    while node.backing is not None:
        node, depth = node.backing.node, depth + 1
    return depth


def image_info(node: BlockDevice, *, flat: bool = False) -> dict[str, Any]:
    """ImageInfo, as `qemu-img info` tells it, with those of the images below."""
    from pytcg.cli.img.info import describe

    told = describe(node, node.filename)
    told["virtual-size"] = -(-node.size // SECTOR) * SECTOR
    if node.format_name.startswith("null"):
        del told["dirty-flag"]  # it has nothing to be dirty
    if node.backing is not None and not flat:
        told["backing-image"] = image_info(node.backing.node)
    return told


def query_nodes(machine: Machine, *, flat: bool = False) -> Any:
    """Every node."""
    return [describe_node(node, flat=flat) for node in machine.drives.graph.nodes.values()]


def query_stats(machine: Machine, *, query_nodes: bool = False) -> Any:
    """What was asked of each drive, or each node."""
    if query_nodes:
        return [_node_stats(node) for node in machine.drives.graph.nodes.values()]
    return [_drive_stats(drive) for drive in machine.drives.values()]


def _drive_stats(drive: Drive) -> dict[str, Any]:
    told: dict[str, Any] = {"device": drive.id}
    if drive.qdev:
        told["qdev"] = drive.qdev
    if drive.io is None:
        return told | {"stats": _stats(Accounts())}
    return told | {**_node_stats(drive.io.device.node), "stats": _stats(drive.io.accounts)}


def _node_stats(node: BlockDevice) -> dict[str, Any]:
    told: dict[str, Any] = {"node-name": node.node_name, "stats": _stats(Accounts())}
    if node.file is not None:
        told["parent"] = _node_stats(node.file.node)
    if node.backing is not None:
        told["backing"] = _node_stats(node.backing.node)
    return told


def _stats(accounts: Accounts) -> dict[str, Any]:
    told: dict[str, Any] = {"timed_stats": [], "account_invalid": True, "account_failed": True,
                            "wr_highest_offset": accounts.highest,
                            **dict.fromkeys(NOT_COUNTED, 0)}  # fmt: skip
    for kind, account in accounts.kinds.items():
        told |= {f"{kind}_operations": account.operations,
                 f"{kind}_total_time_ns": account.time,
                 f"failed_{kind}_operations": account.failed}  # fmt: skip
        if kind != FLUSH:
            told[f"{kind}_bytes"] = account.bytes
    if accounts.last:
        told["idle_time_ns"] = time.monotonic_ns() - accounts.last
    return told


COMMANDS: Final = (
    Command("query-block", query_block, returns="[BlockInfo]"),
    Command("query-named-block-nodes", query_nodes, "*flat: bool", "[BlockDeviceInfo]"),
    Command("query-blockstats", query_stats, "*query-nodes: bool", "[BlockStats]"),
)
