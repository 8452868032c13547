"""The name a program goes by in its messages."""

from __future__ import annotations

import os
import sys


def program_name(own: str) -> str:
    """`own`, or the name of the link to it that was run: scripts expect `qemu-img:` of theirs."""
    run = sys.argv[0]
    name = os.path.basename(run)
    if name != own and os.path.basename(os.path.realpath(run)) == own:
        return name
    return own
