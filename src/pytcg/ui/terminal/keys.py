"""What a terminal's keys are on a PC's keyboard, by the names of `pytcg.ui.keys`.

curses tells characters and its own numbers for the other keys. Escape before a character is Alt, as
terminals send it.
"""

from __future__ import annotations

import curses
from typing import Final

from pytcg.ui.keys import KEYSYMS

Keys = tuple[str, ...]
ESCAPE: Final = 27
SHIFTED: Final = frozenset('~!@#$%^&*()_+{}|:"<>?ABCDEFGHIJKLMNOPQRSTUVWXYZ')

_CONTROLS: Final[dict[int, Keys]] = {
    8: ("backspace",), 9: ("tab",), 10: ("ret",), 13: ("ret",), ESCAPE: ("esc",),
    127: ("backspace",), 0: ("ctrl", "2"), 28: ("ctrl", "backslash"), 29: ("ctrl", "bracket_right"),
    30: ("ctrl", "6"), 31: ("ctrl", "minus"),
}  # fmt: skip
_SPECIAL: Final[dict[int, Keys]] = {
    curses.KEY_UP: ("up",), curses.KEY_DOWN: ("down",), curses.KEY_LEFT: ("left",),
    curses.KEY_RIGHT: ("right",), curses.KEY_HOME: ("home",), curses.KEY_END: ("end",),
    curses.KEY_PPAGE: ("pgup",), curses.KEY_NPAGE: ("pgdn",), curses.KEY_IC: ("insert",),
    curses.KEY_DC: ("delete",), curses.KEY_BACKSPACE: ("backspace",), curses.KEY_ENTER: ("ret",),
    curses.KEY_BTAB: ("shift", "tab"),
} | {curses.KEY_F0 + number: (f"f{number}",) for number in range(1, 13)} | {
    curses.KEY_F0 + 12 + number: ("shift", f"f{number}") for number in range(1, 13)
}  # fmt: skip
SEQUENCES: Final[dict[int, bytes]] = {
    curses.KEY_UP: b"\x1b[A", curses.KEY_DOWN: b"\x1b[B", curses.KEY_RIGHT: b"\x1b[C",
    curses.KEY_LEFT: b"\x1b[D", curses.KEY_HOME: b"\x1b[1~", curses.KEY_IC: b"\x1b[2~",
    curses.KEY_DC: b"\x1b[3~", curses.KEY_END: b"\x1b[4~", curses.KEY_PPAGE: b"\x1b[5~",
    curses.KEY_NPAGE: b"\x1b[6~", curses.KEY_BACKSPACE: b"\x7f", curses.KEY_ENTER: b"\r",
    10: b"\r",
}  # fmt: skip
"""What a text console sends for keys that are no characters, as VT100s do."""


def pc_keys(code: int) -> Keys | None:
    """The keys to hold for one of curses' codes, modifiers first; None for what no keyboard has."""
    if code in _SPECIAL:
        return _SPECIAL[code]
    if code in _CONTROLS:
        return _CONTROLS[code]
    if 1 <= code <= 26:
        return ("ctrl", chr(code + 96))
    if not 32 <= code < 127 or code not in KEYSYMS:
        return None
    return ("shift", KEYSYMS[code]) if chr(code) in SHIFTED else (KEYSYMS[code],)
