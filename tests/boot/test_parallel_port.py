"""Linux prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boot.terminal import Terminal
from boot.test_disks import ask

pytestmark = pytest.mark.boot


def test_linux_prints_through_the_parallel_port(full_machine: Callable[..., Terminal],
                                                tmp_path: Path) -> None:  # fmt: skip
    paper = tmp_path / "paper"
    terminal = full_machine("-parallel", f"file:{paper}")
    ask(terminal, "seq 1 500 > /dev/lp0")
    assert paper.read_bytes() == b"".join(b"%d\n" % number for number in range(1, 501))
    assert "parport0: PC-style at 0x378" in ask(terminal, "dmesg | grep parport")
