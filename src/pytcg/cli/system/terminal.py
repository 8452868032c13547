"""-display curses."""

from __future__ import annotations

import curses
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pytcg.chardev.vc import VcChardev
from pytcg.cli.system.option_values import OptionError
from pytcg.ui.terminal.display import CursesDisplay

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def show_on_terminal(machine: Machine, stack: ExitStack) -> None:
    """Take the terminal until the end; OptionError."""
    console = machine.console
    if console is None:
        raise OptionError("-display curses: there is no display card (-vga none)")
    if not os.isatty(0) or not os.isatty(1):
        raise OptionError("-display curses: We need a terminal output")
    texts = [each for each in machine.chardevs if isinstance(each, VcChardev)]
    texts.sort(key=lambda each: not each.label.startswith("compat_monitor"))
    display = CursesDisplay(machine.loop.asyncio, console, texts)
    stack.callback(display.close)
    try:
        display.start()
    except curses.error as error:
        raise OptionError(f"-display curses: {error}") from None
