"""Bitwise logic: AND OR XOR TEST NOT (rows of the first three stand with the arithmetic group)."""

from __future__ import annotations

from pytcg.ir.blocks import Value
from pytcg_x86.core.translate import Translator
from pytcg_x86.decode.table import lower, rows

UNDEFINED = {"AND": "A", "OR": "A", "XOR": "A", "TEST": "A"}

rows("""
84          TEST  Eb,Gb
85          TEST  Ev,Gv
a8          TEST  AL,Ib
a9          TEST  rAX,Iz
f6/0        TEST  Eb,Ib
f6/1        TEST  Eb,Ib
f7/0        TEST  Ev,Iz
f7/1        TEST  Ev,Iz
f6/2        NOT   Eb      lock
f7/2        NOT   Ev      lock
""")


@lower("AND")
def and_(t: Translator, dst: Value, src: Value) -> Value:
    """AND: DEST := DEST AND SRC (SDM vol. 2A)."""
    result = dst & src
    t.flags.logic(result)
    return result


@lower("OR")
def or_(t: Translator, dst: Value, src: Value) -> Value:
    """OR: DEST := DEST OR SRC (SDM vol. 2B)."""
    result = dst | src
    t.flags.logic(result)
    return result


@lower("XOR")
def xor(t: Translator, dst: Value, src: Value) -> Value:
    """XOR: DEST := DEST XOR SRC (SDM vol. 2D)."""
    result = dst ^ src
    t.flags.logic(result)
    return result


@lower("TEST", dst="r")
def test(t: Translator, dst: Value, src: Value) -> None:
    """TEST: the flags of SRC1 AND SRC2 (SDM vol. 2B)."""
    t.flags.logic(dst & src)


@lower("NOT")
def not_(t: Translator, dst: Value) -> Value:
    """NOT: DEST := NOT DEST; no flags (SDM vol. 2B)."""
    return ~dst
