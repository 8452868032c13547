"""Guests for the boot tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boot.terminal import BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest

Boot = Callable[..., Terminal]


@pytest.fixture(scope="session")
def files() -> Path:
    """Kernel and initramfs, fetched if they are not there."""
    cache = guest.cache_folder()
    guest.ensure(cache)
    return cache


@pytest.fixture
def boot(files: Path) -> Iterator[Boot]:
    """Boots guests to their first prompts: `boot(command line, option, …)`."""
    terminals: list[Terminal] = []

    def start(command_line: str, *options: str) -> Terminal:
        terminal = Terminal(
            "-m", "256", "-nographic", *options,
            "-kernel", str(files / guest.KERNEL),
            "-initrd", str(files / guest.INITRAMFS),
            "-append", f"console=ttyS0 {command_line}",
        )  # fmt: skip
        terminals.append(terminal)
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        return terminal

    yield start
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def shell(boot: Boot) -> Terminal:
    """A guest at its first prompt."""
    return boot("quiet", "-no-reboot")
