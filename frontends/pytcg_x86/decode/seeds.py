"""Form keys as text that survives changes of the table: the row's encoding, then the rest in hex.

`seeds.txt` lists the forms that booting Linux meets; a first run compiles them before it starts.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.decode.table import Row


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
    """Text of ``keys``, sorted."""
    rows = opcodes().rows
    return "".join(sorted(f"{row_text(rows[key & 0xFFF])} {key >> 12:x}\n" for key in keys))


def parse_seeds(text: str) -> list[int]:
    """Keys of a seed list; lines whose row is gone are passed over."""
    numbers = {row_text(row): number for number, row in enumerate(opcodes().rows)}
    lines = (line.split() for line in text.splitlines() if line and line[0] != "#")
    return [int(rest, 16) << 12 | numbers[name] for name, rest in lines if name in numbers]
