"""`info tlb` and `info mem`: what the page tables map, as QEMU prints it."""

from __future__ import annotations

from typing import Final

from pytcg.machine.virtual import USER, WRITABLE, Mapping, Walker
from pytcg.monitor.human.table import Shell

_LETTERS: Final = ((63, "X"), (8, "G"), (7, "P"), (6, "D"), (5, "A"), (4, "C"), (3, "T"), (2, "U"),
                   (1, "W"))  # fmt: skip
_OFF: Final = "PG disabled\n"


def _walker(shell: Shell) -> Walker:
    return Walker(shell.machine.board.memory, shell.machine.board.vcpu.regs)


def tlb(shell: Shell, words: list[str]) -> str:
    """info tlb: a line for each page."""
    del words
    with shell.machine.runner.at_rest():
        walker = _walker(shell)
        return "".join(map(_line, walker.pages())) if walker.paging else _OFF


def _line(page: Mapping) -> str:
    letters = "".join(letter if page.entry >> bit & 1 else "-" for bit, letter in _LETTERS)
    if page.size == 4096:
        letters = letters[:2] + "-" + letters[3:]
    return f"{page.address:016x}: {page.physical:016x} {letters}\n"


def ranges(shell: Shell, words: list[str]) -> str:
    """info mem: neighbours with the same rights together."""
    del words
    with shell.machine.runner.at_rest():
        walker = _walker(shell)
        if not walker.paging:
            return _OFF
        return "".join(_range(*each) for each in _joined(walker))


def _joined(walker: Walker) -> list[tuple[int, int, int]]:
    """(start, end, rights) of each."""
    found: list[tuple[int, int, int]] = []
    for page in walker.pages():
        start = page.address
        if found and found[-1][1] == page.address and found[-1][2] == page.rights:
            start = found.pop()[0]
        found.append((start, page.address + page.size, page.rights))
    return found


def _range(start: int, end: int, rights: int) -> str:
    letters = ("u" if rights & USER else "-") + "r" + ("w" if rights & WRITABLE else "-")
    return f"{start:016x}-{end & (1 << 64) - 1:016x} {end - start:016x} {letters}\n"
