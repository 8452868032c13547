"""Edge maps, and afl-fuzz and libFuzzer themselves at a harness."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytcg import Cpu
from pytcg.errors import CpuError
from pytcg.fuzzing import EdgeMap, fuzz, libfuzzer
from pytcg.fuzzing.edges import MAP_SIZE

CODE, DATA, PAGE = 0x10000, 0x50000, 0x1000
# cmp byte [rbx],'T'; jne end; cmp byte [rbx+1],'C'; jne end; cmp byte [rbx+2],'G'; jne end; ud2
CHECK = bytes.fromhex("803b54 7510 807b0143 750a 807b0247 7504 0f0b 9090 90")

HARNESS = f"""
from pytcg import Cpu
from pytcg.fuzzing import fuzz
cpu = Cpu()
cpu.map({CODE}, {PAGE}, data=bytes.fromhex("{CHECK.hex()}"))
cpu.map({DATA}, {PAGE})
cpu.regs.rbx = {DATA}
snapshot = cpu.snapshot()

def run(data):
    cpu.restore(snapshot)
    cpu.write({DATA}, data[:{PAGE}])
    return cpu.run({CODE}, {CODE + len(CHECK)}, max_insns=1000)

raise SystemExit(fuzz(cpu, run))
"""
LIBFUZZER = HARNESS.replace("fuzz(", "libfuzzer(").replace("import fuzz", "import libfuzzer")


def target() -> Cpu:
    cpu = Cpu()
    cpu.map(CODE, PAGE, data=CHECK)
    cpu.map(DATA, PAGE)
    cpu.regs.rbx = DATA
    return cpu


def test_other_ways_are_other_edges() -> None:
    cpu = target()
    edges = EdgeMap(cpu)
    seen = []
    for data in (b"xxx", b"Txx", b"TCx", b"Tyy"):
        cpu.write(DATA, data)
        edges.clear()
        cpu.run(CODE, CODE + len(CHECK))
        seen.append(frozenset(edges.edges.nonzero()[0]))
    assert len(set(seen)) == 3 and seen[1] == seen[3]
    assert [len(each) for each in seen[:3]] == [2, 3, 4]
    edges.remove()
    with pytest.raises(CpuError, match="no power of two"):
        EdgeMap(cpu, size=1000)


def test_files_without_afl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpu = target()

    def run(data: bytes) -> object:
        cpu.write(DATA, data)
        return cpu.run(CODE, CODE + len(CHECK))

    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(b"abc")
    bad.write_bytes(b"TCG")
    assert fuzz(cpu, run, arguments=[str(good)]) == 0  # type: ignore[arg-type]
    assert fuzz(cpu, run, arguments=[str(good), str(bad)]) == 1  # type: ignore[arg-type]
    assert "#UD invalid opcode" in capsys.readouterr().out
    assert fuzz(cpu, run, arguments=[str(tmp_path / "none")]) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [
    ("-runs=400000",),
    pytest.param(("-fork=2", "-max_total_time=60"), marks=pytest.mark.slow),
])
def test_libfuzzer_finds_the_crash(options: tuple[str, ...], tmp_path: Path) -> None:
    harness, corpus = tmp_path / "harness.py", tmp_path / "corpus"
    harness.write_text(LIBFUZZER)
    corpus.mkdir()
    (corpus / "seed").write_bytes(b"TCaa")
    command = [sys.executable, str(harness), "-seed=7", "-max_len=8", *options, str(corpus)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip
    found = list(tmp_path.glob("crash-*"))
    assert found, done.stderr[-2000:]
    assert found[0].read_bytes()[:3] == b"TCG"
    assert done.returncode != 0
    again = subprocess.run([sys.executable, str(harness), str(found[0])], cwd=tmp_path,
                           capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
    assert "#UD invalid opcode" in again.stderr
    assert again.returncode == 77


def test_what_a_libfuzzer_harness_raises_is_kept(tmp_path: Path) -> None:
    harness = tmp_path / "harness.py"
    harness.write_text(LIBFUZZER.replace("(data):", "(data):\n    1 / (len(data) - 3)"))
    done = subprocess.run([sys.executable, str(harness), "-seed=7", "-runs=100000"], cwd=tmp_path,
                          capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
    assert "ZeroDivisionError" in done.stderr
    assert [len(path.read_bytes()) for path in tmp_path.glob("crash-*")] == [3]


def test_without_libfuzzer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CpuError, match="there is no libFuzzer"):
        libfuzzer(target(), lambda data: None)  # type: ignore[arg-type, return-value]


def test_a_run_that_is_killed_does_not_end_the_harness(tmp_path: Path) -> None:
    """afl-fuzz's part: it kills the process that runs an input when time is over."""
    harness, data = tmp_path / "harness.py", tmp_path / "input"
    harness.write_text(HARNESS.replace("(data):", "(data):\n    while data == b'loop': pass"))
    requests, ours = os.pipe()
    answers, theirs = os.pipe()
    libc = ctypes.CDLL(None)
    shared = libc.shmget(0, ctypes.c_size_t(MAP_SIZE), 0o1600)  # IPC_PRIVATE, IPC_CREAT
    # afl-fuzz's own numbers for the two ends.
    start = (f"import os; os.dup2({requests}, 198); os.dup2({theirs}, 199); os.execv("
             f"{sys.executable!r}, {[sys.executable, str(harness), str(data)]})")
    server = subprocess.Popen([sys.executable, "-c", start], pass_fds=(requests, theirs),
                              env={**os.environ, "__AFL_SHM_ID": str(shared)})  # fmt: skip
    os.close(requests)
    os.close(theirs)

    def answer() -> int:
        return int.from_bytes(os.read(answers, 4), "little")

    def run(text: bytes, *, kill: bool = False) -> tuple[int, int]:
        data.write_bytes(text)
        os.write(ours, bytes(4))
        process = answer()
        if kill:
            os.kill(process, signal.SIGKILL)
        return process, answer()

    try:
        assert answer() == 0
        first, status = run(b"xyz")
        assert status == 0 and run(b"TCG") == (first, signal.SIGSEGV)
        assert run(b"loop", kill=True) == (first, signal.SIGKILL)
        second, status = run(b"xyz")
        assert second != first and status == 0
        assert run(b"TCG") == (second, signal.SIGSEGV)
        os.close(ours)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
        libc.shmctl(shared, 0, None)  # IPC_RMID


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_afl_fuzz_finds_the_crash(processes: int, tmp_path: Path) -> None:
    """Three bytes that are compared one by one: only coverage finds them in time."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "seed").write_bytes(b"aaaa")
    harness = tmp_path / "harness.py"
    harness.write_text(HARNESS)
    environment = {**os.environ, "AFL_SKIP_BIN_CHECK": "1", "AFL_SKIP_CPUFREQ": "1",
                   "AFL_NO_AFFINITY": "1", "AFL_NO_UI": "1", "AFL_BENCH_UNTIL_CRASH": "1",
                   "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES": "1"}  # fmt: skip
    roles = [["-M", "default"], ["-S", "second"]][:processes] if processes > 1 else [[]]
    fuzzers = [subprocess.Popen(
        ["afl-fuzz", "-V", "90", "-t", "5000", "-i", str(tmp_path / "in"), "-o",
         str(tmp_path / "out"), *role, "--", sys.executable, str(harness), "@@"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for role in roles]  # fmt: skip
    said = [fuzzer.communicate(timeout=150)[0] for fuzzer in fuzzers]
    found = [*(tmp_path / "out").glob("*/crashes/id*")]
    assert found, said[0][-2000:]
    assert found[0].read_bytes()[:3] == b"TCG"
    for name in ("default", "second")[:processes]:
        assert (tmp_path / "out" / name / "fuzzer_stats").exists()
