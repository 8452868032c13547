"""Character devices by their QEMU spelling: stdio, mon:stdio, file:PATH, pty, null, none."""

from __future__ import annotations

from pytcg.chardev.base import Chardev, ChardevError, NullChardev
from pytcg.chardev.file import FileChardev
from pytcg.chardev.mux import MuxChardev
from pytcg.chardev.pty import PtyChardev
from pytcg.chardev.stdio import StdioChardev


def open_chardev(spec: str, label: str) -> Chardev:
    """Open what the specification names; ChardevError names the specification if it can't be."""
    kind, _, rest = spec.partition(":")
    match kind:
        case "stdio" if not rest:
            return StdioChardev(label)
        case "mon" if rest == "stdio":
            return MuxChardev(StdioChardev(label, signals=False))
        case "mon" if rest:
            return MuxChardev(open_chardev(rest, label))
        case "file" if rest:
            return FileChardev(label, rest)
        case "pty" if not rest:
            return PtyChardev(label)
        case "null" | "none" if not rest:
            return NullChardev(label)
    raise ChardevError(f"could not connect {label} to character backend '{spec}'")
