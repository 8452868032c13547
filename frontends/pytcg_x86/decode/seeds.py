"""Form keys as text that survives changes of the table: the row's encoding, then the rest in hex.

`seeds.txt` lists the forms that booting Linux meets; a first run compiles them before it starts.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytcg_x86.decode.formkey import KEY_SECOND
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.table import Row

_ONE = (1 << KEY_SECOND) - 1
"""The part of a key that is about one instruction."""


def row_text(row: Row) -> str:
    """A row's encoding, unique in the table."""
    vex = "v" if row.vex else ""
    parts = [f"{vex}{row.prefix}:" if row.prefix else "", ".".join(f"{b:02x}" for b in row.opcode),
             "+" if row.plus else "", "" if row.reg is None else f"/{row.reg}",
             f"/{row.mod}" if row.mod else "", "" if row.rm is None else str(row.rm),
             "" if row.length is None else f"/l{row.length}",
             "" if row.wide is None else f"/w{row.wide}"]  # fmt: skip
    return "".join(parts) + "," + row.mnemonic


def format_seeds(keys: Iterable[int]) -> str:
    """Text of ``keys``, sorted. Of a superinstruction both rows are told by their encodings."""
    rows = opcodes().rows

    def line(key: int) -> str:
        words = [row_text(rows[key & 0xFFF]), f"{(key & _ONE) >> 12:x}"]
        if key >> KEY_SECOND:
            words.append(row_text(rows[key >> KEY_SECOND]))
        return " ".join(words) + "\n"

    return "".join(sorted(map(line, keys)))


def parse_seeds(text: str) -> list[int]:
    """Keys of a seed list; lines with a row that is gone are passed over."""
    numbers = {row_text(row): number for number, row in enumerate(opcodes().rows)}
    keys = []
    for line in text.splitlines():
        if line and line[0] != "#":
            name, rest, *second = line.split()
            if name in numbers and all(other in numbers for other in second):
                key = int(rest, 16) << 12 | numbers[name]
                keys.append(key | sum(numbers[other] << KEY_SECOND for other in second))
    return keys
