"""The ready-made hooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytcg import Cpu
from pytcg.errors import CpuError
from pytcg.tracing import (
    CallTrace,
    Counter,
    Coverage,
    InstructionTrace,
    MemoryTrace,
    Module,
    Watchpoint,
)

CODE, DATA, PAGE = 0x10000, 0x50000, 0x1000
LOOP = "b905000000 ff03 ffc9 75fa e802000000 f4 90 c3"  # …; call f; hlt; nop; f: ret


@pytest.fixture(params=["auto", "jit", "python"])
def cpu(request: pytest.FixtureRequest) -> Cpu:
    made = Cpu(engine=request.param)
    made.map(CODE, PAGE, data=bytes.fromhex(LOOP))
    made.map(DATA, PAGE)
    made.regs.rbx, made.regs.rsp = DATA, DATA + 0x800
    return made


def test_counting_and_tracing(cpu: Cpu) -> None:
    with Counter(cpu) as counter, InstructionTrace(cpu, room=4) as trace:
        cpu.run(CODE)
    assert counter.count == 1 + 3 * 5 + 3
    assert (trace.count, list(trace.addresses)) == (
        counter.count, [CODE, CODE + 5, CODE + 7, CODE + 9])  # fmt: skip
    counter.clear()
    cpu.run(CODE)
    assert counter.count == 0


def test_memory_into_an_array(cpu: Cpu) -> None:
    with MemoryTrace(cpu, DATA, DATA + 8) as trace:
        cpu.run(CODE)
    rows = trace.accesses
    assert list(rows["write"]) == [0, 1] * 5
    assert list(rows["value"][:4]) == [0, 1, 1, 2]
    assert set(rows["pc"]) == {CODE + 5} and set(rows["size"]) == {4}


def test_coverage_and_its_file(cpu: Cpu, tmp_path: Path) -> None:
    with Coverage(cpu) as coverage:
        cpu.run(CODE)
    assert coverage.blocks == [(CODE, 11), (CODE + 5, 6), (CODE + 11, 5), (CODE + 16, 1),
                               (CODE + 18, 1)]  # fmt: skip
    path = tmp_path / "run.drcov"
    assert coverage.write_drcov(path, [Module("a.out", CODE, CODE + 16)]) == 3
    text, _, rows = path.read_bytes().partition(b"BB Table: 3 bbs\n")
    assert b"Module Table: version 2, count 1" in text and len(rows) == 24
    coverage.clear()
    assert coverage.blocks == []


def test_calls_have_depth(cpu: Cpu) -> None:
    with CallTrace(cpu) as trace:
        cpu.run(CODE)
    assert [(c.source, c.target, c.depth) for c in trace.calls] == [(CODE + 11, CODE + 18, 0)]
    assert trace.depth == 0 and str(trace) == "0x1000b -> 0x10012"


def test_a_watchpoint_stops_behind_the_access(cpu: Cpu) -> None:
    with Watchpoint(cpu, DATA, 4) as watch:
        stop = cpu.run(CODE)
        assert (stop.kind, stop.rip, cpu.read_int(DATA, 4)) == ("stop", CODE + 7, 1)
        assert cpu.run().rip == CODE + 7
    assert [(hit.rip, hit.access, hit.value) for hit in watch.hits] == [
        (CODE + 5, "write", 1), (CODE + 5, "write", 2)]  # fmt: skip
    assert cpu.run().kind == "hlt"


def test_no_room(cpu: Cpu) -> None:
    with pytest.raises(CpuError, match="room for 0"):
        InstructionTrace(cpu, room=0)
