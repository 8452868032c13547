"""Keys of a PC keyboard: QEMU's names, their scan codes of set 2, the X keysyms that mean them.

A keysym names a character; the key is the one that makes it on a US keyboard, whose Shift the
viewer sends by itself. Scan codes: IBM PS/2 Hardware Interface Technical Reference; keysyms: X11's
keysymdef.
"""

from __future__ import annotations

from typing import Final

from pytcg.hw.input.scan_codes import BREAK, EXTENDED, SET2_TO_SET1

# name, scan code (E0xxh: extended), keysyms
_ROWS: Final = """
esc 76 ff1b | f1 05 ffbe | f2 06 ffbf | f3 04 ffc0 | f4 0c ffc1 | f5 03 ffc2 | f6 0b ffc3
f7 83 ffc4 | f8 0a ffc5 | f9 01 ffc6 | f10 09 ffc7 | f11 78 ffc8 | f12 07 ffc9
grave_accent 0e 60 7e | 1 16 31 21 | 2 1e 32 40 | 3 26 33 23 | 4 25 34 24 | 5 2e 35 25
6 36 36 5e | 7 3d 37 26 | 8 3e 38 2a | 9 46 39 28 | 0 45 30 29 | minus 4e 2d 5f | equal 55 3d 2b
backspace 66 ff08 | tab 0d ff09 fe20 | q 15 71 51 | w 1d 77 57 | e 24 65 45 | r 2d 72 52
t 2c 74 54 | y 35 79 59 | u 3c 75 55 | i 43 69 49 | o 44 6f 4f | p 4d 70 50
bracket_left 54 5b 7b | bracket_right 5b 5d 7d | backslash 5d 5c 7c | caps_lock 58 ffe5
a 1c 61 41 | s 1b 73 53 | d 23 64 44 | f 2b 66 46 | g 34 67 47 | h 33 68 48 | j 3b 6a 4a
k 42 6b 4b | l 4b 6c 4c | semicolon 4c 3b 3a | apostrophe 52 27 22 | ret 5a ff0d
shift 12 ffe1 | z 1a 7a 5a | x 22 78 58 | c 21 63 43 | v 2a 76 56 | b 32 62 42 | n 31 6e 4e
m 3a 6d 4d | comma 41 2c 3c | dot 49 2e 3e | slash 4a 2f 3f | shift_r 59 ffe2 | less 61
ctrl 14 ffe3 | alt 11 ffe9 ffe7 | spc 29 20 | alt_r e011 ffea ffe8 fe03 | ctrl_r e014 ffe4
meta_l e01f ffeb | meta_r e027 ffec | menu e02f ff67
insert e070 ff63 | home e06c ff50 | pgup e07d ff55 | delete e071 ffff | end e069 ff57
pgdn e07a ff56 | up e075 ff52 | left e06b ff51 | down e072 ff54 | right e074 ff53
num_lock 77 ff7f | scroll_lock 7e ff14 | kp_divide e04a ffaf | kp_multiply 7c ffaa
kp_subtract 7b ffad | kp_add 79 ffab | kp_enter e05a ff8d | kp_decimal 71 ffae ff9f
kp_0 70 ffb0 ff9e | kp_1 69 ffb1 ff9c | kp_2 72 ffb2 ff99 | kp_3 7a ffb3 ff9b
kp_4 6b ffb4 ff96 | kp_5 73 ffb5 ff9d | kp_6 74 ffb6 ff98 | kp_7 6c ffb7 ff95
kp_8 75 ffb8 ff97 | kp_9 7d ffb9 ff9a
"""


def _table() -> tuple[dict[str, int], dict[int, str]]:
    codes, names = {}, {}
    for row in _ROWS.replace("\n", "|").split("|"):
        if row.strip():
            name, code, *keysyms = row.split()
            codes[name] = int(code, 16)
            names.update({int(keysym, 16): name for keysym in keysyms})
    return codes, names


SCAN_CODES, KEYSYMS = _table()
"""Scan code by key name; key name by keysym."""
_SPECIAL: Final = {
    "print": (b"\xe0\x12\xe0\x7c", b"\xe0\xf0\x7c\xe0\xf0\x12"),
    "pause": (b"\xe1\x14\x77\xe1\xf0\x14\xf0\x77", b""),
}
KEYSYMS.update({0xFF61: "print", 0xFF13: "pause"})


def _numbers() -> dict[int, str]:
    """QEMU's key numbers: codes of set 1, those of extended keys with bit 7."""
    made = {0x54: "print", 0xB7: "print", 0xC6: "pause"}
    for name, code in SCAN_CODES.items():
        extended = 0x80 if code >> 8 == EXTENDED else 0
        made[SET2_TO_SET1[code & 0xFF] | extended] = name
    return made


NUMBERS: Final = _numbers()
"""Key name by number."""


_EVDEV_EXTENDED: Final = {
    "kp_enter": 96, "ctrl_r": 97, "kp_divide": 98, "print": 99, "alt_r": 100, "home": 102,
    "up": 103, "pgup": 104, "left": 105, "right": 106, "end": 107, "down": 108, "pgdn": 109,
    "insert": 110, "delete": 111, "pause": 119, "meta_l": 125, "meta_r": 126, "menu": 127,
}  # fmt: skip
EVDEV: Final = {name: number for number, name in NUMBERS.items()
                if number < 0x59 and number != 0x54} | _EVDEV_EXTENDED  # fmt: skip
"""Linux's code by key name: set 1's code for the keys that old keyboards had."""


def is_key(name: str) -> bool:
    """Whether there is a key of that name."""
    return name in SCAN_CODES or name in _SPECIAL


def names() -> list[str]:
    """All that `is_key` knows."""
    return [*SCAN_CODES, *_SPECIAL]


def key_bytes(name: str, *, down: bool) -> bytes:
    """What a keyboard sends in set 2 when a key goes down or up; KeyError for no such key."""
    if name in _SPECIAL:
        return _SPECIAL[name][not down]
    code = SCAN_CODES[name]
    prefix = b"\xe0" if code >> 8 == EXTENDED else b""
    return prefix + (b"" if down else bytes((BREAK,))) + bytes((code & 0xFF,))
