"""Floppy disks: GRUB boots from one, Linux mounts one; what it wrote, mtools find."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from boot.conftest import Boot
from boot.terminal import ANSWER_SECONDS, BOOT_SECONDS, PROMPT

pytestmark = pytest.mark.boot
RESERVED = 240  # sectors in front of the file system
SIZE = 1440 << 10
CONFIGURATION = """\
serial --unit=0 --speed=115200
terminal_output serial
echo "a floppy says hello"
sha256sum (fd0)/blob
"""


def mtool(tool: str, image: Path, *arguments: object) -> bytes:
    """One of the mtools on an image."""
    command = [tool, "-i", image, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def grub_disk(path: Path) -> str:
    """A FAT disk with GRUB in its reserved sectors; its file's digest."""
    core, folder = path.with_name("core.img"), path.with_name("files")
    subprocess.run(
        ["grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(fd0)/grub", "biosdisk", "fat",
         "normal", "serial", "terminal", "echo", "hashsum", "gcry_sha256"],
        check=True,
    )  # fmt: skip
    assert core.stat().st_size < (RESERVED - 1) * 512
    mtool("mformat", path, "-C", "-f", "1440", "-R", RESERVED, "::")
    folder.mkdir()
    (folder / "grub.cfg").write_text(CONFIGURATION)
    blob = os.urandom(300_000)
    (folder / "blob").write_bytes(blob)
    mtool("mmd", path, "::/grub")
    mtool("mcopy", path, folder / "grub.cfg", "::/grub/grub.cfg")
    mtool("mcopy", path, folder / "blob", "::/blob")
    with path.open("r+b") as disk:
        fat = disk.read(512)
        boot = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()
        disk.seek(0)
        disk.write(boot[:3] + fat[3:0x5A] + boot[0x5A:510] + fat[510:] + core.read_bytes())
    return hashlib.sha256(blob).hexdigest()


@pytest.mark.parametrize("option", [
    "-fda {0}",
    pytest.param("-drive file={0},if=none,id=f -device floppy,drive=f", marks=pytest.mark.slow),
])  # fmt: skip
def test_grub_boots_from_a_floppy(terminals: Boot, tmp_path: Path, option: str) -> None:
    if option != "-fda {0}":
        option += " -nodefaults -serial stdio"
    disk = tmp_path / "disk"
    digest = grub_disk(disk)
    terminal = terminals("-m", "64", "-nographic", "-boot", "a", *option.format(disk).split())
    terminal.wait_for(b"a floppy says hello", BOOT_SECONDS)
    terminal.wait_for(digest.encode(), BOOT_SECONDS)


@pytest.mark.slow
def test_linux_mounts_a_floppy(full_machine: Boot, tmp_path: Path) -> None:
    disk, blob = tmp_path / "disk", tmp_path / "blob"
    blob.write_bytes(os.urandom(300_000))
    mtool("mformat", disk, "-C", "-f", "1440", "::")
    mtool("mcopy", disk, blob, "::/blob")
    terminal = full_machine("-fda", str(disk))
    terminal.type("mkdir -p /mnt; mount -t vfat /dev/fd0 /mnt && cp /mnt/blob /mnt/copy && "
                  "umount /mnt && echo do''ne\n")  # fmt: skip
    terminal.wait_for(b"done", BOOT_SECONDS)
    terminal.wait_for(PROMPT, ANSWER_SECONDS)
    terminal.type("poweroff\n")
    assert terminal.wait(ANSWER_SECONDS) == 0
    assert mtool("mtype", disk, "::/copy") == blob.read_bytes()
