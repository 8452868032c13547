"""A guest that mounts shared folders: the distribution's full kernel, whose cloud kernel has no 9p.

`python -m pytcg.cli.guest_shares` leaves `vmlinuz-shares` and `initramfs-shares.cpio` in the cache
folder and prints the folder's name.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from pytcg.cli import guest, guest_disks

KERNEL: Final = "vmlinuz-shares"
INITRAMFS: Final = "initramfs-shares.cpio"
META: Final = ("linux-image-amd64", "linux-image-generic")
MODULES: Final = (  # in the order in which they can be loaded
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "netfs", "fscache", "9pnet", "9pnet_virtio", "9p",
)  # fmt: skip


def ensure(cache: Path) -> Path:
    """Make both be there; returns the initramfs's name."""
    target, kernel = cache / INITRAMFS, cache / KERNEL
    guest.ensure(cache)
    base = cache / guest.INITRAMFS
    if target.exists() and kernel.exists() and target.stat().st_mtime >= base.stat().st_mtime:
        return target
    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch.") as work:
        def package(apt: guest.Apt) -> list[str]:
            return [apt.newest(*META)]

        fetched = guest.download_all(Path(work), package)[0]
        guest.publish(kernel, guest.extract(fetched, "./boot/vmlinuz-*"))
        found = guest_disks.modules(fetched, MODULES)
        guest.publish(target, base.read_bytes() + guest_disks.archive_of(found, MODULES))
    return target


if __name__ == "__main__":
    try:
        print(ensure(guest.cache_folder()).parent)
    except (guest.GuestError, OSError) as error:
        sys.exit(f"guest: {error}")
