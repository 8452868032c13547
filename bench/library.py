"""The library against Unicorn: `python -m bench.library`. The same guest code, in the same run.

Each row is done several times in turn, by both; the best of each counts.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import unicorn
from unicorn import x86_const

from pytcg import Cpu
from pytcg_native import load64, native, ptr, store64, u32, u64
from pytcg_x86.core.state import Env

CODE, DATA, PAGE = 0x10000, 0x50000, 0x1000
ROUNDS = 5
LOOP = bytes.fromhex("8b03 01c2 894304 ffc9 75f5 90 f4")  # mov add mov dec jnz; nop; hlt
FIVE = bytes.fromhex("ffc0 ffc0 ffc0 ffc0 ffc0 90")


def new_unicorn() -> Any:
    """An engine of Unicorn's, which has no types."""
    make: Any = vars(unicorn)["Uc"]
    return make(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)


def ours(code: bytes) -> Cpu:
    """A processor with code and data."""
    cpu = Cpu()
    cpu.map(CODE, PAGE, data=code)
    cpu.map(DATA, PAGE)
    cpu.regs.rbx = DATA
    return cpu


def theirs(code: bytes) -> Any:
    """The same, Unicorn's."""
    mu = new_unicorn()
    mu.mem_map(CODE, PAGE)
    mu.mem_map(DATA, PAGE)
    mu.mem_write(CODE, code)
    mu.reg_write(x86_const.UC_X86_REG_RBX, DATA)
    return mu


def best(*acts: Callable[[], None]) -> list[float]:
    """The shortest time of each of several acts, taken in turn; seconds."""
    times: list[list[float]] = [[] for _ in acts]
    for _ in range(ROUNDS):
        for number, act in enumerate(acts):
            began = time.perf_counter()
            act()
            times[number].append(time.perf_counter() - began)
    return [min(each) for each in times]


def row(name: str, times: list[float], count: int, goal: str) -> None:
    """One line: time of one of ``count``, ours and perhaps Unicorn's, and the ratio."""
    mine, other = times[0], times[1] if len(times) > 1 else None
    text = f"{name:<34} {mine / count * 1e6:10.3f} us"
    if other is not None:
        text += f"  Unicorn {other / count * 1e6:10.3f} us  ratio {other / mine:6.1f}"
    print(f"{text}  (goal {goal})")


@native
def tick(env: Env, data: ptr, address: u64, size: u32) -> None:
    store64(data, 0, load64(data) + 1)


def loops(name: str, count: int, goal: str, hook_ours: Callable[[Cpu], Any],
          hook_theirs: Callable[[Any], Any]) -> None:  # fmt: skip
    """A loop of five instructions with some hook on both."""
    cpu, mu = ours(LOOP), theirs(LOOP)
    hook_ours(cpu)
    hook_theirs(mu)

    def mine() -> None:
        cpu.regs.rcx = count
        cpu.run(CODE, CODE + 12)

    def other() -> None:
        mu.reg_write(x86_const.UC_X86_REG_RCX, count)
        mu.emu_start(CODE, CODE + 12)

    mine()
    time.sleep(0.5)  # regions are compiled beside
    row(name, best(mine, other), 5 * count, goal)


def running() -> None:
    """Loops with hooks of every kind."""
    nothing = lambda *_: None  # noqa: E731
    loops("plain loop, an instruction", 2_000_000, "2", nothing, nothing)
    loops("Python hook, an instruction", 20_000, "2",
          lambda c: c.hooks.code(lambda c, a, s: None),
          lambda m: m.hook_add(unicorn.UC_HOOK_CODE, lambda uc, a, s, d: None))  # fmt: skip
    loops("Python hook on 2 accesses of 5", 20_000, "2",
          lambda c: c.hooks.memory(lambda c, k, a, s, v: None),
          lambda m: m.hook_add(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE,
                               lambda uc, t, a, s, v, d: None))  # fmt: skip
    loops("hook on one address, elsewhere", 2_000_000, "as plain",
          lambda c: c.hooks.address(CODE + 11, lambda c, a, s: None),
          lambda m: m.hook_add(unicorn.UC_HOOK_CODE, lambda uc, a, s, d: None, None,
                               CODE + 11, CODE + 11))  # fmt: skip
    loops("native hook against Python's", 20_000, "20",
          lambda c: c.hooks.code(tick, data=c._cpu.buffers["ranges"].address + 4000),
          lambda m: m.hook_add(unicorn.UC_HOOK_CODE, lambda uc, a, s, d: None))  # fmt: skip


def small() -> None:
    """What is done often: making processors, short runs."""
    def make_ours() -> None:
        for _ in range(100):
            Cpu()

    def make_theirs() -> None:
        for _ in range(100):
            new_unicorn()

    row("Cpu()", best(make_ours, make_theirs), 100, "1000 us")
    cpu, mu = ours(FIVE), theirs(FIVE)

    def run_ours() -> None:
        for _ in range(1000):
            cpu.run(CODE, CODE + 10)

    def run_theirs() -> None:
        for _ in range(1000):
            mu.emu_start(CODE, CODE + 10)

    run_ours()
    time.sleep(0.5)  # regions are compiled beside
    row("a run of five instructions", best(run_ours, run_theirs), 1000, "5 us")


def going_back() -> None:
    """A run that dirties three pages, and back."""
    cpu = ours(bytes.fromhex("ff03 ff83f0000000 90"))
    cpu.map(DATA + PAGE, 8 * PAGE)
    cpu.regs.rsp = DATA + 2 * PAGE
    cpu.write(CODE, bytes.fromhex("ff03 ff8300400000 50 90"))
    snapshot = cpu.snapshot()

    def mine() -> None:
        for _ in range(1000):
            cpu.run(CODE, CODE + 9)
            cpu.restore(snapshot)

    row("run, dirty 3 pages, restore", best(mine), 1000, "100 us")


def starting() -> None:
    """Import, and until a processor is there, in processes of their own."""
    for name, code, goal in (("import pytcg", "import pytcg", "50 ms"),
                             ("import of Cpu", "import pytcg; pytcg.Cpu", "50 ms"),
                             ("Cpu ready", "import pytcg; pytcg.Cpu()", "400 ms")):  # fmt: skip
        base, mine = best(partial(run_python, "pass"), partial(run_python, code))
        print(f"{name:<34} {(mine - base) * 1e3:8.1f} ms  (goal {goal})")


def run_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    running()
    small()
    going_back()
    starting()
