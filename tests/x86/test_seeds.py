"""The seed list: what a first run compiles before it starts."""

from __future__ import annotations

import importlib.resources

from pytcg_x86.decode.formkey import KEY_SECOND
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.seeds import format_seeds, parse_seeds


def _list() -> list[int]:
    text = importlib.resources.files("pytcg_x86.decode").joinpath("seeds.txt").read_text()
    return parse_seeds(text)


def test_seeds_come_back_from_their_text() -> None:
    keys = set(_list())
    assert len(keys) > 1000
    assert set(parse_seeds(format_seeds(keys))) == keys


def test_superinstructions_end_in_a_conditional_jump() -> None:
    rows = opcodes().rows
    seconds = {rows[key >> KEY_SECOND].mnemonic for key in _list() if key >> KEY_SECOND}
    assert seconds and all(name.startswith("J") for name in seconds), seconds
