"""`python -m bench.shares`: 9p in the same guest, ours and QEMU's: 1 MiB blocks and stat.

Sequential writes and reads of a file, and stat of files, without a cache in the guest, by the
guest's clock; medians of several boots. "x QEMU" is how many times as fast as QEMU's TCG.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import process
from bench.engines import EngineError
from bench.guests.build import COMPILE, SOURCES
from bench.guests.machines import Emulator, Guest
from pytcg.cli import guest, guest_shares
from pytcg.cli.initramfs import executable, newc

KINDS: Final = {"write": "96 MiB written", "read": "96 MiB read", "stat": "2,000 stat"}
INIT: Final = """\
#!/bin/sh
export PATH=/bin
mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module; done
mkdir /mnt
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none bench /mnt
/share /mnt
poweroff -f
"""
LIMIT: Final = 300.0


def make_guest(folder: Path) -> Guest:
    """The kernel that knows 9p, with an /init that measures and ends."""
    base = guest_shares.ensure(guest.cache_folder())
    program = folder / "share-program"
    subprocess.run([*COMPILE, "-o", program, SOURCES / "share.c"], check=True)
    more = newc([executable("share", program.read_bytes()), executable("init", INIT.encode())])
    (folder / "initramfs").write_bytes(base.read_bytes() + more)
    return Guest(base.parent / guest_shares.KERNEL, folder / "initramfs")


def measure(runs: int) -> dict[str, dict[str, float]]:
    """Median seconds by kind of work and emulator; EngineError when one fails."""
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        made = make_guest(folder)
        for _ in range(runs):
            for emulator in _emulators(folder):
                done = emulator.run(made, ["share"], LIMIT)
                if done.results.keys() != KINDS.keys():
                    raise EngineError(f"{emulator.name}: {done.complaint or 'no results'}")
                for kind, result in done.results.items():
                    found[kind].setdefault(emulator.name, []).append(result.seconds)
    return {kind: {name: statistics.median(seconds) for name, seconds in rows.items()}
            for kind, rows in found.items()}  # fmt: skip


def _emulators(folder: Path) -> list[Emulator]:
    """With empty folders of their own."""
    commands: dict[str, Sequence[str]] = {"pytcg": process.OURS}
    if shutil.which(process.QEMU[0]):
        commands["QEMU"] = process.QEMU
    made = []
    for name, command in commands.items():
        shared = folder / name
        shutil.rmtree(shared, ignore_errors=True)
        shared.mkdir()
        share = f"local,path={shared},mount_tag=bench,security_model=none"
        made.append(Emulator(name, command, ["-virtfs", share]))
    return made


def main(words: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.shares", description=__doc__)
    parser.add_argument("-n", dest="runs", type=int, default=3, metavar="RUNS", help="boots (3)")
    options = parser.parse_args(words)
    try:
        found = measure(max(options.runs, 1))
    except (EngineError, OSError, subprocess.SubprocessError, guest.GuestError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    for kind, rows in found.items():
        columns = "".join(f"  {name} {seconds * 1000:8.1f} ms" for name, seconds in rows.items())
        ratio = f"  x QEMU {rows['QEMU'] / rows['pytcg']:.2f}" if "QEMU" in rows else ""
        print(f"{KINDS[kind]:<16}{columns}{ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
