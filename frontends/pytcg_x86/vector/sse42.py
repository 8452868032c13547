"""SSE4.2's string comparisons: PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM (SDM vol. 2B, 4.1).

In regions, which know the immediate, the host's instruction: an op of the IR by that immediate
(`pytcg.ir.strings`). A handler for all immediates would take long to compile: it calls code.
"""

from __future__ import annotations

from pytcg.ir import strings
from pytcg.ir.blocks import Value
from pytcg.ir.ops import Type
from pytcg_x86.core.translate import Operand, Translator
from pytcg_x86.decode.table import lower, rows
from pytcg_x86.vector import soft_strings
from pytcg_x86.vector.operands import immediate

UNDEFINED: dict[str, str] = {}

rows("""
66:0f.3a.60 PCMPESTRM Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.61 PCMPESTRI Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.62 PCMPISTRM Vx,Wx,Ib   sse ?sse4.2
66:0f.3a.63 PCMPISTRI Vx,Wx,Ib   sse ?sse4.2
""")


MEANT = 0x7F
"""The bits of the immediate that mean anything."""


def _length(t: Translator, number: int) -> Value:
    """A length register as an i32: of 64 bits what counts is their magnitude, up to 16."""
    register = t.ld_env("gpr", number)
    if t.cx.operand_size != 64:
        return register.trunc(Type.I32)
    limit, below = t.const(16, 64), t.const(-16, 64)
    clamped = t.b.select(register.slt(limit), register, limit)
    return t.b.select(clamped.slt(below), below, clamped).trunc(Type.I32)


def _set_flags(t: Translator, flags: Value) -> None:
    """ZF, SF, CF and OF from an image of them; AF and PF are clear."""
    zf, sf, cf, of = ((flags & bit).ne(0)
                      for bit in (strings.ZF, strings.SF, strings.CF, strings.OF))  # fmt: skip
    t.flags.result(t.b.select(sf, t.const((1 << 64) - 2, 64), t.const(1, 64)))  # PF clear
    t.flags.put(cf=cf, of=of, af=t.const(0, 1), zf=zf)


def _compared(t: Translator, operands: list[Value], control: Value) -> tuple[Value, Value]:
    """By code: IntRes2, and the flags (both i32)."""
    native = soft_strings.compare_implicit if len(operands) == 2 else soft_strings.compare_explicit
    both = t.call(native, *operands, control)
    assert both is not None
    return both.trunc(Type.I32), (both >> 32).trunc(Type.I32)


def _string_comparison(mnemonic: str, *, explicit: bool, mask: bool) -> None:
    stem = mnemonic[:-1].lower()
    kind, finish = ("m", soft_strings.string_mask) if mask else ("i", soft_strings.string_index)

    @lower(mnemonic, dst="raw")
    def lowering(t: Translator, first: Operand, second: Operand, control: Operand) -> None:
        a, b = t.read(first), t.read(second)
        operands = [a, _length(t, 0), b, _length(t, 2)] if explicit else [a, b]
        number = immediate(t.read(control)).trunc(Type.I32)
        if number.const is None:
            bits, flags = _compared(t, operands, number)
            result = t.call(finish, bits, number)
            assert result is not None
        else:
            mode = number.const & MEANT
            result, flags = (t.b.op(stem + k, *operands, mode=mode) for k in (kind, "f"))
        _set_flags(t, flags)
        if mask:
            t.st_env("xmm", result, 0)
        else:
            t.write(t.reg(1, 32), result)


for _letter, _explicit in (("E", True), ("I", False)):
    _string_comparison(f"PCMP{_letter}STRI", explicit=_explicit, mask=False)
    _string_comparison(f"PCMP{_letter}STRM", explicit=_explicit, mask=True)
