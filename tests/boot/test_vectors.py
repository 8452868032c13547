"""A program that gcc has compiled for x86-64-v3, under Linux: its vectors survive signals, too."""

from __future__ import annotations

import shutil

import pytest

from bench import process
from bench.guests.__main__ import vector_suite
from bench.guests.machines import Emulator, on_host
from pytcg.fuzz import hostcpu

pytestmark = [
    pytest.mark.boot,
    pytest.mark.skipif(not hostcpu.has("avx2", "fma", "bmi2"), reason="the oracle has no AVX2"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
]
NAME = "vectors-v3"


@pytest.mark.parametrize("model", ["max", "Haswell,check=off", "x86-64-v3"])
def test_vector_loops_and_signals(model: str) -> None:
    suite = vector_suite()
    emulator = Emulator("pytcg", process.OURS, ["-cpu", model])
    found = emulator.run(suite.guest, [NAME], 300)
    assert found.complaint == ""
    wanted = on_host({NAME: suite.commands[NAME]})[NAME]
    assert wanted.checksum != "0" * 16
    assert found.results[NAME].checksum == wanted.checksum
