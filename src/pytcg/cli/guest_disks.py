"""The guest's initramfs with the drivers of disks: what distributions' cloud kernels keep apart.

`python -m pytcg.cli.guest_disks` leaves `initramfs-disks.cpio` in the cache folder, beside the
kernel that its modules belong to, and prints the folder's name.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pytcg.cli import guest, initramfs

DISKS_INITRAMFS: Final = "initramfs-disks.cpio"
MODULES_FOLDER: Final = "modules"
MODULES: Final = (  # in the order in which they can be loaded
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "scsi_common", "scsi_mod", "cdrom", "sd_mod", "sr_mod", "libata", "ata_piix", "libahci",
    "ahci", "virtio_blk", "virtio_scsi", "rng-core", "virtio-rng", "virtio_console",
    "virtio_balloon", "nvme-core", "nvme", "isofs",
)  # fmt: skip


def modules(package: Path, names: Sequence[str] = MODULES) -> dict[str, bytes]:
    """Those of a kernel package's modules that are named; some may be built in."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    found = {}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            stem = Path(member.name).name.removesuffix(".ko")
            if member.isfile() and member.name.endswith(".ko") and stem in names:
                file = archive.extractfile(member)
                assert file is not None
                found[stem] = file.read()
    return found


def archive_of(found: dict[str, bytes], order: Sequence[str] = MODULES) -> bytes:
    """A cpio archive of modules in loading order; the guest's /init loads what it finds."""
    names = [name for name in order if name in found]
    return initramfs.newc((
        initramfs.directory(MODULES_FOLDER),
        *(initramfs.executable(f"{MODULES_FOLDER}/{number:02}-{name}.ko", found[name])
          for number, name in enumerate(names)),
    ))  # fmt: skip


def ensure(cache: Path) -> Path:
    """Make the initramfs be there, with the kernel that fits it; returns its name."""
    target = cache / DISKS_INITRAMFS
    kernel = cache / guest.KERNEL
    if target.exists() and kernel.exists() and target.stat().st_mtime >= kernel.stat().st_mtime:
        return target
    guest.ensure(cache)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch.") as work:
        apt = guest.Apt(Path(work))
        try:
            package = apt.download(apt.kernel_package())
        except guest.GuestError:
            apt.use_private_lists()
            package = apt.download(apt.kernel_package())
        image = guest.extract(package, "./boot/vmlinuz-*")
        if image != kernel.read_bytes():
            guest.publish(kernel, image)
        base = (cache / guest.INITRAMFS).read_bytes()
        guest.publish(target, base + archive_of(modules(package)))
    return target


if __name__ == "__main__":
    try:
        print(ensure(guest.cache_folder()).parent)
    except (guest.GuestError, OSError) as error:
        sys.exit(f"guest: {error}")
