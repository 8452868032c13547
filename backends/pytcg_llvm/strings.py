"""SSE4.2's string comparisons: the host's instruction, or the front-end's ``soft_`` natives."""

from __future__ import annotations

from pytcg.ir.blocks import Op
from pytcg.ir.ops import OPS
from pytcg.ir.strings import CF, OF, SF, ZF
from pytcg_llvm.crypto import Call, Temp, host_has

COMPARISONS = frozenset(name for name in OPS if name.startswith("pcmp"))
_BYTES = "<16 x i8>"
_FLAGS = {"c": CF, "z": ZF, "s": SF, "o": OF}


def emit(op: Op, args: list[str], temp: Temp, call: Call) -> str:
    """Text of the op's value, made of ``args`` ("type value").

    LLVM makes one instruction of what has the same operands in one block.
    """
    mode, mask = op.attrs["mode"], op.name[-1] == "m"
    if not host_has("sse4.2"):
        return call("soft_" + op.name, "i128" if mask else "i32", *args, f"i32 {mode}")
    vectors = [f"{_BYTES} " + temp(f"bitcast {text} to {_BYTES}") if text.startswith("i128 ")
               else text for text in args]  # fmt: skip
    operands = (*vectors, f"i8 {mode}")
    stem = f"llvm.x86.sse42.{op.name[:-1]}"
    if mask:
        return f"bitcast {_BYTES} {temp(call(f'{stem}m128', _BYTES, *operands))} to i128"
    if op.name[-1] == "i":
        return call(f"{stem}i128", "i32", *operands)
    bits = [temp(f"mul i32 {temp(call(f'{stem}i{letter}128', 'i32', *operands))}, {place}")
            for letter, place in _FLAGS.items()]  # fmt: skip
    low, high = (temp(f"or i32 {bits[i]}, {bits[i + 1]}") for i in (0, 2))
    return f"or i32 {low}, {high}"
