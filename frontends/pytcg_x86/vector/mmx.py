"""EMMS. MMX's other instructions share their lowerings with SSE's (`sse_int`, `sse_move`)."""

from __future__ import annotations

from pytcg_native import native
from pytcg_x86.core.state import Env
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.x87.stack import fp_wait

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.77    EMMS      mmx ?mmx
""")


@native
def mmx_empty(env: Env) -> None:
    """Mark every x87 register empty."""
    fp_wait(env)
    env.fp_top = 0
    for i in range(8):
        env.fp_tag[i] = 1


@lower("EMMS", dst="raw")
def emms(t: Translator) -> None:
    """EMMS: the x87 tag word := FFFFH, TOP := 0 (SDM vol. 1, table 9-3)."""
    t.call(mmx_empty, t.env)
