"""The machine as monitors see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pytcg.chardev.base import Chardev
from pytcg.machine.pc import Pc
from pytcg.machine.runner import Runner
from pytcg.ui.console import Console


@dataclass
class Machine:
    """What commands work on."""

    board: Pc
    runner: Runner
    console: Console | None = None
    name: str = ""
    uuid: str = "00000000-0000-0000-0000-000000000000"
    chardevs: Mapping[str, Chardev] = field(default_factory=dict)
