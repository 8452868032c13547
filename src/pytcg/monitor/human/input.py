"""Keys and pointers in the human monitor."""

from __future__ import annotations

from typing import Final

from pytcg.monitor.human.table import HumanCommand, Shell, number
from pytcg.monitor.input import console_of


def mice(shell: Shell, words: list[str]) -> str:
    """info mice."""
    del words
    return "".join(f"{'*' if row['current'] else ' '} Mouse #{row['index']}: {row['name']}"
                   f"{' (absolute)' if row['absolute'] else ''}\n"
                   for row in shell.qmp("query-mice"))  # fmt: skip


def move(shell: Shell, words: list[str]) -> str:
    """mouse_move: to the right, down, and of the wheel."""
    dx, dy, *wheel = map(number, words)
    console = console_of(shell.machine)
    console.point(dx, dy, console.buttons, *wheel)
    return ""


def button(shell: Shell, words: list[str]) -> str:
    """mouse_button: 1 left, 2 middle, 4 right."""
    mask = number(words[0])
    console_of(shell.machine).press(mask & 1 | (mask & 2) << 1 | (mask & 4) >> 1)
    return ""


COMMANDS: Final = (
    HumanCommand("mouse_move", "dx dy [dz]", "send mouse move events", move, 2, 3),
    HumanCommand("mouse_button", "state", "change mouse button state (1=L, 2=M, 4=R)", button,
                 1, 1),
)  # fmt: skip

SUBJECTS: Final = (
    HumanCommand("mice", "", "show which guest mouse is receiving events", mice),
)
