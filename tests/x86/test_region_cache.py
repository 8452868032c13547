"""Regions kept on disk: found again by other processes, whatever became of the files."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys, time
from pytcg import Cpu

base = int(sys.argv[1], 0)
place = base + 0x8000 & 0xffffffff
cpu = Cpu()
cpu.map(base, 0x10000)
# 1: add rax, rcx; mov [rsi], rax; mov rdx, place; mov [place], rdx; dec rcx; jnz 1b; hlt
cpu.write(base, bytes.fromhex("4801c8 488906 48c7c2") + place.to_bytes(4, "little")
          + bytes.fromhex("48891425") + place.to_bytes(4, "little")
          + bytes.fromhex("48ffc9 75e6 f4"))
run, stats = cpu._cpu.regions_run, cpu._cpu.regions.stats
deadline = time.monotonic() + 90
while run()[1] == 0 and time.monotonic() < deadline:
    cpu.regs["rax"], cpu.regs["rcx"], cpu.regs["rsi"] = 0, 1_000_000, base + 0x8008
    assert cpu.run(base).kind == "hlt"
    assert cpu.regs["rax"] == 500000500000
    assert cpu.read(base + 0x8000, 8) == cpu.regs["rdx"].to_bytes(8, "little")
    assert cpu.regs["rdx"] == base + 0x8000
print(json.dumps([run()[1] > 0, stats.compiled, stats.reused, stats.failed]))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the handlers of this user's, but no regions."""
    folder = tmp_path_factory.mktemp("cache")
    run(folder)
    return folder


def start(cache: Path, base: int = 0x10000) -> subprocess.Popen[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache),
                   "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", PROGRAM, hex(base)], env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def ended(process: subprocess.Popen[str]) -> list[int]:
    """Whether a loop came to run in a region; regions compiled, found, failed."""
    output, errors = process.communicate(timeout=200)
    assert (process.returncode, errors) == (0, "")
    found: list[int] = json.loads(output)
    return found


def run(cache: Path, base: int = 0x10000) -> list[int]:
    return ended(start(cache, base))


def test_the_second_process_compiles_nothing(cache: Path) -> None:
    assert run(cache) == [True, 0, 1, 0]


def test_damaged_files_are_compiled_anew(cache: Path) -> None:
    rng = random.Random(5)
    for path in [*cache.rglob("regions/*.o"), *cache.rglob("shapes/*.o")]:
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 0xFF
        path.write_bytes(data[: rng.randrange(len(data) // 2, len(data))])
    ran, compiled, _, failed = run(cache)
    assert (ran, compiled, failed) == (True, 1, 0)
    assert run(cache) == [True, 0, 1, 0]


def test_a_kernel_loaded_elsewhere_is_the_same_code(cache: Path) -> None:
    assert run(cache, 0xFFFF_FFFF_8100_0000) == [True, 1, 0, 0]
    assert run(cache, 0xFFFF_FFFF_9A20_0000) == [True, 0, 1, 0]


def test_two_processes_at_once_share_it(cache: Path) -> None:
    """Both find what both look for and keep what both compile."""
    for path in [*cache.rglob("regions/*.o"), *cache.rglob("shapes/*.o")]:
        path.unlink()
    for ran, compiled, reused, failed in map(ended, [start(cache), start(cache)]):
        assert (ran, compiled + reused, failed) == (True, 1, 0)
    for process in [start(cache), start(cache)]:
        assert ended(process) == [True, 0, 1, 0]


def test_files_of_another_version_are_not_looked_at(cache: Path) -> None:
    """They are in another version's folder, and say what they are for."""
    regions = next(cache.rglob("regions"))
    for path in regions.glob("*.o"):
        path.write_bytes(path.read_bytes().replace(b"pytcgobj1", b"pytcgobj0"))
    ran, compiled, _, failed = run(cache)
    assert (ran, compiled, failed) == (True, 1, 0)
