"""Disks: `info block`, `info blockstats`, and commands that are QMP's in short."""

from __future__ import annotations

from typing import Any, Final

from pytcg.monitor.block.throttling import KINDS
from pytcg.monitor.human import vnc
from pytcg.monitor.human.table import HumanCommand, Shell, UsageError, number


def flags_of(words: list[str], known: str) -> tuple[set[str], list[str]]:
    """Single-letter switches, apart or together, and the rest; UsageError."""
    flags: set[str] = set()
    rest: list[str] = []
    for word in words:
        if word.startswith("-") and len(word) > 1 and not rest:
            for letter in word[1:]:
                if letter not in known:
                    raise UsageError(f"unsupported option -{letter}")
                flags.add(letter)
        else:
            rest.append(word)
    return flags, rest


def block(shell: Shell, words: list[str]) -> str:
    """info block [-n] [-v] [DEVICE]."""
    flags, rest = flags_of(words, "nv")
    wanted = rest[0] if rest else None
    if "n" in flags:
        shown = [_node(row, None) for row in shell.qmp("query-named-block-nodes")
                 if wanted in (None, row["node-name"])]  # fmt: skip
        verbose = [row for row in shell.qmp("query-named-block-nodes")
                   if wanted in (None, row["node-name"])]  # fmt: skip
    else:
        rows = [row for row in shell.qmp("query-block") if wanted in (None, row["device"])]
        shown = [_node(row.get("inserted"), row) for row in rows]
        verbose = [row.get("inserted") for row in rows]
    if "v" in flags:
        shown = [text + _images(row) for text, row in zip(shown, verbose, strict=True)]
    return "\n".join(shown)


def _node(inserted: dict[str, Any] | None, info: dict[str, Any] | None) -> str:
    text = _title(inserted, info)
    if inserted is not None:
        what = inserted["drv"]
        what += ", read-only" if inserted["ro"] else ""
        text += f": {inserted['file']} ({what})\n"
    else:
        text += ": [not inserted]\n"
    if info is not None:
        if "qdev" in info:
            text += f"    Attached to:      {info['qdev']}\n"
        if info["removable"]:
            locked = "" if info["locked"] else "not "
            tray = f", tray {'open' if info['tray_open'] else 'closed'}"
            text += f"    Removable device: {locked}locked{tray}\n"
    return text + (_details(inserted) if inserted is not None else "")


def _title(inserted: dict[str, Any] | None, info: dict[str, Any] | None) -> str:
    node = inserted["node-name"] if inserted is not None else ""
    if info is not None and info["device"]:
        return f"{info['device']} ({node})" if node else str(info["device"])
    return node or (str(info["qdev"]) if info is not None and "qdev" in info else "<anonymous>")


def _details(inserted: dict[str, Any]) -> str:
    cache = inserted["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    mode += ", direct" if cache["direct"] else ""
    mode += ", ignore flushes" if cache["no-flush"] else ""
    text = f"    Cache mode:       {mode}\n"
    if "backing_file" in inserted:
        text += (f"    Backing file:     {inserted['backing_file']}"
                 f" (chain depth: {inserted['backing_file_depth']})\n")  # fmt: skip
    if inserted["detect_zeroes"] != "off":
        text += f"    Detect zeroes:    {inserted['detect_zeroes']}\n"
    if any(inserted[name] for name in KINDS):
        names = [f"{unit}{way}{burst}" for unit in ("bps", "iops") for burst in ("", "_max")
                 for way in ("", "_rd", "_wr")]  # fmt: skip
        shown = " ".join(f"{name}={inserted.get(name, 0)}" for name in (*names, "iops_size"))
        text += f"    I/O throttling:   {shown} group={inserted['group']}\n"
    return text


def _images(inserted: dict[str, Any] | None) -> str:
    from pytcg.cli.img.info import human_lines

    text, image = "\nImages:\n", inserted["image"] if inserted is not None else None
    while image is not None:
        text += "\n".join(human_lines(image)) + "\n"
        image = image.get("backing-image")
    return text if inserted is not None else ""


def statistics(shell: Shell, words: list[str]) -> str:
    """info blockstats."""
    del words
    lines = []
    for row in shell.qmp("query-blockstats"):
        told = row["stats"]
        names = ("rd_bytes", "wr_bytes", "rd_operations", "wr_operations", "flush_operations",
                 "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns", "rd_merged",
                 "wr_merged")  # fmt: skip
        shown = " ".join(f"{name}={told[name]}" for name in names)
        lines.append(f"{row['device']}: {shown} idle_time_ns={told.get('idle_time_ns', 0)}\n")
    return "".join(lines)


def one_device(command: str, words: list[str]) -> tuple[str, bool]:
    """The one name after ``command``, and whether -f stands before it; UsageError."""
    flags, rest = flags_of(words, "f")
    if len(rest) != 1:
        raise UsageError(f"{command}: block device name expected")
    return rest[0], "f" in flags


def eject(shell: Shell, words: list[str]) -> str:
    """eject [-f] DEVICE."""
    device, force = one_device("eject", words)
    shell.qmp("eject", device=device, force=force)
    return ""


def change(shell: Shell, words: list[str]) -> str:
    """change DEVICE [-f] FILENAME [FORMAT [READ-ONLY-MODE]], or a VNC server's password."""
    if words[0] == "vnc":
        return vnc.change(shell, words)
    device, *rest = words
    flags, rest = flags_of(rest, "f")
    if not rest:
        raise UsageError("change: filename expected")
    names = ("filename", "format", "read_only_mode")
    shell.qmp("blockdev-change-medium", device=device, force="f" in flags,
              **dict(zip(names, rest, strict=False)))  # fmt: skip
    return ""


def resize(shell: Shell, words: list[str]) -> str:
    """block_resize DEVICE SIZE, in MiB unless it has a suffix."""
    from pytcg.block.options import parse_size

    try:
        size = int(words[1]) << 20 if words[1].isdecimal() else parse_size(words[1])
    except ValueError:
        raise UsageError("invalid size") from None
    shell.qmp("block_resize", device=words[0], size=size)
    return ""


def throttle(shell: Shell, words: list[str]) -> str:
    """block_set_io_throttle DEVICE BPS BPS_RD BPS_WR IOPS IOPS_RD IOPS_WR."""
    shell.qmp("block_set_io_throttle", device=words[0],
              **dict(zip(KINDS, map(number, words[1:]), strict=True)))  # fmt: skip
    return ""


COMMANDS: Final = (
    HumanCommand("eject", "[-f] device", "eject a removable medium (use -f to force it)", eject,
                 1, 2),
    HumanCommand("change", "device [-f] filename [format [read-only-mode]]",
                 "change a removable medium, optional format, use -f to force the operation",
                 change, 1, 5),
    HumanCommand("block_set_io_throttle", "device bps bps_rd bps_wr iops iops_rd iops_wr",
                 "change I/O throttle limits for a block drive", throttle, 7, 7),
    HumanCommand("block_resize", "device size", "resize a block image", resize, 2, 2),
)  # fmt: skip
