"""Other people's systems, unmodified: Debian on its disks, its installer, boot loaders, memtest."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from boot import foreign
from boot.conftest import Boot
from boot.terminal import BOOT_SECONDS, PROMPT, Terminal
from pytcg.cli import guest

pytestmark = [pytest.mark.boot, pytest.mark.slow]
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd"
BUSES = {
    "ide": "-drive file={0},format={1}",
    "virtio": "-drive file={0},format={1},if=virtio",
    "scsi": "-drive file={0},format={1},if=none,id=d -device virtio-scsi-pci,id=s"
            " -device scsi-hd,drive=d,bus=s.0",
    "ahci": "-drive file={0},format={1},if=none,id=d -device ahci,id=a"
            " -device ide-hd,drive=d,bus=a.0",
    "q35": "-machine q35 -drive file={0},format={1}",
    "nvme": "-drive file={0},format={1},if=none,id=d -device nvme,drive=d,serial=n1",
}  # fmt: skip


@pytest.fixture
def start(terminals: Boot) -> Boot:
    """Starts machines on a serial console: `start(MiB of memory, option, …)`."""
    return lambda memory, *options: terminals("-m", str(memory), "-nographic", *options)


def log_in(terminal: Terminal) -> None:
    terminal.wait_for(rb"login: ?$", 2 * BOOT_SECONDS)
    terminal.type("root\n")
    terminal.wait_for(rb"assword: ?$", BOOT_SECONDS)
    terminal.type(foreign.PASSWORD + "\n")
    terminal.wait_for(rb"# ?$", BOOT_SECONDS)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mmdebstrap") is None,
                    reason="making the system needs mmdebstrap and root")
@pytest.mark.parametrize("format", ["raw", "qcow2"])
@pytest.mark.parametrize("bus", BUSES)
def test_debian_keeps_what_is_written(start: Boot, tmp_path: Path, bus: str, format: str
                                      ) -> None:  # fmt: skip
    disk, raw = tmp_path / "disk", tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", format, foreign.debian_disk(), disk], check=True)
    terminal = start(512, *BUSES[bus].format(disk, format).split())
    terminal.wait_for(b"GRUB says hello", BOOT_SECONDS)
    log_in(terminal)
    terminal.type("head -c 9000000 /dev/urandom > blob; sha256sum blob > sum; reboot\n")
    terminal.wait_for(b"GRUB says hello", BOOT_SECONDS)  # after a reset, not another start
    log_in(terminal)
    terminal.type("sha256sum -c sum; until systemctl is-system-running | grep -v starting; "
                  "do sleep 1; done; poweroff\n")  # fmt: skip
    screen = terminal.wait_for(b"Power down", BOOT_SECONDS)
    assert b"blob: OK" in screen and b"\nrunning" in screen, screen
    assert terminal.wait(BOOT_SECONDS) == 0
    subprocess.run(["qemu-img", "convert", "-f", format, "-O", "raw", disk, raw], check=True)
    if format == "qcow2":
        subprocess.run(["qemu-img", "check", disk], check=True)
    foreign.check_file_system(raw)


def test_debian_s_installer_shows_its_first_menu(start: Boot) -> None:
    kernel, initrd = (foreign.from_package(foreign.INSTALLER, foreign.INSTALLER_FILES + name, name)
                      for name in ("linux", "initrd.gz"))  # fmt: skip
    terminal = start(1024, "-kernel", str(kernel), "-initrd", str(initrd),
                     "-append", "console=ttyS0 --- quiet")  # fmt: skip
    terminal.wait_for(b"Select a language", 2 * BOOT_SECONDS)


def test_a_kernel_for_32_bit_processors_runs_a_shell(start: Boot) -> None:
    kernel, archive = foreign.pae_guest()
    terminal = start(256, "-no-reboot", "-kernel", str(kernel), "-initrd", str(archive),
                     "-append", "console=ttyS0 quiet")  # fmt: skip
    terminal.wait_for(PROMPT, BOOT_SECONDS)
    terminal.type("uname -m; poweroff\n")
    assert b"i686" in terminal.wait_for(b"Power down", BOOT_SECONDS)
    assert terminal.wait(BOOT_SECONDS) == 0


ISOLINUX = """\
serial 0 115200
say ISOLINUX says hello
default linux
label linux
  kernel /vmlinuz
  append initrd=/initrd console=ttyS0 quiet
"""


def test_isolinux_starts_linux(start: Boot, files: Path, tmp_path: Path) -> None:
    tree, iso = tmp_path / "tree", tmp_path / "cd.iso"
    (tree / "isolinux").mkdir(parents=True)
    shutil.copy(files / guest.KERNEL, tree / "vmlinuz")
    shutil.copy(files / guest.INITRAMFS, tree / "initrd")
    loader = foreign.from_package("isolinux", "./usr/lib/ISOLINUX/isolinux.bin", "isolinux.bin")
    library = foreign.from_package("syslinux-common", "*/modules/bios/ldlinux.c32", "ldlinux.c32")
    for file in (loader, library):
        shutil.copy(file, tree / "isolinux")
    (tree / "isolinux" / "isolinux.cfg").write_text(ISOLINUX)
    subprocess.run(
        ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", iso, "-b", "isolinux/isolinux.bin",
         "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
         tree],
        check=True,
    )  # fmt: skip
    terminal = start(256, "-cdrom", str(iso))
    terminal.wait_for(b"ISOLINUX says hello", BOOT_SECONDS)
    terminal.wait_for(PROMPT, BOOT_SECONDS)


def test_ipxe_looks_for_a_network(start: Boot) -> None:
    iso = foreign.from_package("ipxe", "./usr/lib/ipxe/ipxe.iso", "ipxe.iso")
    start(256, "-cdrom", str(iso)).wait_for(b"Ctrl-B", BOOT_SECONDS)


def test_u_boot_is_a_firmware_with_a_prompt(start: Boot) -> None:
    rom = foreign.from_package("u-boot-qemu", "./usr/lib/u-boot/qemu-x86_64/u-boot.rom",
                               "u-boot.rom")  # fmt: skip
    terminal = start(256, "-bios", str(rom))
    screen = terminal.wait_for(rb"^=> ?$", 2 * BOOT_SECONDS)
    assert b"Jumping to 64-bit U-Boot" in screen and b"QEMU DVD-ROM" in screen
    terminal.type("bdinfo\r")
    assert b"DRAM bank" in terminal.wait_for(rb"^=> ?$", BOOT_SECONDS)


def test_xen_is_a_multiboot_kernel_that_wants_another(start: Boot) -> None:
    packed = foreign.from_package("xen-hypervisor-4.17-amd64", "./boot/xen-4.17-amd64.gz",
                                  "xen.gz")  # fmt: skip
    kernel = packed.with_name("xen")
    kernel.write_bytes(gzip.decompress(packed.read_bytes()))
    terminal = start(256, "-no-reboot", "-kernel", str(kernel),
                     "-append", "console=com1 com1=115200")  # fmt: skip
    terminal.wait_for(b"dom0 kernel not specified", BOOT_SECONDS)


@pytest.mark.parametrize("kind", ["bin", "efi"])
def test_memtest_finds_no_errors(start: Boot, kind: str) -> None:
    image = foreign.from_package("memtest86+", f"./boot/memtest86+x64.{kind}", f"memtest.{kind}")
    firmware = ("-pflash", OVMF) if kind == "efi" else ()
    memory = 256 if kind == "efi" else 64
    terminal = start(memory, *firmware, "-kernel", str(image), "-append", "console=ttyS0,115200")
    screen = terminal.wait_for(rb"#[2-9] +\[", 2 * BOOT_SECONDS)  # several tests on
    assert re.search(rb"Errors: 0 ", screen), screen[-2000:]
