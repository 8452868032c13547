"""A keyboard in each of its three sets of scan codes."""

from __future__ import annotations

import pytest

from pytcg.hw.input.ps2_keyboard import ACK, Command, Ps2Keyboard
from pytcg.ui.keys import SCAN_CODES, key_bytes

SENT = (  # name, down and up in set 1, down in set 3
    ("a", "1e", "9e", "1c"), ("esc", "01", "81", "08"), ("f7", "41", "c1", "37"),
    ("up", "e048", "e0c8", "63"), ("ctrl_r", "e01d", "e09d", "58"),
    ("delete", "e053", "e0d3", "64"),
    ("print", "e02ae037", "e0b7e0aa", "57"), ("pause", "e11d45e19dc5", "", "62"),
    ("kp_subtract", "4a", "ca", "84"), ("menu", "e05d", "e0dd", "8d"),
    ("caps_lock", "3a", "ba", "14"),
)  # fmt: skip


def keyboard(number: int) -> Ps2Keyboard:
    made = Ps2Keyboard()
    for byte in (Command.SCAN_CODE_SET, number):
        made.write(byte)
        assert made.take() == ACK
    return made


def typed(made: Ps2Keyboard, name: str, *, down: bool) -> bytes:
    made.key(key_bytes(name, down=down))
    sent = bytes(made.queue)
    made.queue.clear()
    return sent


@pytest.mark.parametrize(("name", "down", "up", "third"), SENT)
def test_a_key_in_each_set(name: str, down: str, up: str, third: str) -> None:
    first = keyboard(1)
    assert typed(first, name, down=True).hex() == down
    assert typed(first, name, down=False).hex() == up
    assert typed(keyboard(2), name, down=True) == key_bytes(name, down=True)
    last = keyboard(3)
    assert typed(last, name, down=True).hex() == third
    last.write(Command.ALL_MAKE_BREAK)
    last.queue.clear()
    released = "" if name == "pause" else "f0" + third
    assert typed(last, name, down=False).hex() == released


def test_no_two_keys_are_one_in_set_3() -> None:
    third = keyboard(3)
    sent = [typed(third, name, down=True) for name in (*SCAN_CODES, "print", "pause")]
    assert len(set(sent)) == len(sent) and all(len(codes) == 1 for codes in sent)


def test_which_keys_tell_that_they_go_up_is_softwares_choice() -> None:
    third = keyboard(3)
    assert typed(third, "a", down=False) == b"" and typed(third, "shift", down=False) == b"\xf0\x12"
    for byte in (Command.KEY_MAKE_BREAK, 0x1C):
        third.write(byte)
    third.queue.clear()
    assert typed(third, "a", down=False) == b"\xf0\x1c" and typed(third, "b", down=False) == b""
    third.write(Command.ALL_MAKE)
    third.queue.clear()
    assert typed(third, "a", down=False) == typed(third, "shift", down=False) == b""
    third.write(Command.DEFAULTS)
    assert third.scan_code_set == 2
