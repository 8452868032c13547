"""RDRAND and RDSEED: numbers from the host system's generator."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg_native import call_host, native, ptr, u64
from pytcg_x86.core.state import Env, Host
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED: dict[str, str] = {}

rows("""
np:0f.c7/6/r   RDRAND  Rv  ?rdrand
66:0f.c7/6/r   RDRAND  Rv  ?rdrand
np:0f.c7/7/r   RDSEED  Rv  ?rdseed
66:0f.c7/7/r   RDSEED  Rv  ?rdseed
""")


@native
def random_number(env: Env) -> u64:
    """64 bits of the host system's randomness."""
    number: u64 = call_host(ptr(env.host[Host.RANDOM]), "u64")
    return number


@lower("RDRAND", "RDSEED", dst="raw")
def rdrand(t: Translator, dst: Operand) -> None:
    """DEST := a random number; CF := 1, as there always is one (SDM vol. 2B)."""
    number = t.call(random_number, t.env)
    assert isinstance(number, Value)
    t.write(dst, number.resize(dst.type))
    clear = t.const(0, 1)
    t.flags.result(t.const(1, 64))  # ZF, SF and PF clear
    t.flags.put(cf=t.const(1, 1), of=clear, af=clear)
