"""Unicorn 2's Python interface for the x86 guest, on pytcg.

``from pytcg.unicorn import *`` and ``from pytcg.unicorn.x86_const import *`` run scripts written
for Unicorn. What differs is listed in docs/GAPS.md.
"""

from __future__ import annotations

from pytcg.unicorn import unicorn_const, x86_const
from pytcg.unicorn.context import UcContext
from pytcg.unicorn.engine import (
    Uc,
    debug,
    uc_arch_supported,
    uc_version,
    ucsubclass,
    version_bind,
)
from pytcg.unicorn.error import UcError
from pytcg.unicorn.unicorn_const import *  # noqa: F403

__version__ = "2.1.4"
__all__ = [
    "Uc", "UcContext", "UcError", "debug", "uc_arch_supported", "uc_version", "ucsubclass",
    "version_bind", "unicorn_const", "x86_const",
    *(name for name in vars(unicorn_const) if name.startswith("UC_")),
]  # fmt: skip
