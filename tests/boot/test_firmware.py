"""The distribution's SeaBIOS on our board."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boot.terminal import BOOT_SECONDS, Terminal
from pytcg.machine.roms import DEFAULT_BIOS, RomFinder

pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(RomFinder().find(DEFAULT_BIOS) is None, reason="needs the package seabios"),
]
Start = Callable[..., Terminal]


@pytest.fixture
def start() -> Iterator[Start]:
    terminals: list[Terminal] = []

    def run(*options: str) -> Terminal:
        terminals.append(Terminal("-m", "256", "-nographic", *options))
        return terminals[-1]

    yield run
    for terminal in terminals:
        terminal.close()


def test_seabios_finds_nothing_to_boot(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "debug"
    debug = ("-debugcon", f"file:{log}", "-global", "isa-debugcon.iobase=0x402")
    start(*debug).wait_for(rb"No bootable device\.", BOOT_SECONDS)
    said = log.read_text()
    for line in (
        "Running on QEMU (i440fx)",
        "QEMU fw_cfg DMA interface supported",
        "qemu/e820: addr 0x0000000000000000 len 0x0000000010000000 [RAM]",
        "PCI: init bdf=00:00.0 id=8086:1237",
        "PCI: init bdf=00:01.0 id=8086:7000",
        "PIIX3/PIIX4 init: elcr=00 0c",
        "PCI: init bdf=00:01.3 id=8086:7113",
        "PS2 keyboard initialized",
    ):
        assert line in said
