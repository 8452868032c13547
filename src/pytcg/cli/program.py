"""What programs have in common: the name in their messages, the way to the background."""

from __future__ import annotations

import os
import sys


def leave_terminal() -> None:
    """As daemon(3) does it: the root folder, and nothing on the standard descriptors."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)


def program_name(own: str) -> str:
    """`own`, or the name of the link to it that was run: scripts expect `qemu-img:` of theirs."""
    run = sys.argv[0]
    name = os.path.basename(run)
    if name != own and os.path.basename(os.path.realpath(run)) == own:
        return name
    return own
