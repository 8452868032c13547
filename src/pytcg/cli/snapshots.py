"""Internal snapshots as QEMU describes them."""

from __future__ import annotations

import time

from pytcg.cli.sizes import human_size
from pytcg.typed import Any


def shown(name: str) -> str:
    """A snapshot's name up to a NUL, with what is no text marked as such."""
    return name.partition("\0")[0].encode(errors="surrogateescape").decode(errors="replace")


def describe_snapshot(entry: Any) -> dict[str, Any]:
    """A SnapshotInfo of QMP."""
    seconds, nanoseconds = divmod(entry.vm_clock_nsec, 10**9)
    found = {} if entry.icount == -1 else {"icount": entry.icount}
    return found | {
        "vm-clock-nsec": nanoseconds,
        "name": shown(entry.name),
        "date-sec": entry.date_sec,
        "date-nsec": entry.date_nsec,
        "vm-clock-sec": seconds,
        "id": shown(entry.id),
        "vm-state-size": entry.vm_state_size,
    }


def snapshot_lines(snapshots: list[dict[str, Any]]) -> list[str]:
    """The table of internal snapshots."""
    lines = [f"{'ID':<10}{'TAG':<17}{'VM SIZE':>8}{'DATE':>20}{'VM CLOCK':>13}{'ICOUNT':>11}"]
    for entry in snapshots:
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["date-sec"]))
        seconds = entry["vm-clock-sec"]
        clock = (
            f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            f".{entry['vm-clock-nsec'] // 10**6:03d}"
        )
        size = human_size(entry["vm-state-size"])
        icount = str(entry.get("icount", ""))
        lines.append(
            f"{entry['id']:<9} {entry['name']:<16} {size:>8}{date:>20}{clock:>13}{icount:>11}"
        )
    return lines
