"""From power-on to a boot loader's menu, and to Debian's login from its disk; beside QEMU.

    python -m bench.power_on [-n RUNS] [--only NAME]

Wall time from the process's start, medians; ours with the caches that the run before left.
Debian's disk is the boot tests' (made once, by root, with mmdebstrap), on virtio, not written to.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from bench import process
from bench.engines import EngineError
from bench.process import Console
from tests.boot import foreign

MENU: Final = """\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=-1
menuentry "the first of them" { true }
menuentry "another" { true }
"""


def menu_disc(folder: Path) -> list[str]:
    """Options of a machine with a CD of GRUB's."""
    grub, iso = folder / "tree" / "boot" / "grub", folder / "cd.iso"
    grub.mkdir(parents=True)
    (grub / "grub.cfg").write_text(MENU)
    subprocess.run(["grub-mkrescue", "-o", iso, folder / "tree"], check=True, capture_output=True)
    return ["-m", "256", "-cdrom", str(iso)]


def debian(folder: Path) -> list[str]:
    """Options of a machine with Debian on its disk."""
    return ["-m", "512", "-snapshot", "-drive",
            f"file={foreign.debian_disk()},format=raw,if=virtio"]  # fmt: skip


SCENES: Final[dict[str, tuple[Callable[[Path], list[str]], bytes]]] = {
    "menu": (menu_disc, b"the first of them"),
    "login": (debian, b"test-vm login: "),
}


def boot(command: Sequence[str], words: bytes) -> float:
    """Seconds until an emulator shows the words."""
    with closing(Console([*command, "-nographic"], process.environment())) as console:
        return console.wait_for(words)


def measure(name: str, runs: int) -> tuple[float, float]:
    """Our seconds and QEMU's."""
    make, words = SCENES[name]
    with tempfile.TemporaryDirectory(prefix="pytcg-bench.") as work:
        options = make(Path(work))
        found = [[boot([*command, *options], words) for command in (process.OURS, process.QEMU)]
                 for _ in range(runs)]  # fmt: skip
    ours, theirs = (statistics.median(row) for row in zip(*found, strict=True))
    return ours, theirs


def main(words: Sequence[str] | None = None) -> int:
    """The table."""
    parser = argparse.ArgumentParser(prog="python -m bench.power_on")
    parser.add_argument("-n", dest="runs", type=int, default=3, metavar="RUNS")
    parser.add_argument("--only", action="append", choices=SCENES, metavar="NAME")
    chosen = parser.parse_args(words)
    print(f"{'':<8}{'pytcg s':>10}{'QEMU s':>10}{'x QEMU':>10}")
    for name in chosen.only or SCENES:
        try:
            ours, theirs = measure(name, chosen.runs)
        except (EngineError, OSError, subprocess.SubprocessError) as error:
            print(f"bench.power_on: {name}: {error}", file=sys.stderr)
            return 1
        print(f"{name:<8}{ours:>10.2f}{theirs:>10.2f}{theirs / ours:>10.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
