"""The program as a process: exit statuses, one line on stderr, nothing heavy imported early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = os.pathsep.join(str(REPOSITORY / root) for root in ("src", "frontends", "backends"))


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with an empty standard input."""
    return subprocess.run(
        [sys.executable, "-m", "pytcg.cli.system", *arguments],
        env={**os.environ, "PYTHONPATH": SOURCES},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,  # the first run of all compiles
    )


def test_version() -> None:
    result = program("-version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "pytcg emulator version 0.1.0\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pytcg.cli.system.main import main\nmain(['-h'])\n"
        "heavy = {'asyncio', 'llvmlite', 'numpy', 'capstone', 'ctypes'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def bzimage(path: Path) -> Path:
    """A file that passes for a kernel that needs 48 MiB."""
    image = bytearray(3 * 512 + 4096)
    image[0x1F1] = 2
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x201] = 0x6A
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = b"\x0f\x02"
    image[0x211] = 1
    image[0x22C:0x230] = b"\xff\xff\xff\x7f"
    image[0x234:0x238] = b"\x01\x15\x01\x00"
    image[0x239] = 8
    image[0x25B] = 1
    image[0x263] = 2
    path.write_bytes(image)
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-foo", "-foo: invalid option"),
        ("-bios /none/x", "could not find the firmware '/none/x'"),
        ("-bios OVMF.x", "could not find the firmware 'OVMF.x': it is part of the package 'ovmf'"),
        ("-kernel /none", "could not open kernel file '/none': No such file or directory"),
        ("-kernel /", "could not open kernel file '/': Is a directory"),
        ("-kernel /etc/passwd", "kernel file '/etc/passwd' is not a Linux bzImage"),
        ("-kernel {k} -initrd /none", "could not open initrd file '/none': No such file"),
        ("-kernel /dev/zero", "kernel file '/dev/zero' is larger than the guest's 128 MiB"),
        ("-kernel {k} -device isa-debug-exit,iobase=0x60", "port 0x60 is attached twice"),
        ("-kernel {k} -m 16", "not enough memory: kernel '{k}' needs"),
        ("-kernel {k} -m 4k", "-m: 8 KiB is too little memory for a guest"),
        ("-kernel {k} -m 900T", "cannot set up guest memory: -m asks for 943718400 MiB"),
        ("-kernel {k} -serial foo",
         "-serial foo: could not connect serial0 to character backend 'foo'"),
        ("-kernel {k} -serial file:/no/x",
         "-serial file:/no/x: could not open '/no/x': No such file or directory"),
        ("-kernel {k} -serial stdio -debugcon stdio", "-debugcon stdio: cannot use stdio by"),
        ("-kernel {k} -D /no/x", "could not open log file '/no/x': No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_1(tmp_path: Path, line: str, message: str) -> None:
    kernel = str(bzimage(tmp_path / "bzImage"))
    result = program(*line.format(k=kernel).split())
    assert result.returncode == 1, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("pytcg-system-x86_64: " + message.format(k=kernel))
    assert result.stderr.count("\n") == 1
