"""The machine as monitors see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytcg.block.jobs.job import Job
from pytcg.chardev.registry import Chardevs
from pytcg.machine.devices.rack import Rack
from pytcg.machine.drives import DriveBay
from pytcg.machine.loop import MainLoop
from pytcg.machine.pc import Pc
from pytcg.machine.runner import Runner
from pytcg.monitor.block.exports import BlockExports
from pytcg.monitor.human.table import UsualFormat
from pytcg.monitor.migration import Migration
from pytcg.ui.console import Console

if TYPE_CHECKING:  # a machine without viewers needs no server
    from pytcg.ui.vnc.server import VncServer


@dataclass
class Machine:
    """What commands work on."""

    board: Pc
    runner: Runner
    chardevs: Chardevs
    loop: MainLoop
    drives: DriveBay
    console: Console | None = None
    name: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    migration: Migration = field(default_factory=Migration)
    vnc: list[VncServer] = field(default_factory=list)
    rack: Rack | None = None
    exports: BlockExports = field(default_factory=BlockExports)
    cpu_model: str = "max"
    jobs: dict[str, Job] = field(default_factory=dict)
    usual_format: UsualFormat = field(default_factory=UsualFormat)
    serve_gdb: Callable[[str], str] | None = None
    """Serves GDB on a chardev, or nowhere ("none"): what `gdbserver` then prints."""
