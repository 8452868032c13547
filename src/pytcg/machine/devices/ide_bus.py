"""Where IDE drives go: channels of two units, ports of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pytcg.hw.storage.ide_channel import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytcg.hw.storage.ahci.hba import Ahci
    from pytcg.hw.storage.ide_drive import IdeDrive
    from pytcg.hw.storage.piix3_ide import Piix3Ide

QUEUE_DEPTH: Final = 32


@dataclass(eq=False)
class IdeBus:
    """One bus; ``path`` is what firmware calls it."""

    path: str
    units: int
    connect: Callable[[int, IdeDrive], None]
    queue_depth: int = 0
    drives: dict[int, IdeDrive] = field(default_factory=dict)


def channels(ide: Piix3Ide, path: str) -> list[IdeBus]:
    """The two of a PIIX."""
    return [IdeBus(f"{path}/drive@{number:x}", UNITS, channel.connect)
            for number, channel in enumerate(ide.channels)]  # fmt: skip


def ports(card: Ahci, path: str) -> list[IdeBus]:
    """Those of an AHCI controller."""
    return [IdeBus(f"{path}/drive@{number:x}", 1, lambda _, drive, port=port: port.connect(drive),  # type: ignore[misc]
                   QUEUE_DEPTH) for number, port in enumerate(card.ports)]  # fmt: skip
