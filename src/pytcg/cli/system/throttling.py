"""A drive's I/O limits: `throttling.*` and their older names, which QEMU takes, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytcg.block.device import BlockError
from pytcg.machine.drives import DeviceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytcg.machine.disk_io import DiskIo
    from pytcg.machine.drives import DriveBay

PREFIX: Final = "throttling."
GROUP: Final = PREFIX + "group"
WAYS: Final = (("total", ""), ("read", "_rd"), ("write", "_wr"))
OLD_NAMES: Final = {
    "group": GROUP, "iops_size": PREFIX + "iops-size",
    **{f"{unit}{old}{burst}": f"{PREFIX}{unit}-{way}{burst.replace('_', '-')}"
       for unit in ("bps", "iops") for way, old in WAYS for burst in ("", "_max")},
}  # fmt: skip
NAMES: Final = (*OLD_NAMES, *OLD_NAMES.values(),
                *(f"{PREFIX}{unit}-{way}-max-length" for unit in ("bps", "iops")
                  for way, _ in WAYS))  # fmt: skip


def limit(drives: DriveBay, io: DiskIo, values: Mapping[str, str], name: str) -> None:
    """Give a drive the limits among its options; DeviceError."""
    given: dict[str, str] = {}
    for key in values:
        modern = OLD_NAMES.get(key, key)
        if key != modern and modern in values:
            raise DeviceError(f"'{modern}' and its alias '{key}' can't be used at the same time")
        if key in NAMES:
            given[modern] = values[key]
    group = given.pop(GROUP, name)
    try:
        drives.limit(io, {key.removeprefix(PREFIX): _number(key, text)
                          for key, text in given.items()}, group)  # fmt: skip
    except BlockError as error:
        raise DeviceError(f"drive '{name}': {error}") from None


def _number(key: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise BlockError(f"Parameter '{key}' expects a number") from None
