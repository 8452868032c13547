"""What a start loads: what no option asks for stays on disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.startup import EXIT_STATUS, kernel
from boot.terminal import SOURCES

UNUSED = (
    "pytcg.block.filters", "pytcg.block.formats.qcow2", "pytcg.block.jobs",
    "pytcg.block.protocols.nbd", "pytcg.gdbstub", "pytcg.hw.display.screen",
    "pytcg.hw.storage.ahci", "pytcg.hw.storage.nvme", "pytcg.hw.storage.scsi",
    "pytcg.hw.testing", "pytcg.hw.virtio",
    "pytcg.machine.board.q35", "pytcg.machine.multiboot", "pytcg.machine.saved",
    "pytcg.monitor.command", "pytcg.monitor.human", "pytcg.monitor.schema", "pytcg.ninep",
    "pytcg.tls.credentials", "pytcg.tls.psk",
    "pytcg.ui.console", "pytcg.ui.vnc.server", "pytcg.accel.kvm.abi",
    "argparse", "capstone", "numpy", "tarfile",
)  # fmt: skip


def loaded_by(*options: str) -> set[str]:
    """The modules that are there when a machine has ended."""
    code = ("import sys\nfrom pytcg.cli.system.main import main\nstatus = main(sys.argv[1:])\n"
            "print(*sys.modules)\nsys.exit(status)\n")  # fmt: skip
    result = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True,
                            env={**os.environ, "PYTHONPATH": SOURCES}, timeout=300)  # fmt: skip
    assert (result.returncode, result.stderr) == (EXIT_STATUS, "")
    return set(result.stdout.split())


def test_a_machine_with_a_screen_and_no_more_loads_no_more(tmp_path: Path) -> None:
    image = tmp_path / "kernel"
    image.write_bytes(kernel())
    options = ("-m", "64", "-nodefaults", "-vga", "std", "-display", "none", "-kernel", str(image),
               "-device", "isa-debug-exit,iobase=0x501,iosize=1")  # fmt: skip
    loaded_by(*options)  # compiles, and loads what compiles, after a change of the sources
    found = loaded_by(*options)
    unused = {name for name in found for part in UNUSED
              if name == part or name.startswith(f"{part}.")}  # fmt: skip
    assert not unused, sorted(unused)
