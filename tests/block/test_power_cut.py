"""A writer killed at any moment: no corruption, and every flushed byte is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytcg.block.formats.qcow2.device import Qcow2Device
from pytcg.block.open import open_image

from .images import QEMU_IMG, make, run
from .power_cut_writer import SECTOR, content

SIZE = 24 << 20
OPTIONS = ["", "cluster_size=4k", "cluster_size=512,refcount_bits=64", "extended_l2=on",
           "refcount_bits=1", "compat=0.10"]
ROUNDS = 24
WRITER = Path(__file__).with_name("power_cut_writer.py")


def _run_writer(image: Path, seed: int, seconds: float) -> list[bytes]:
    """Let the writer work for a while, kill it, and return what it said."""
    root = Path(__file__).parents[2]
    writer = subprocess.Popen([sys.executable, str(WRITER), str(image), str(seed)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              bufsize=0,  # communicate() would not see what a buffer holds
                              env={**os.environ, "PYTHONPATH": str(root / "src")})
    assert writer.stdout is not None and writer.stderr is not None
    first = writer.stdout.readline()  # it has begun
    time.sleep(seconds)
    writer.kill()
    said, complaint = writer.communicate()
    assert not complaint, complaint.decode()
    return (first + said).splitlines()


def _possible(said: list[bytes]) -> list[set[int]]:
    """For each sector the generations it may hold: the last flushed one and any later."""
    possible = [{0} for _ in range(SIZE // SECTOR)]
    current = [0] * (SIZE // SECTOR)
    touched: set[int] = set()
    for line in said:
        words = line.split()
        if words[0] == b"f":
            for sector in touched:
                possible[sector] = {current[sector]}
            touched.clear()
        elif len(words) == 4:
            start, count, generation = map(int, words[1:])
            for sector in range(start, start + count):
                possible[sector].add(generation)
                current[sector] = generation
                touched.add(sector)
    return possible


def _judge(image: Path, said: list[bytes]) -> None:
    # Refcounts and COPIED flags can't change together: while snapshots change, the two may
    # disagree (on the safe side), as they may with QEMU.
    in_snapshot = said.count(b"s") > said.count(b"e")
    with open_image(str(image), read_only=True) as disk:
        assert isinstance(disk, Qcow2Device)
        errors: list[str] = []
        disk.check(report=errors.append)
        errors = [error for error in errors if error.startswith("ERROR")
                  and not (in_snapshot and "OFLAG_COPIED" in error)]
        assert not errors
        data = disk.pread(0, SIZE)
    if QEMU_IMG is not None and not in_snapshot:
        done = run("qemu-img", "check", image)
        assert done.returncode in (0, 3), done.stdout + done.stderr  # leaks are allowed
    for sector, generations in enumerate(_possible(said)):
        found = data[sector * SECTOR : (sector + 1) * SECTOR]
        assert any(found == content(sector, generation) for generation in generations), sector


def _cut(tmp_path: Path, seed: int) -> None:
    image = tmp_path / "disk.qcow2"
    make(image, SIZE, OPTIONS[seed % len(OPTIONS)])
    rng = random.Random(seed)
    _judge(image, _run_writer(image, seed, rng.random() * 0.25))


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_killed_writer_leaves_a_sound_image(seed: int, tmp_path: Path) -> None:
    _cut(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS, 3000))
def test_killed_writer_leaves_a_sound_image_thousands_of_times(seed: int, tmp_path: Path) -> None:
    _cut(tmp_path, seed)
