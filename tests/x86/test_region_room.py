"""The memory of regions fills and is emptied, again and again, under processors that use it."""

from __future__ import annotations

import random
import threading

import pytest

from pytcg import Cpu
from pytcg.exec.room import CodeRoom
from pytcg_region.service import RegionCode, RegionService
from pytcg_threaded.engine import ThreadedEngine

CODE, DATA, SIZE = 0x1_0000, 0x8_0000, 0x1000
PROGRAMS = 8
SMALL = 12288
"""Bytes for regions: those of some programs."""


def cpu_in(code: RegionCode) -> Cpu:
    """A processor with every block compiled, into memory of its own."""
    made = Cpu(engine="jit")
    made._cpu.attach_regions(RegionService(made._cpu, code), at_once=True)
    made.map(CODE, PROGRAMS * SIZE)
    made.map(DATA, SIZE)
    for number in range(PROGRAMS):
        made.write(CODE + number * SIZE, program(made, number))
    return made


def program(cpu: Cpu, number: int) -> bytes:
    """Sums, 30 times, something of its own; goes by memory, so that pages are looked up."""
    return cpu.asm(f"mov qword ptr [rbx], 0; mov ecx, 30; 1: mov eax, {number * 77 + 5};"
                   f"imul eax, ecx; test ecx, {1 << number % 5}; jz 2f; add [rbx], rax;"
                   "2: dec ecx; jnz 1b; hlt")  # fmt: skip


def run(cpu: Cpu, number: int) -> None:
    cpu.regs["rbx"] = DATA
    assert cpu.run(CODE + number * SIZE).kind == "hlt"
    bit = 1 << number % 5
    assert cpu.read_int(DATA) == sum((number * 77 + 5) * n for n in range(31) if n & bit)


@pytest.fixture
def small() -> RegionCode:
    return RegionCode(ThreadedEngine.shared(), SMALL)


def test_full_memory_is_emptied_and_filled_again(small: RegionCode) -> None:
    rng = random.Random(3)
    cpu = cpu_in(small)
    for _ in range(40):
        run(cpu, rng.randrange(PROGRAMS))
    assert small.emptied > 2
    assert small.linker.used <= SMALL
    assert cpu._cpu.regions_run()[1] > 40 * 20
    assert len(small._known) <= PROGRAMS * 3


def test_processors_in_two_threads_leave_it_before_it_is_emptied(small: RegionCode) -> None:
    errors: list[BaseException] = []

    def work(cpu: Cpu, seed: int) -> None:
        rng = random.Random(seed)
        try:
            for _ in range(25):
                run(cpu, rng.randrange(PROGRAMS))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(cpu_in(small), seed)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert small.emptied > 2


def test_memory_is_kept_while_an_outer_run_is_in_it(small: RegionCode) -> None:
    outer, inner = cpu_in(small), cpu_in(small)
    seen = []

    def port(cpu: Cpu, port: int, size: int) -> int:
        before = small.emptied
        for number in range(PROGRAMS):
            run(inner, number)
        seen.append(small.emptied - before)
        return 7

    outer.hooks.port_in(port)
    outer.write(CODE, outer.asm("xor ebx, ebx; mov ecx, 5; 1: in al, 0x55; movzx eax, al;"
                                "add ebx, eax; dec ecx; jnz 1b; hlt"))  # fmt: skip
    assert outer.run(CODE).kind == "hlt"
    assert outer.regs["rbx"] == 35
    assert seen == [0] * 5
    for number in range(1, PROGRAMS):
        run(inner, number)
        run(outer, number)
    assert small.emptied > 0


def test_who_runs_nothing_is_not_waited_for(small: RegionCode) -> None:
    idle, busy = cpu_in(small), cpu_in(small)
    run(idle, 1)
    for number in (*range(PROGRAMS), *range(PROGRAMS)):
        run(busy, number)
    assert small.emptied > 0
    run(idle, 1)
    run(idle, 2)


def test_the_room_for_all_code_is_shared_out() -> None:
    room = CodeRoom.of(32 << 20)
    assert room == (10 << 20, 6 << 20, 16 << 20)
    assert sum(CodeRoom()) == 512 << 20
