"""The distribution's SeaBIOS on our board."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest
from pytcg.machine.roms import DEFAULT_BIOS, RomFinder

pytestmark = pytest.mark.boot
needs_seabios = pytest.mark.skipif(
    RomFinder().find(DEFAULT_BIOS) is None, reason="needs the package seabios"
)
OVMF_CODE, OVMF_VARS = (Path(f"/usr/share/OVMF/OVMF_{part}_4M.fd") for part in ("CODE", "VARS"))
needs_ovmf = pytest.mark.skipif(not OVMF_CODE.exists(), reason="needs the package ovmf")
EFI_SHELL = rb"Shell> (?:\x1b\[[0-9;]*m)*$"
Start = Callable[..., Terminal]


@pytest.fixture
def start(terminals: Start) -> Start:
    return partial(terminals, "-m", "256", "-nographic")


@needs_seabios
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


@needs_seabios
def test_seabios_sets_up_system_management_mode(start: Start) -> None:
    """It waits for its handler's answer, and then makes 32-bit calls by SMIs."""
    start("-machine", "smm=on").wait_for(rb"No bootable device\.", BOOT_SECONDS)


@needs_ovmf
def test_ovmf_keeps_a_variable_in_its_flash(start: Start, tmp_path: Path) -> None:
    variables = tmp_path / "vars.fd"
    shutil.copy(OVMF_VARS, variables)
    flashes = ("-pflash", str(OVMF_CODE), "-pflash", str(variables))

    def at_the_shell(command: str) -> bytes:
        terminal = start(*flashes)
        terminal.wait_for(EFI_SHELL, BOOT_SECONDS)
        time.sleep(0.5)
        terminal.type(command + "\r")
        seen = terminal.wait_for(EFI_SHELL, ANSWER_SECONDS)
        terminal.type("reset -s\r")
        assert terminal.wait(ANSWER_SECONDS) == 0
        return seen

    at_the_shell("set kept firmly")
    assert "firmly".encode("utf-16-le") in variables.read_bytes()
    assert b"firmly" in at_the_shell("set kept")


@needs_seabios
def test_seabios_starts_a_kernel_at_its_real_mode_entry(start: Start, files: Path) -> None:
    kernel = ("-kernel", str(files / guest.KERNEL), "-initrd", str(files / guest.INITRAMFS))
    terminal = start("-bios", DEFAULT_BIOS, *kernel, "-append", "console=ttyS0")
    screen = terminal.wait_for(PROMPT, BOOT_SECONDS)
    assert b"Booting from ROM..." in screen
    assert b"SMBIOS 2.8 present." in screen
    terminal.type("cat /sys/bus/pci/devices/0000:00:01.0/device\n")
    assert b"0x7000" in terminal.wait_for(PROMPT, ANSWER_SECONDS)
    terminal.type("poweroff\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
