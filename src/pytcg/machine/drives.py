"""Drives: images that were opened for the machine, before a device takes each."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytcg.machine.disk_io import DiskIo


class DeviceError(Exception):
    """A device or drive that can't be added; the text is for the user."""


@dataclass
class Drive:
    """One drive: its image, None for an empty CD-ROM or floppy drive, and who took it."""

    id: str
    interface: str
    media: str = "disk"
    io: DiskIo | None = None
    bus: int = 0
    unit: int = 0
    bootindex: int | None = None
    write_cache: bool = True
    taken_by: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def take(self, device: str) -> None:
        """Give it to a device; DeviceError if it has one."""
        if self.taken_by:
            raise DeviceError(f"Drive '{self.id}' is already in use by another block device")
        self.taken_by = device
