"""The machine as monitors see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from pytcg.block.graph import Holder

if TYPE_CHECKING:  # a machine without monitors and viewers needs none of what serves them
    from collections.abc import Callable

    from pytcg.block.dirty import DirtyBitmap
    from pytcg.block.gate import Gate
    from pytcg.block.jobs.job import Job
    from pytcg.block.protocols.nbd.server import NbdServer
    from pytcg.chardev.registry import Chardevs
    from pytcg.cli.io.session import Session
    from pytcg.machine.devices.rack import Rack
    from pytcg.machine.drives import DriveBay
    from pytcg.machine.loop import MainLoop
    from pytcg.machine.pc import Pc
    from pytcg.machine.runner import Runner
    from pytcg.ui.console import Console
    from pytcg.ui.vnc.server import VncServer


@dataclass
class Migration:
    """How the last one went: ``status`` in QMP's words, None if there was none."""

    status: str | None = None
    error: str = ""
    events: bool = False  # the capability that brings MIGRATION events


@dataclass
class BlockExports:
    """The server, if there is one, and what it offers: each export's gate and its name, by id."""

    server: NbdServer | None = None
    path: str | None = None
    gates: dict[str, tuple[Gate, str]] = field(default_factory=dict)
    bitmaps: dict[str, list[DirtyBitmap]] = field(default_factory=dict)


@dataclass
class UsualFormat:
    """What `/FORMAT` leaves out: as it was the last time."""

    notation: str = "x"
    size: int = 4


@dataclass
class Machine:
    """What commands work on."""

    board: Pc
    runner: Runner
    chardevs: Chardevs
    loop: MainLoop
    drives: DriveBay
    make_console: Callable[[], Console | None] = lambda: None
    name: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    migration: Migration = field(default_factory=Migration)
    vnc: list[VncServer] = field(default_factory=list)
    rack: Rack | None = None
    exports: BlockExports = field(default_factory=BlockExports)
    cpu_model: str = "max"
    jobs: dict[str, Job] = field(default_factory=dict)
    add_drive: Callable[[str], None] = lambda text: None
    """Opens a drive as -drive describes it; DeviceError."""
    io_sessions: dict[str, tuple[Session, Gate]] = field(default_factory=dict)
    """What `qemu-io` has begun, by node."""
    usual_format: UsualFormat = field(default_factory=UsualFormat)
    serve_gdb: Callable[[str], str] | None = None
    """Serves GDB on a chardev, or nowhere ("none"): what `gdbserver` then prints."""

    @cached_property
    def console(self) -> Console | None:
        """Its screen, keyboard and mouse; None without a screen."""
        return self.make_console()

    def end(self) -> None:
        """The emulator ends: stop what is under way, and give back what commands hold."""
        if self.exports.server is not None:
            from pytcg.monitor.block import exports

            exports.stop(self)
        for job in list(self.jobs.values()):
            job.cancel(force=True)
            job.join()
        for user in self.drives.graph.users:
            if isinstance(user, Holder):
                user.device.close()
