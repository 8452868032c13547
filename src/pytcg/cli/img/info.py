"""pytcg-img info and snapshot: what an image is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.formats.qcow2.format import BITMAP_AUTO, BITMAP_IN_USE, Incompatible
from pytcg.block.options import resolve_backing
from pytcg.cli.img.common import Failure, one_word, open_disk, output_format, parse, usage
from pytcg.cli.sizes import human_size
from pytcg.cli.snapshots import describe_snapshot, snapshot_lines
from pytcg.typed import Any


def run(argv: list[str]) -> int:
    """Describe an image, or its whole backing chain."""
    arguments = parse(argv, "f/format: U/force-share image-opts output: backing-chain")
    as_json = output_format(arguments) == "json"
    name = one_word(arguments)
    infos: list[dict[str, Any]] = []
    format = arguments.get("f")
    seen: set[str] = set()
    while True:
        if name in seen:
            raise Failure(f"Backing file '{name}' creates an infinite loop.")
        seen.add(name)
        with open_disk(name, arguments, format=format, no_backing=True) as device:
            infos.append(describe(device, device.filename))
        if "backing-chain" not in arguments or "full-backing-filename" not in infos[-1]:
            break
        name = infos[-1]["full-backing-filename"]
        format = infos[-1].get("backing-filename-format")
        arguments.given = [item for item in arguments.given if item[0] != "image-opts"]
    if as_json:
        from json import dumps

        print(dumps(infos if "backing-chain" in arguments else infos[0], indent=4))
    else:
        print("\n".join("\n".join(human_lines(info)) + "\n" for info in infos), end="")
    return 0


def describe(device: BlockDevice, name: str) -> dict[str, Any]:
    """QEMU's ImageInfo of one image."""
    info: dict[str, Any] = {}
    if device.backing_file and device.backing_format:
        info["backing-filename-format"] = device.backing_format
    if isinstance(device, Qcow2Device) and device.snapshots:
        info["snapshots"] = [describe_snapshot(entry) for entry in device.snapshots]
    info["virtual-size"] = device.size
    info["filename"] = name
    if device.cluster_size:
        info["cluster-size"] = device.cluster_size
    info["format"] = device.format_name
    if device.allocated_size is not None:
        info["actual-size"] = device.allocated_size
    specific = format_specific(device)
    if specific:
        info["format-specific"] = {"type": device.format_name, "data": specific}
    if device.backing_file:
        with suppress(BlockError):  # a relative name beside a json: image has no full form
            info["full-backing-filename"] = resolve_backing(device.location, device.backing_file)
        info["backing-filename"] = device.backing_file
    info["dirty-flag"] = device.is_dirty
    return info


def format_specific(device: BlockDevice) -> dict[str, Any]:
    """What the format alone knows."""
    if not isinstance(device, Qcow2Device):
        details = getattr(device, "format_specific", None)
        return details() if details is not None else {}
    header = device.header
    compression = "zstd" if header.compression_type else "zlib"
    if header.version < 3:
        return {
            "compat": "0.10",
            "compression-type": compression,
            "refcount-bits": device.refcounts.bits,
        }
    found: dict[str, Any] = {"compat": "1.1", "compression-type": compression}
    found["lazy-refcounts"] = bool(header.compatible & 1)
    if device.has_bitmaps:
        found["bitmaps"] = [_describe_bitmap(bitmap.entry) for bitmap in device.bitmaps.bitmaps]
    found["refcount-bits"] = device.refcounts.bits
    if header.incompatible & Incompatible.DATA_FILE:
        if device.data_file_name:
            found["data-file"] = device.data_file_name
        found["data-file-raw"] = device.data_file_is_raw
    found["corrupt"] = bool(header.incompatible & Incompatible.CORRUPT)
    found["extended-l2"] = device.map.extended
    return found


def _describe_bitmap(entry: Any) -> dict[str, Any]:
    flags = [
        name
        for flag, name in ((BITMAP_IN_USE, "in-use"), (BITMAP_AUTO, "auto"))
        if entry.flags & flag
    ]
    return {"flags": flags, "name": entry.name, "granularity": 1 << entry.granularity_bits}


def human_lines(info: dict[str, Any]) -> list[str]:
    """The text form of an ImageInfo."""
    lines = [
        f"image: {info['filename']}",
        f"file format: {info['format']}",
        f"virtual size: {human_size(info['virtual-size'])} ({info['virtual-size']} bytes)",
        "disk size: "
        + (human_size(info["actual-size"]) if "actual-size" in info else "unavailable"),
    ]
    if "cluster-size" in info:
        lines.append(f"cluster_size: {info['cluster-size']}")
    if info["dirty-flag"]:
        lines.append("cleanly shut down: no")
    if "backing-filename" in info:
        line = f"backing file: {info['backing-filename']}"
        full = info.get("full-backing-filename")
        if full is None:
            line += " (cannot determine actual path)"
        elif full != info["backing-filename"]:
            line += f" (actual path: {full})"
        lines.append(line)
        if "backing-filename-format" in info:
            lines.append(f"backing file format: {info['backing-filename-format']}")
    if info.get("snapshots"):
        lines += ["Snapshot list:", *snapshot_lines(info["snapshots"])]
    specific = info.get("format-specific", {}).get("data", {})
    if specific:
        lines.append("Format specific information:")
        lines += _value_lines(specific, 1)
    return lines


def _value_lines(value: Any, depth: int) -> list[str]:
    indent = "    " * depth
    lines = []
    items = (
        value.items()
        if isinstance(value, dict)
        else ((f"[{index}]", item) for index, item in enumerate(value))
    )
    for key, item in items:
        key = key.replace("-", " ")
        if isinstance(item, dict | list):
            lines.append(f"{indent}{key}:")
            lines += _value_lines(item, depth + 1)
        else:
            text = str(item).lower() if isinstance(item, bool) else str(item)
            lines.append(f"{indent}{key}: {text}")
    return lines


def run_snapshot(argv: list[str]) -> int:
    """List, create, apply or delete internal snapshots."""
    arguments = parse(argv, "l a: c: d: q U/force-share image-opts")
    actions = [item for item in arguments.given if item[0] in "lacd"]
    name = one_word(arguments)
    if len(actions) > 1:
        usage("Cannot mix '-l', '-a', '-c', '-d'")
    action, value = actions[0] if actions else ("l", "")
    device = open_disk(name, arguments, read_only=action == "l")
    with device:
        if action == "l":
            if isinstance(device, Qcow2Device) and device.snapshots:
                print("Snapshot list:")
                print(
                    "\n".join(
                        snapshot_lines([describe_snapshot(entry) for entry in device.snapshots])
                    )
                )
            return 0
        _change_snapshots(device, action, value)
    return 0


def _change_snapshots(device: BlockDevice, action: str, value: str) -> None:
    from pytcg.block.formats.qcow2 import snapshot as qcow2_snapshot

    actions: dict[str, tuple[Callable[[Qcow2Device, str], object], str]] = {
        "c": (qcow2_snapshot.create_snapshot, "create"),
        "a": (qcow2_snapshot.apply_snapshot, "apply"),
        "d": (qcow2_snapshot.delete_snapshot, "delete"),
    }
    act, verb = actions[action]
    try:
        if not isinstance(device, Qcow2Device):
            if action == "a":
                raise Failure(f"Could not apply snapshot '{value}': Block driver does not support "
                              "snapshots")
            if action == "d":
                raise BlockError("snapshot not found", errno.ENOENT)
            raise BlockError(os.strerror(errno.ENOTSUP), errno.ENOTSUP)
        act(device, value)
    except BlockError as error:
        if action == "a":
            reason = os.strerror(error.errno) if error.errno == errno.ENOENT else error
            raise Failure(f"Could not apply snapshot '{value}': Failed to load snapshot: "
                          f"{reason}") from None
        if action == "c":
            error = BlockError(f"-{error.errno} ({os.strerror(error.errno)})")
        raise Failure(f"Could not {verb} snapshot '{value}': {error}") from None
