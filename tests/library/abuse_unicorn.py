"""Random uses of `pytcg.unicorn.Uc`: `python tests/library/abuse_unicorn.py SEED COUNT`.

The process must live, and only UcError come out, or what Python raises for arguments of a wrong
kind. Prints "alive" at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from library.abuser import EDGES, PAGES, Abuser, main
from pytcg.unicorn import Uc, UcError
from pytcg.unicorn import unicorn_const as uc
from pytcg.unicorn import x86_const as x86

_REGISTERS = [value for name, value in vars(x86).items() if name.startswith("UC_X86_REG_")]
_HOOKS = [value for name, value in vars(uc).items() if name.startswith("UC_HOOK_")]
_INSTRUCTIONS = [value for name, value in vars(x86).items() if name.startswith("UC_X86_INS_")]
_THINGS = (None, "x", 1.5, b"x", [], (), {})
_CODES = [bytes.fromhex(code) for code in (
    "ebfe", "0f05", "cd80", "0f34", "e460", "e660", "0fa2", "f4", "ffc0ebfc", "c3", "50ebfd",
    "0f0b", "8b03890348ffc3ebf7", "f3a4ebfc", "0f30", "0f22d8", "cf", "9d", "e800000000ebf9",
    "d9c0dec1ebfa")]  # fmt: skip


class UcAbuser(Abuser):
    """Acts on an engine."""

    typed = (UcError, TypeError, ValueError, AssertionError)
    eager = 0.05

    def __init__(self, seed: int):
        super().__init__(seed)
        self.uc = Uc(uc.UC_ARCH_X86, self.rng.choice((uc.UC_MODE_16, uc.UC_MODE_32, uc.UC_MODE_64)))
        self.handles: list[int] = []
        self.contexts: list[Any] = [self.uc.context_save()]
        with contextlib.suppress(UcError):
            self.uc.mem_map(0x10000, 0x3000)

    def number(self) -> Any:
        """An address, an edge, or now and then no number at all."""
        kind = self.rng.random()
        if kind < 0.02:
            return self.rng.choice(_THINGS)
        if kind < 0.3:
            return self.rng.choice(EDGES)
        return self.rng.choice(PAGES) + self.rng.randrange(0, 4096, self.rng.choice((1, 4096)))

    def size(self) -> Any:
        return self.rng.choice((0, 1, 4, 4095, 4096, 8192, 0x10000, -1, 1 << 40, 1 << 64, None))

    def page(self) -> tuple[int, int]:
        return self.rng.choice(PAGES), self.rng.choice((4096, 8192, 0x10000))

    def map(self) -> None:
        self.uc.mem_map(*self.page(), self.rng.choice((7, 5, 3, 0, 1, 8)))

    def map_wrongly(self) -> None:
        self.uc.mem_map(self.number(), self.size())

    def mmio(self) -> None:
        self.uc.mmio_map(*self.page(), lambda *_: self.inside() or 5, None,
                         lambda *_: self.inside(), None)  # fmt: skip

    def unmap(self) -> None:
        self.uc.mem_unmap(*self.page())

    def protect(self) -> None:
        self.uc.mem_protect(*self.page(), self.rng.choice((7, 5, 3, 0, 4)))

    def read(self) -> None:
        self.uc.mem_read(self.number(), self.rng.choice((0, 1, 8, 4096, -1, None)))

    def write(self) -> None:
        data = self.rng.randbytes(self.rng.choice((0, 1, 15, 300, 5000)))
        self.uc.mem_write(self.number(), self.rng.choice((data, self.rng.choice(_CODES), "x")))

    def code(self) -> None:
        self.uc.mem_write(0x10000, self.rng.choice(_CODES))

    def register(self) -> Any:
        return self.rng.choice((*_REGISTERS, -1, 9999))

    def reg_read(self) -> None:
        self.uc.reg_read(self.register())

    def reg_write(self) -> None:
        value = self.rng.choice((self.number(), (1, 2, 3, 4), (0x10, 5)))
        self.uc.reg_write(self.register(), value)

    def batches(self) -> None:
        self.uc.reg_read_batch([self.register() for _ in range(3)])
        self.uc.reg_write_batch([(self.register(), self.number()) for _ in range(3)])

    def msr(self) -> None:
        number = self.rng.choice((0x10, 0x1B, 0xC0000080, 0xC0000100, 0x277, 5, -1, 1 << 32))
        self.uc.msr_write(number, self.rng.getrandbits(self.rng.choice((8, 48, 64))))
        self.uc.msr_read(number)

    def run(self) -> None:
        begin = 0x10000 if self.rng.random() < 0.6 else self.number()
        self.uc.emu_start(begin, self.number(), self.rng.choice((100_000, 1)),
                          self.rng.choice((0, 1, 5, 300, -1)))  # fmt: skip

    def hook(self) -> None:
        def call(*_: Any) -> bool:
            self.inside()
            return self.rng.random() < 0.3

        kind = self.rng.choice(_HOOKS)
        if self.rng.random() < 0.1:
            kind |= self.rng.choice(_HOOKS)
        self.handles.append(self.uc.hook_add(kind, call, None, self.number(), self.number(),
                                             self.rng.choice((*_INSTRUCTIONS, 0, 1, 9999)),
                                             self.rng.choice((0, 1, 2, 7))))  # fmt: skip

    def unhook(self) -> None:
        self.uc.hook_del(self.rng.choice((*self.handles, 77, -1, None)))

    def context(self) -> None:
        context = self.rng.choice(self.contexts)
        context.reg_write(self.register(), self.number())
        context.reg_read(self.register())
        self.uc.context_restore(context)
        self.uc.context_update(context)
        self.contexts = [*self.contexts[-4:], self.uc.context_save()]

    def control(self) -> None:
        """Whatever else is public, with numbers or without."""
        name = self.rng.choice([n for n in dir(self.uc) if n.startswith(("ctl_", "query"))])
        wanted = self.rng.randrange(4)
        getattr(self.uc, name)(*(self.rng.choice((self.number(), [self.number()], True, 0, 1))
                                 for _ in range(wanted)))  # fmt: skip

    def stop(self) -> None:
        self.uc.emu_stop()

    def acts(self) -> list[Callable[[], None]]:
        return [
            self.map, self.map, self.map_wrongly, self.mmio, self.unmap, self.protect, self.read,
            self.write, self.code, self.code, self.reg_read, self.reg_write, self.batches, self.msr,
            self.run, self.run, self.run, self.hook, self.hook, self.unhook, self.context,
            self.control, self.stop, self.elsewhere,
        ]  # fmt: skip


if __name__ == "__main__":
    main(UcAbuser)
