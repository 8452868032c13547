"""Random uses of one processor, right and wrong: `python tests/library/abuse.py SEED COUNT`.

Whatever comes, the process must live and only `pytcg.errors` come out. Prints "alive" at the end.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Any

from library.abuser import EDGES, PAGES, Abuser, main
from library.test_wrong_arguments import ACTS, THINGS
from pytcg import SKIP, Cpu
from pytcg.errors import PytcgError
from pytcg.tracing import Coverage, MemoryTrace


class CpuAbuser(Abuser):
    """Acts on a processor."""

    typed = (PytcgError,)
    eager = 0.02

    def __init__(self, seed: int):
        super().__init__(seed)
        mode = self.rng.choice(("long", "protected", "real"))
        self.cpu = Cpu(mode, self.rng.choice(("auto", "jit", "threaded")),
                       stop_exceptions=self.rng.random() < 0.7)  # fmt: skip
        self.kept: list[Any] = []
        self.snapshots: list[Any] = []
        self.contexts: list[Any] = []
        self.kept_views: list[Any] = []
        self.names = [name for name in self.cpu.regs if self.rng.random() < 0.5]

    def address(self) -> int:
        if self.rng.random() < 0.3:
            return self.rng.choice(EDGES)
        return self.rng.choice(PAGES) + self.rng.randrange(0, 4096, self.rng.choice((1, 4096)))

    def size(self) -> int:
        return self.rng.choice((0, 1, 4, 4095, 4096, 8192, 0x10000, -1, 1 << 40))

    def map(self) -> None:
        self.cpu.map(self.address() & -4096, abs(self.size()) & 0x1FFFF or 4096,
                     self.rng.choice(("rwx", "rx", "rw", "---", "q")))  # fmt: skip

    def map_wrongly(self) -> None:
        self.cpu.map(self.address(), self.size())

    def mmio(self) -> None:
        self.cpu.map_mmio(self.address() & -4096, 4096, lambda offset, size: self.inside() or 5,
                          lambda offset, size, value: self.inside())  # fmt: skip

    def buffer(self) -> None:
        """A buffer of ours as guest memory, stored to and dropped as it comes."""
        memory = mmap.mmap(-1, self.rng.choice((4096, 8192, 100)))
        self.cpu.map_buffer(self.address() & -4096, memory, self.rng.choice(("rwx", "r")))
        memory[:50] = self.rng.randbytes(50)

    def wrong_things(self) -> None:
        """What no parameter can be."""
        self.rng.choice([*ACTS.values()])(self.cpu, self.rng.choice(THINGS))

    def unmap(self) -> None:
        self.cpu.unmap(self.address() & -4096, self.rng.choice((4096, 8192)))

    def protect(self) -> None:
        self.cpu.protect(self.address() & -4096, 4096, self.rng.choice(("r", "rwx", "", "x")))

    def write(self) -> None:
        self.cpu.write(self.address(), self.rng.randbytes(self.rng.choice((1, 15, 300, 5000))))

    def read(self) -> None:
        self.cpu.read(self.address(), self.rng.choice((1, 8, 4096, -1)))

    def register(self) -> None:
        name = self.rng.choice(self.names)
        self.cpu.regs[name] = self.rng.choice((*EDGES, self.rng.getrandbits(64), 0x10000))

    def msr(self) -> None:
        self.cpu.regs.msr[self.rng.choice((0x10, 0x1B, 0xC0000080, 0xC0000100, 0x277, 5))] = (
            self.rng.getrandbits(self.rng.choice((8, 48, 64))))  # fmt: skip

    def run(self) -> None:
        until = self.address() if self.rng.random() < 0.3 else None
        self.cpu.run(self.address(), until, max_insns=self.rng.choice((0, 1, 5, 300, 5000)),
                     timeout=2)  # fmt: skip

    def hook(self) -> None:
        hooks, start = self.cpu.hooks, self.address()
        end = self.rng.choice((None, start + 1, start + 5000))
        kind = self.rng.randrange(6)
        if kind == 0:
            self.kept.append(hooks.code(lambda c, a, s: self.inside(), start, end))
        elif kind == 1:
            self.kept.append(hooks.memory(lambda c, k, a, s, v: self.inside(), start, end))
        elif kind == 2:
            self.kept.append(hooks.block(lambda c, a, s: self.inside(), start, end))
        elif kind == 3:
            self.kept.append(hooks.instruction(("in", "out", "cpuid", "add"),
                                               lambda c, a, s: SKIP))  # fmt: skip
        elif kind == 4:
            self.kept.append(hooks.fault(lambda c, stop: self.rng.random() < 0.3))
        else:
            self.kept.append(self.rng.choice((Coverage, MemoryTrace))(self.cpu))

    def unhook(self) -> None:
        if self.kept:
            self.kept.pop(self.rng.randrange(len(self.kept))).remove()

    def snapshot(self) -> None:
        self.snapshots = [*self.snapshots[-5:], self.cpu.snapshot()]

    def restore(self) -> None:
        if self.snapshots:
            self.cpu.restore(self.rng.choice(self.snapshots))

    def stop(self) -> None:
        self.cpu.stop()

    def context(self) -> None:
        """Registers put away, brought back, or another processor's."""
        if self.contexts and self.rng.random() < 0.5:
            self.cpu.restore_context(self.rng.choice(self.contexts))
        self.contexts = [*self.contexts[-3:], self.cpu.save_context()]

    def call(self) -> None:
        abi = self.rng.choice(("sysv64", "win64", "cdecl", "stdcall", "q"))
        self.cpu.call(self.address(), 1, b"x", max_insns=50, abi=abi)

    def look(self) -> None:
        """What only looks, or should."""
        cpu, at = self.cpu, self.address()
        self.rng.choice([
            lambda: cpu.block_at(at), lambda: cpu.translate(at), lambda: cpu.read_string(at),
            lambda: self.kept_views.append(cpu.view(at, 8)), lambda: cpu.regs.read(self.names),
            lambda: [cpu.regs.msr[n] for n in (0x10, 0x277, at)], lambda: repr((cpu, cpu.regs)),
            lambda: repr(cpu.step(2)), lambda: dir(cpu.regs), lambda: cpu.regions,
            cpu.forget_code, lambda: cpu.write_int(at, self.rng.getrandbits(64)),
        ])()  # fmt: skip
        self.kept_views = self.kept_views[-2:]

    def other_hooks(self) -> None:
        hooks = self.cpu.hooks
        self.kept.append(self.rng.choice([
            lambda: hooks.interrupt(lambda c, v: self.inside() or self.rng.random() < 0.5),
            lambda: hooks.port_in(lambda c, p, s: self.inside() or p),
            lambda: hooks.port_out(lambda c, p, s, v: self.inside()),
            lambda: hooks.address(self.address(), lambda c, a, s: self.inside()),
        ])())  # fmt: skip

    def acts(self) -> list[Callable[[], None]]:
        return [
            self.map, self.map, self.map_wrongly, self.mmio, self.unmap, self.protect, self.write,
            self.write, self.read, self.register, self.register, self.msr, self.run, self.run,
            self.run, self.hook, self.unhook, self.snapshot, self.restore, self.stop,
            self.buffer, self.wrong_things, self.context, self.call, self.look, self.look,
            self.other_hooks, self.elsewhere,
        ]  # fmt: skip


if __name__ == "__main__":
    main(CpuAbuser)
