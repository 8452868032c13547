"""The stages of a form as text, for `-d op,op_opt,llvm,out_asm`.

The form is built again for this: what runs may have come out of the object cache.
"""

from __future__ import annotations

from collections.abc import Collection

from pytcg.ir.text import print_function
from pytcg_llvm.emit import emit_module
from pytcg_llvm.host import show_guest_code
from pytcg_threaded.jobs import program
from pytcg_x86.core.form import build_form, describe


def dump_form(key: int, stages: Collection[str]) -> str:
    """IR, LLVM's text before and after its passes, and host assembly of a form, as asked for."""
    function, _ = build_form(program(), key)
    title = describe(key)
    parts = []
    if "op" in stages:
        parts.append(f"OP: {title}\n{print_function(function)}")
    text = emit_module([function])
    if "llvm" in stages:
        parts.append(f"LLVM: {title}\n{text}")
    if "op_opt" in stages or "out_asm" in stages:
        optimised, assembly = show_guest_code(text)
        if "op_opt" in stages:
            parts.append(f"LLVM after optimization: {title}\n{optimised}")
        if "out_asm" in stages:
            parts.append(f"OUT: {title}\n{assembly}")
    return "\n".join(parts)
