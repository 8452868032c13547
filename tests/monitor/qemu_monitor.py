"""QEMU's own monitor, to compare with."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

QEMU = shutil.which("qemu-system-x86_64")


def ask_qemu(options: list[str], asked: Sequence[str | dict[str, Any]]) -> list[dict[str, Any]]:
    """What QEMU answers to commands, or to whole requests; events are left out."""
    requests = [{"execute": ask} if isinstance(ask, str) else ask for ask in asked]
    typed = [{"execute": "qmp_capabilities"}, *requests, {"execute": "quit"}]
    assert QEMU is not None
    done = subprocess.run(
        [QEMU, "-S", "-display", "none", "-nodefaults", "-qmp", "stdio", *options],
        input="\n".join(map(json.dumps, typed)), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [line for line in lines if "return" in line or "error" in line][1:-1]
