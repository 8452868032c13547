"""Disks of the machine: Linux reads and writes them in our emulator and in QEMU.

    python -m bench.guest_disk

One guest, one image a bus: virtio-blk, IDE by DMA and NVMe. Blocks of 1 MiB in a row (MB/s), 4 KiB
at random, one and 32 at a time (requests a second); O_DIRECT in the guest, over the host's cache.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import process
from bench.guests.build import SOURCES
from pytcg.cli import guest, guest_disks, initramfs

SIZE: Final = 192 << 20
LIMIT: Final = 600
NODES: Final = {"virtio": "/dev/vda", "ide": "/dev/sda", "nvme": "/dev/nvme0n1"}
DEVICES: Final = {"virtio": "virtio-blk-pci", "ide": "ide-hd", "nvme": "nvme,serial=n1"}
OURS: Final = (sys.executable, "-m", "pytcg.cli.system")
QEMU: Final = ("qemu-system-x86_64", "-accel", "tcg")
UNITS: Final = {"read": "MB/s", "write": "MB/s", "random-1": "IOPS", "random-32": "IOPS"}
INIT: Final = """\
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod "$module"; done
sleep 1
"""

_LINE: Final = re.compile(r"disk (\S+) (\S+) (\d+) ([\d.]+)")


def _initrd(folder: Path) -> Path:
    program = folder / "diskio"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-Wall", "-o", program,
                    SOURCES / "diskio.c"], check=True)  # fmt: skip
    lines = [f"/bench/diskio {name} {node}" for name, node in NODES.items()]
    script = INIT + "\n".join(lines) + "\npoweroff -f\n"
    base = guest_disks.ensure(guest.cache_folder()).read_bytes()
    target = folder / "initrd"
    target.write_bytes(base + initramfs.newc((
        initramfs.directory("bench"),
        initramfs.executable("bench/diskio", program.read_bytes()),
        initramfs.executable("bench/init", script.encode()),
    )))  # fmt: skip
    return target


def measure(command: Sequence[str], folder: Path) -> dict[tuple[str, str], float]:
    """Figures by bus and test."""
    options: list[str] = []
    for name, device in DEVICES.items():
        image = folder / name
        if not image.exists():
            image.write_bytes(bytes(range(256)) * (SIZE // 256))
        options += ["-drive", f"file={image},format=raw,if=none,id={name}",
                    "-device", f"{device},drive={name}"]  # fmt: skip
    kernel = guest.cache_folder() / guest.KERNEL
    done = subprocess.run(
        [*command, "-m", "256", "-nographic", "-no-reboot", *options, "-kernel", kernel,
         "-initrd", folder / "initrd", "-append", "console=ttyS0 quiet rdinit=/bench/init"],
        env=process.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LIMIT, check=True,
    )  # fmt: skip
    found = {}
    for name, test, count, seconds in _LINE.findall(done.stdout):
        scale = 1.048576 if UNITS[test] == "MB/s" else 1
        found[name, test] = int(count) * scale / float(seconds)
    return found


def main() -> int:
    """Both emulators, one table."""
    with tempfile.TemporaryDirectory(prefix="pytcg-bench.") as work:
        folder = Path(work)
        _initrd(folder)
        ours, theirs = measure(OURS, folder), measure(QEMU, folder)
    print(f"{'':<20}{'pytcg':>10}{'QEMU':>10}{'x QEMU':>8}")
    for (name, test), figure in ours.items():
        other = theirs[name, test]
        print(f"{name + ' ' + test:<20}{figure:>10,.0f}{other:>10,.0f}{figure / other:>8.2f}"
              f"  {UNITS[test]}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
