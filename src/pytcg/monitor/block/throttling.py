"""block_set_io_throttle, and what is told of a drive's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockError
from pytcg.monitor.block.lookup import drive_of
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.machine.disk_io import DiskIo
    from pytcg.monitor.machine import Machine

KINDS: Final = {f"{unit}{short}": f"{unit}-{way}" for unit in ("bps", "iops")
                for short, way in (("", "total"), ("_rd", "read"), ("_wr", "write"))}  # fmt: skip
"""The block layer's names of limits by QMP's."""
BURSTS: Final = (("", ""), ("_max", "-max"), ("_max_length", "-max-length"))


def set_throttle(machine: Machine, given: dict[str, Any]) -> Any:
    """Limits of a drive and its group; all 0 for none."""
    drive = drive_of(machine, given.get("device"), given.get("id"))
    if drive.io is None:
        raise CommandError("Device has no medium")
    options = {name + long: given[short + burst] for short, name in KINDS.items()
               for burst, long in BURSTS if short + burst in given}  # fmt: skip
    if "iops_size" in given:
        options["iops-size"] = given["iops_size"]
    group = given.get("group") or drive.io.throttle_name or given.get("device") or given["id"]
    try:
        machine.drives.limit(drive.io, options, group)
    except BlockError as error:
        raise CommandError(str(error)) from None


def limits_of(io: DiskIo | None) -> dict[str, Any]:
    """As query-block tells them; bursts only where there are any."""
    told: dict[str, Any] = dict.fromkeys(KINDS, 0)
    if io is None or io.throttle is None:
        return told
    limits = io.throttle.limits
    for short, name in KINDS.items():
        limit = limits.of[name]
        told[short] = limit.average
        if limit.burst:
            told |= {f"{short}_max": limit.burst, f"{short}_max_length": limit.length}
    return told | ({"iops_size": limits.iops_size} if limits.iops_size else {}) | {
        "group": io.throttle_name}


COMMANDS: Final = (
    Command("block_set_io_throttle", set_throttle, "BlockIOThrottle"),
)
