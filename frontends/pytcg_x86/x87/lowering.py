"""What the x87's lowerings share: waiting, calling cores, ST(i), addresses for the environment."""

from __future__ import annotations

from typing import Any

from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_native.types import NativeFunction
from pytcg_x86.core.state import ENV, Seg
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.x87.softfloat80 import Fsw
from pytcg_x86.x87.stack import fp_wait

Native = NativeFunction[Any, Any]


def call(t: Translator, native: Native, *args: Value | int) -> Value:
    """Call a core with env; Python ints are u32 arguments. Void calls give a zero nobody uses."""
    values = [t.const(a, 32) if isinstance(a, int) else a for a in args]
    result = t.call(native, t.env, *values)
    return t.const(0, 32) if result is None else result


def run(t: Translator, native: Native, *args: Value | int) -> None:
    """Call a core for what it does to the state."""
    call(t, native, *args)


def begin(t: Translator) -> None:
    """What a waiting instruction does first: see `stack.fp_wait`."""
    t.rarely((t.ld_env("fp_status") & Fsw.ES).ne(0), fp_wait)


def note(t: Translator, *, operand: bool = False) -> None:
    """Record the instruction's address, opcode and, if it has one, its memory operand's address."""
    t.st_env("fp_last", t.imm.trunc(Type.I16))
    t.st_env("fp_ip", t.pc())
    t.st_env("fp_cs", t.ld_env("seg_sel", Seg.CS))
    if operand:
        t.st_env("fp_dp", t.offset())
        selectors = t.b.ptradd(t.env, ENV.offset("seg_sel"))
        t.st_env("fp_ds", t.b.ld(Type.I16, selectors, t.field("segment", Type.I64) << 1))


def index(t: Translator, op: Operand) -> Value:
    """i of an ST(i) operand (i32)."""
    assert op.where is not None
    origin = t.b.ptradd(t.env, ENV.offset("fp_register"))
    return (t.b.op("ptrdiff", op.where, origin) >> 4).trunc(Type.I32) & 7


def loaded(t: Translator, op: Operand) -> Value:
    """Wait, load a memory operand, and note both addresses."""
    begin(t)
    value = t.read(op)
    note(t, operand=True)
    return value
