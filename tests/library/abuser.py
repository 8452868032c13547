"""What both scripts of random uses share: acts from anywhere, in hooks and other threads too."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Callable

PAGES = [n << 12 for n in (0, 1, 2, 3, 0x10, 0x11, 0x12, 0xFFFFF, 0x100000)] + [(1 << 64) - 4096]
EDGES = (0, 1, 0xFF, 0xFFF, 0x1000, 0x10FFF, 0x7FFFFFFF, 1 << 31, (1 << 47) - 1, 1 << 47, 1 << 63,
          (1 << 64) - 1, 1 << 64, -1)  # fmt: skip


class Abuser:
    """Acts at random. Acts are `acts`; what they may raise is ``typed``."""

    typed: tuple[type[BaseException], ...]
    eager: float
    """How probable it is that a hook acts."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.depth = 0
        self.unexpected: list[BaseException] = []

    def acts(self) -> list[Callable[[], None]]:
        raise NotImplementedError

    def act(self) -> None:
        with contextlib.suppress(*self.typed):
            self.rng.choice(self.acts())()

    def elsewhere(self) -> None:
        """Something from another thread, perhaps during a run."""
        thread = threading.Thread(target=self.guarded)
        thread.start()
        thread.join(0.01)
        if thread.is_alive() and not self.depth:
            thread.join()

    def guarded(self) -> None:
        try:
            self.act()
        except BaseException as error:
            self.unexpected.append(error)

    def inside(self) -> None:
        """In a hook: now and then something else."""
        if self.rng.random() < self.eager and self.depth < 3:
            self.depth += 1
            try:
                self.act()
            finally:
                self.depth -= 1


def main(kind: Callable[[int], Abuser]) -> None:
    """Seeds from the command's first argument on, as many as its second says."""
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    for number in range(seed, seed + count):
        abuser = kind(number)
        print(number, flush=True)
        for _ in range(150):
            abuser.act()
            if abuser.unexpected:
                raise abuser.unexpected[0]
    print("alive")
