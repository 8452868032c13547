"""Guest programs have the right answer on every engine, for little work; nothing is timed."""

from __future__ import annotations

import pytest

from bench import qemu
from bench.assembler import assemble
from bench.engines import EngineError, HostCpu, Outcome, PytcgEngine
from bench.measure import count_for, measure
from bench.program import Program
from bench.programs import PROGRAMS

COUNTS = (1, 2, 7)
LOOPS = Program("loops", "", "mov rax, rsi\nret", lambda count: count, 50, 5)

programs = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


@pytest.fixture(scope="module")
def threaded() -> PytcgEngine:
    return PytcgEngine("threaded")


@pytest.fixture(scope="module")
def python() -> PytcgEngine:
    return PytcgEngine("python")


@programs
def test_the_threaded_engine_answers(threaded: PytcgEngine, program: Program) -> None:
    for count in (*COUNTS, program.python_count):
        outcome = threaded.run(program, count)
        assert outcome.answer == program.answer(count)
        assert outcome.instructions is not None and outcome.instructions >= count


@programs
def test_the_python_engine_answers(
    threaded: PytcgEngine, python: PytcgEngine, program: Program
) -> None:
    outcome = python.run(program, 2)
    assert outcome.answer == program.answer(2)
    assert outcome.instructions == threaded.run(program, 2).instructions


@pytest.mark.skipif(not HostCpu.available(), reason="the host is no x86-64 under Linux")
@programs
def test_the_host_answers(program: Program) -> None:
    for count in (*COUNTS, program.python_count):
        assert HostCpu().run(program, count).answer == program.answer(count)


@pytest.mark.skipif(not qemu.QemuTcg.available(), reason="QEMU is not installed")
@programs
def test_qemu_answers(program: Program) -> None:
    answer, _ = qemu.QemuTcg().process(program, 7)
    assert answer == program.answer(7)


def test_a_program_may_use_no_symbol_of_others() -> None:
    with pytest.raises(ValueError, match="not its own"):
        assemble("call somebody\nret")


def test_a_program_that_faults_names_the_place(threaded: PytcgEngine) -> None:
    broken = Program("broken", "", "nop\nud2", lambda count: 0, 1, 1)
    with pytest.raises(EngineError, match=r"stopped at 0x10001: .*#UD"):
        threaded.run(broken, 1)


def test_instructions_are_counted_exactly(threaded: PytcgEngine) -> None:
    assert threaded.run(LOOPS, 9).instructions == 3  # mov, ret, hlt


def test_the_engine_in_python_does_less_work(python: PytcgEngine, threaded: PytcgEngine) -> None:
    assert count_for(threaded, LOOPS, 1.0) == 50
    assert count_for(python, LOOPS, 1.0) == 5
    assert count_for(python, LOOPS, 0.01) == 1


def test_each_engine_gets_a_row_and_those_of_equal_work_share_the_count() -> None:
    rows = measure(LOOPS, [PytcgEngine("threaded"), HostCpu()], runs=2, scale=0.1)
    assert [(row.engine, row.count, row.instructions) for row in rows] == [
        ("pytcg threaded", 5, 3), ("host CPU", 5, 3),
    ]  # fmt: skip


def test_engines_that_disagree_end_the_measurement(threaded: PytcgEngine) -> None:
    class Liar(HostCpu):
        name = "liar"

        def run(self, program: Program, count: int) -> Outcome:
            return threaded.run(program, count + 1)

    with pytest.raises(EngineError, match="loops: liar answers 0x33, others 0x32"):
        measure(LOOPS, [threaded, Liar()], runs=1)
