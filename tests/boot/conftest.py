"""Guests for the boot tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boot import foreign
from boot.terminal import BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest, guest_disks

Boot = Callable[..., Terminal]


@pytest.fixture
def terminals() -> Iterator[Boot]:
    """Starts emulators, `terminals(option, …)`, and ends them with the test."""
    started: list[Terminal] = []

    def start(*options: str, **program: Any) -> Terminal:
        started.append(Terminal(*options, **program))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


@pytest.fixture(scope="session")
def files() -> Path:
    """Kernel and initramfs, fetched if they are not there."""
    cache = guest.cache_folder()
    guest.ensure(cache)
    return cache


@pytest.fixture
def boot(files: Path, terminals: Boot) -> Boot:
    """Boots guests to their first prompts: `boot(command line, option, …)`."""

    def start(command_line: str, *options: str) -> Terminal:
        terminal = terminals(
            "-m", "256", "-nographic", *options,
            "-kernel", str(files / guest.KERNEL),
            "-initrd", str(files / guest.INITRAMFS),
            "-append", f"console=ttyS0 {command_line}",
        )  # fmt: skip
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        return terminal

    return start


@pytest.fixture
def shell(boot: Boot) -> Terminal:
    """A guest at its first prompt."""
    return boot("quiet", "-no-reboot")


@pytest.fixture(scope="session")
def initramfs() -> Path:
    """An initramfs with drivers, beside the kernel that they fit."""
    return guest_disks.ensure(guest.cache_folder())


@pytest.fixture
def machine(initramfs: Path, terminals: Boot) -> Boot:
    """Boots a guest with drivers to the first prompt: `machine(option, …)`."""
    return _starter(terminals, initramfs.parent / guest.KERNEL, initramfs)


@pytest.fixture
def full_machine(terminals: Boot, files: Path) -> Boot:
    """The same with the distribution's kernel for all machines, and more drivers."""
    assert files
    return _starter(terminals, *foreign.full_guest())


def _starter(terminals: Boot, kernel: Path, initramfs: Path) -> Boot:
    def start(*options: str) -> Terminal:
        terminal = terminals(
            "-m", "256", "-nographic", "-no-reboot", *options, "-kernel", str(kernel),
            "-initrd", str(initramfs), "-append", "console=ttyS0 quiet",
        )  # fmt: skip
        terminal.wait_for(PROMPT, BOOT_SECONDS)
        return terminal

    return start
