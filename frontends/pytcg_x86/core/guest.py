"""What the x86 guest gives the execution engine: its native roots."""

from __future__ import annotations

import sys
from typing import Any

from pytcg.exec import debug, dispatch, hooks, invalidate, regions, snapshot, stitch, trap
from pytcg.softmmu import access
from pytcg_native.types import NativeFunction
from pytcg_x86.core import block
from pytcg_x86.decode.opcodes import opcodes
from pytcg_x86.region import flags as region_flags
from pytcg_x86.system import poll
from pytcg_x86.vector import soft, soft_strings


def native_roots() -> list[NativeFunction[Any, Any]]:
    """Every native function of the engine and of the guest's modules.

    Lowerings call natives by name, from code compiled much later: so all of them are roots, and the
    same ones in every process, whatever else it has imported: objects of several are linked.
    """
    opcodes()  # imports all families
    modules = [debug, dispatch, hooks, invalidate, regions, snapshot, stitch, trap, access, block,
               poll, region_flags, soft, soft_strings]  # fmt: skip
    modules += [m for name, m in sorted(sys.modules.items()) if name.startswith("pytcg_x86.")]
    found: dict[int, NativeFunction[Any, Any]] = {}
    for module in modules:
        for item in vars(module).values():
            if isinstance(item, NativeFunction):
                found[id(item)] = item
    return list(found.values())
