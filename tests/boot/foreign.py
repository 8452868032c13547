"""Other people's systems for the boot tests: from packages, kept in the cache folder."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from pytcg.cli import guest, guest_disks, initramfs

INSTALLER: Final = "debian-installer-12-netboot-amd64"
INSTALLER_FILES: Final = "./usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"
PASSWORD: Final = "secret"
SIGNATURE: Final = 0x70796721  # of the disk: GRUB and Linux find it by that on every bus
START: Final = 2048  # the partition's first sector
MIB: Final = 1 << 20
PARTITION: Final = 1150 * MIB
INCLUDED: Final = ("linux-image-amd64", "systemd-sysv", "udev", "e2fsprogs", "kmod", "login",
                   "passwd", "initramfs-tools")  # fmt: skip
DRIVERS: Final = (
    "crct10dif_common", "crct10dif_generic", "crc-t10dif", "crc64", "crc64-rocksoft", "t10-pi",
    *guest_disks.MODULES, "floppy", "parport", "parport_pc", "lp", "fat", "vfat", "nls_ascii",
    "nls_cp437", "i2c-smbus", "i2c-i801",
)  # fmt: skip
GRUB: Final = f"""\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
echo "GRUB says hello"
linux /vmlinuz root=PARTUUID={SIGNATURE:08x}-01 ro console=ttyS0 quiet
initrd /initrd.img
boot
"""


def folder() -> Path:
    """Where they are kept."""
    path = guest.cache_folder() / "foreign"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def from_package(package: str, pattern: str, name: str) -> Path:
    """A package's one file that matches, as ``name``."""
    target = folder() / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            found = guest.download_all(Path(work), lambda apt: [package])[0]
            guest.publish(target, guest.extract(found, pattern))
    return target


def pae_guest() -> tuple[Path, Path]:
    """Debian's kernel for 32-bit processors with PAE, and an initramfs of a 32-bit busybox."""
    kernel, archive = folder() / "vmlinuz-686-pae", folder() / "initramfs-686.cpio"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            apt = guest.Apt(Path(work), "i386")
            apt.use_private_lists()
            image = apt.newest("linux-image-686-pae")
            guest.publish(kernel, guest.extract(apt.download(image), "./boot/vmlinuz-*"))
            found = apt.download(guest.BUSYBOX_PACKAGE)
            busybox = guest.extract(found, "*bin/busybox")
            guest.publish(archive, initramfs.build(busybox, guest.applets_of(
                guest.cache_folder() / guest.BUSYBOX)))  # fmt: skip
    return kernel, archive


def full_guest() -> tuple[Path, Path]:
    """Debian's kernel for all machines, and an initramfs with drivers that the cloud one lacks."""
    kernel, archive = folder() / "vmlinuz-full", folder() / "initramfs-full.cpio"
    if not archive.exists():
        cache = guest.cache_folder()
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            package = guest.download_all(
                Path(work), lambda apt: [apt.newest("linux-image-amd64")])[0]  # fmt: skip
            guest.publish(kernel, guest.extract(package, "./boot/vmlinuz-*"))
            found = guest_disks.modules(package, DRIVERS)
            base = (cache / guest.INITRAMFS).read_bytes()
            guest.publish(archive, base + guest_disks.archive_of(found, DRIVERS))
    return kernel, archive


def debian_disk() -> Path:
    """A raw disk with Debian on it: one partition, GRUB in front. Root's work, made once."""
    target = folder() / "debian.raw"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder()) as work:
            tree, disk = Path(work) / "tree", Path(work) / "disk"
            _install(tree)
            _write_disk(tree, disk)
            os.replace(disk, target)
            shutil.rmtree(tree, ignore_errors=True)
    return target


def _install(tree: Path) -> None:
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--format=directory",
         f"--include={','.join(INCLUDED)}", "bookworm", tree],
        check=True,
    )  # fmt: skip
    subprocess.run(["chroot", tree, "chpasswd"], input=f"root:{PASSWORD}".encode(), check=True)
    (tree / "etc/hostname").write_text("test-vm\n")
    (tree / "etc/fstab").write_text(f"PARTUUID={SIGNATURE:08x}-01 / ext4 defaults 0 1\n")
    for name in ("doc", "locale", "man"):
        shutil.rmtree(tree / "usr/share" / name, ignore_errors=True)
    modules = tree / "boot/grub/i386-pc"
    modules.mkdir(parents=True)
    for file in Path("/usr/lib/grub/i386-pc").glob("*.[ml][os][dt]"):
        shutil.copy(file, modules)
    (tree / "boot/grub/grub.cfg").write_text(GRUB)


def _write_disk(tree: Path, disk: Path) -> None:
    """What grub-install does, without mounting: boot.img and core.img before the partition."""
    core = disk.with_name("core.img")
    subprocess.run(
        ["grub-mkimage", "-O", "i386-pc", "-o", core, "-p", "(hd0,msdos1)/boot/grub",
         "biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal", "echo"],
        check=True,
    )  # fmt: skip
    entry = struct.pack("<B3sB3sLL", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", START,
                        PARTITION // 512)  # fmt: skip
    boot = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
    record = boot + struct.pack("<LH", SIGNATURE, 0) + entry + bytes(48) + b"\x55\xaa"
    disk.write_bytes(record + core.read_bytes())
    os.truncate(disk, START * 512 + PARTITION + MIB)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", f"offset={START * 512}", disk,
         f"{PARTITION // MIB}M"],
        check=True,
    )  # fmt: skip


def check_file_system(raw: Path) -> None:
    """fsck finds nothing to say about the partition."""
    part = raw.with_name("partition")
    with raw.open("rb") as disk, part.open("wb") as out:
        disk.seek(START * 512)
        for _ in range(PARTITION // MIB):
            block = disk.read(MIB)
            if any(block):
                out.write(block)
            else:
                out.seek(MIB, os.SEEK_CUR)
        out.truncate(PARTITION)
    subprocess.run(["e2fsck", "-f", "-n", part], check=True)
    part.unlink()
