"""Drives: images that were opened for the machine, before a device takes each."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pytcg.block.graph import Graph
from pytcg.block.protocols.null import NoMedium
from pytcg.machine.disk_io import DiskIo
from pytcg.machine.io_errors import Policy

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from pytcg.block.device import BlockDevice
    from pytcg.hw.storage.medium import Medium
    from pytcg.machine.io_errors import Failure


class DeviceError(Exception):
    """A device or drive that can't be added; the text is for the user."""


class Tray(Protocol):
    """A drive's mechanics, for media that can be changed; device lock held."""

    tray_open: bool
    locked: bool
    on_eject: Callable[[bool], None] | None

    def open_tray(self) -> None:
        """Whatever software says."""
        ...

    def change(self, medium: Medium | None) -> None:
        """Another medium, or none, in the closed tray."""
        ...

    def ask_to_eject(self) -> None:
        """Tell software that somebody pressed the button."""
        ...


@dataclass
class Drive:
    """One drive: its image, None for an empty CD-ROM or floppy drive, and who took it."""

    id: str  # "" if it is a device's alone
    interface: str
    media: str = "disk"
    io: DiskIo | None = None
    bus: int = 0
    unit: int = 0
    bootindex: int | None = None
    write_cache: bool = True
    taken_by: str = ""
    options: dict[str, str] = field(default_factory=dict)
    device_id: str = ""  # of the device that took it
    qdev: str = ""  # its id, or its path
    tray: Tray | None = None
    on_resize: Callable[[], None] = lambda: None
    """Tells the guest that the disk has another size; device lock held."""

    def take(self, device: str) -> None:
        """Give it to a device; DeviceError if it has one."""
        if self.taken_by:
            raise DeviceError(f"Drive '{self.id}' is already in use by another block device")
        self.taken_by = device

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.id or (self.io.device.node.node_name if self.io is not None else self.qdev)


class DriveBay(dict[str, Drive]):
    """All drives by id, and the nodes that they stand on. Those without an id are here, too."""

    def __init__(self, lock: threading.RLock, fail: Callable[[BaseException], None]) -> None:
        super().__init__()
        self.graph = Graph()
        self._lock = lock
        self._fail = fail
        self._anonymous = 0
        self.on_failure: Callable[[Drive, Failure], None] = lambda drive, failure: None
        """Called from any thread, without the lock, when a request of a drive has failed."""

    def serve(self, image: BlockDevice) -> DiskIo:
        """I/O for a drive with this image."""
        io = DiskIo(image, self._lock, self._fail)
        io.on_failure = partial(self._failed, io)
        self.graph.use(io)
        return io

    def limit(self, io: DiskIo, options: Mapping[str, int], group: str) -> None:
        """Throttle a drive by `Limits.parse`'s options, with all of its group; BlockError.

        No limits take it out of its group, whose other drives keep theirs.
        """
        from pytcg.block.filters.throttle import Limits, ThrottleGroup

        limits = Limits.parse(options)
        if not limits.any and group in self.graph.groups:
            io.throttle, io.throttle_name = self.graph.groups[group], group
            return
        if not limits.any:
            io.throttle, io.throttle_name = None, ""
            return
        for other in self.values():
            if group in self.graph.groups:
                io.throttle = self.graph.groups[group]
                break
            if other.io is not None and other.io.throttle_name == group and other.io.throttle:
                io.throttle = other.io.throttle
                break
        else:
            io.throttle = ThrottleGroup(limits)
        io.throttle_name = group
        io.throttle.set(limits)

    def _failed(self, io: DiskIo, failure: Failure) -> None:
        for drive in list(self.values()):
            if drive.io is io:
                self.on_failure(drive, failure)

    def retry(self) -> None:
        """The machine goes on: try requests again that failed and wait."""
        for drive in list(self.values()):
            if drive.io is not None:
                drive.io.retry()

    def unserve(self, drive: Drive) -> None:
        """Take the image out of a drive; closes it unless others need it. Without the lock."""
        io = drive.io
        if io is None:
            return
        io.drain()
        drive.io = None
        self.graph.leave(io)
        io.retire()
        self.graph.drop(io.device)

    def take_away(self, drive: Drive) -> None:
        """Close the image under a device, which finds no medium from now on. Without the lock."""
        io = drive.io
        assert io is not None
        with self.graph.drained():
            image, io.device = io.device, NoMedium(io.device.size)
            io.policy = Policy("report", "report")
            self.graph.drop(image)

    def keep(self, drive: Drive) -> None:
        """Know a drive that has no id."""
        self[f"anonymous/{self._anonymous}"] = drive
        self._anonymous += 1

    def for_node(self, name: str) -> Drive | None:
        """A new drive on the node of a name; DeviceError if it is in use."""
        node = self.graph.nodes.get(name)
        if node is None:
            return None
        if self.graph.users_of(node) or self.graph.parents(node):
            raise DeviceError(f"Conflicts with use by another block device as 'root': '{name}'")
        return self.anonymous(self.serve(self.graph.entry(node)))

    def anonymous(self, io: DiskIo | None = None) -> Drive:
        """A drive that only its device knows."""
        drive = Drive("", "none", io=io)
        self.keep(drive)
        return drive

    def forget(self, drive: Drive) -> None:
        """It is no more."""
        for key, each in list(self.items()):
            if each is drive:
                del self[key]

    def close(self) -> None:
        """End all I/O, close every image."""
        for drive in self.values():
            if drive.io is not None:
                drive.io.close()
        for node in self.graph.owned.values():
            node.close()
