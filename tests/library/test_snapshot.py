"""Snapshots: back to any state, in any order; cheap where little was touched."""

from __future__ import annotations

import random

import pytest

from pytcg import Cpu
from pytcg.errors import CpuError, SnapshotError
from pytcg.library.snapshot import Snapshot

CODE, DATA, PAGE = 0x10000, 0x50000, 0x1000
ENGINES = pytest.mark.parametrize("engine", ["auto", "jit", "python"])


def cpu_with(code: str, engine: str = "threaded") -> Cpu:
    cpu = Cpu(engine=engine)
    cpu.map(CODE, PAGE, data=bytes.fromhex(code))
    cpu.map(DATA, 16 * PAGE)
    cpu.regs.rbx = DATA
    return cpu


@ENGINES
def test_memory_and_registers_go_back(engine: str) -> None:
    cpu = cpu_with("ff03 ff8300100000 48ffc0 f4", engine)  # inc [rbx]; inc [rbx+4096]; inc rax
    cpu.write_int(DATA, 41, 4)
    snapshot = cpu.snapshot()
    for _ in range(5):
        cpu.run(CODE)
        assert (cpu.read_int(DATA, 4), cpu.read_int(DATA + PAGE, 4), cpu.regs.rax) == (42, 1, 1)
        cpu.run(CODE)
        assert cpu.read_int(DATA, 4) == 43
        cpu.restore(snapshot)
        assert (cpu.read_int(DATA, 4), cpu.read_int(DATA + PAGE, 4), cpu.regs.rax) == (41, 0, 0)


@ENGINES
def test_code_goes_back_too(engine: str) -> None:
    cpu = cpu_with("b801000000 c6050000000005 f4", engine)  # … mov byte [rip], 5: over the HLT
    cpu.write(CODE, bytes.fromhex("b801000000 c605f5ffffff07 f4"))  # mov byte [CODE+1+…], 7
    cpu.write(CODE, bytes.fromhex("b801000000 c605f5ffffff07f4"))
    snapshot = cpu.snapshot()
    for _ in range(3):
        cpu.run(CODE)
        assert cpu.regs.eax == 1
        cpu.run(CODE)
        assert cpu.regs.eax == 7
        cpu.restore(snapshot)
    cpu.write(CODE, b"\xb8\x09")
    cpu.run(CODE)
    assert cpu.regs.eax == 9
    cpu.restore(snapshot)
    cpu.run(CODE)
    assert cpu.regs.eax == 1


def test_mappings_and_views_go_back() -> None:
    cpu = cpu_with("f4")
    view = cpu.view(DATA, 2 * PAGE)
    snapshot = cpu.snapshot()
    view[5] = 9
    cpu.map(0x100000, PAGE, data=b"new")
    cpu.protect(DATA, PAGE, "r")
    cpu.unmap(DATA + 4 * PAGE, PAGE)
    cpu.restore(snapshot)
    assert view[5] == 0
    assert [(r.address, r.size, r.perms.letters()) for r in cpu.regions] == [
        (CODE, PAGE, "rwx"), (DATA, 16 * PAGE, "rwx")]  # fmt: skip
    cpu.map(0x100000, PAGE)
    assert cpu.read(0x100000, 4) == bytes(4)
    view[6] = 1
    cpu.restore(snapshot)
    assert view[6] == 0


def test_any_snapshot_from_any_other() -> None:
    rng = random.Random(7)
    cpu = cpu_with("f4")
    states: list[tuple[Snapshot, bytes, int]] = []
    for step in range(60):
        for _ in range(rng.randrange(4)):
            at = DATA + rng.randrange(16 * PAGE - 8)
            cpu.write(at, rng.randbytes(8))
        cpu.regs.rax = step
        if step % 3 == 0:
            states.append((cpu.snapshot(), cpu.read(DATA, 16 * PAGE), step))
        if step % 2:
            snapshot, memory, rax = rng.choice(states)
            cpu.restore(snapshot)
            assert cpu.read(DATA, 16 * PAGE) == memory
            assert cpu.regs.rax == rax


def test_a_hook_may_go_back() -> None:
    cpu = cpu_with("ff03 ff03 ff03 f4")
    cpu.regs.rip = CODE
    snapshot = cpu.snapshot()
    times = []

    def back(c: Cpu, at: int, size: int) -> None:
        times.append(c.read_int(DATA, 4))
        if len(times) < 4:
            c.restore(snapshot)

    cpu.hooks.address(CODE + 6, back)
    assert cpu.run(CODE).kind == "hlt"
    assert (times, cpu.read_int(DATA, 4)) == ([3] * 4, 3)


def test_wrong_snapshots() -> None:
    snapshot = cpu_with("f4").snapshot()
    with pytest.raises(SnapshotError, match="another processor"):
        cpu_with("f4").restore(snapshot)
    with pytest.raises(CpuError, match="no snapshot"):
        cpu_with("f4").restore(5)  # type: ignore[arg-type]
