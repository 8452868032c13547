"""Ops for which there are host instructions, if the host has them.

On other hosts they are calls of the front-end's native functions, ``soft_`` and the op's name
(`pytcg_x86.vector.soft`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytcg.ir.blocks import Op
from pytcg.ir.ops import Type
from pytcg_llvm.host import host_features

_PAIR, _WORDS, _BYTES = "<2 x i64>", "<4 x i32>", "<16 x i8>"


@dataclass(frozen=True, slots=True)
class Instruction:
    """A host instruction: LLVM's feature and intrinsic, its vectors, a constant last operand."""

    feature: str
    intrinsic: str
    vector: str
    last: str = ""


INSTRUCTIONS = {
    "aesenc": Instruction("aes", "llvm.x86.aesni.aesenc", _PAIR),
    "aesenclast": Instruction("aes", "llvm.x86.aesni.aesenclast", _PAIR),
    "aesdec": Instruction("aes", "llvm.x86.aesni.aesdec", _PAIR),
    "aesdeclast": Instruction("aes", "llvm.x86.aesni.aesdeclast", _PAIR),
    "aesimc": Instruction("aes", "llvm.x86.aesni.aesimc", _PAIR),
    "aeskeygen": Instruction("aes", "llvm.x86.aesni.aeskeygenassist", _PAIR, "i8 0"),
    "clmul": Instruction("pclmul", "llvm.x86.pclmulqdq", _PAIR, "i8 0"),
    "gf2p8mul": Instruction("gfni", "llvm.x86.vgf2p8mulb.128", _BYTES),
    "gf2p8affine": Instruction("gfni", "llvm.x86.vgf2p8affineqb.128", _BYTES, "i8 0"),
    "gf2p8affineinv": Instruction("gfni", "llvm.x86.vgf2p8affineinvqb.128", _BYTES, "i8 0"),
    "sha1nexte": Instruction("sha", "llvm.x86.sha1nexte", _WORDS),
    "sha1msg1": Instruction("sha", "llvm.x86.sha1msg1", _WORDS),
    "sha1msg2": Instruction("sha", "llvm.x86.sha1msg2", _WORDS),
    "sha1rnds4": Instruction("sha", "llvm.x86.sha1rnds4", _WORDS, "i8 MODE"),
    "sha256msg1": Instruction("sha", "llvm.x86.sha256msg1", _WORDS),
    "sha256msg2": Instruction("sha", "llvm.x86.sha256msg2", _WORDS),
    "sha256rnds2": Instruction("sha", "llvm.x86.sha256rnds2", _WORDS),
}


def host_has(feature: str) -> bool:
    """Whether LLVM compiles for a host with ``feature``."""
    return f"+{feature}" in host_features().split(",")


Temp = Callable[[str], str]
Call = Callable[..., str]


def emit(op: Op, args: list[str], temp: Temp, call: Call) -> str:
    """Text of the op's value (an i128), made of ``args`` ("type value")."""
    row = INSTRUCTIONS[op.name]
    mode = op.attrs.get("mode")
    if not host_has(row.feature):
        extra = [] if mode is None else [f"i32 {mode}"]
        return call("soft_" + op.name, "i128", *args, *extra)
    vectors = []
    for value, text in zip(op.args, args, strict=True):
        if value.type is Type.I64:
            text = "i128 " + temp(f"zext {text} to i128")
        vectors.append(f"{row.vector} " + temp(f"bitcast {text} to {row.vector}"))
    last = [row.last.replace("MODE", str(mode))] if row.last else []
    result = temp(call(row.intrinsic, row.vector, *vectors, *last))
    return f"bitcast {row.vector} {result} to i128"


_CRC = {8: "32.8", 16: "32.16", 32: "32.32", 64: "64.64"}


def emit_crc32c(op: Op, args: list[str], temp: Temp, call: Call) -> str:
    """Text of the checksum (an i32)."""
    crc, data = args
    bits = op.args[1].bits
    if not host_has("crc32"):
        wide = data if bits == 64 else "i64 " + temp(f"zext {data} to i64")
        return call("crc32c", "i32", crc, wide, f"i32 {bits // 8}")
    name = "llvm.x86.sse42.crc32." + _CRC[bits]
    if bits < 64:
        return call(name, "i32", crc, data)
    wide = temp(f"zext {crc} to i64")
    return f"trunc i64 {temp(call(name, 'i64', 'i64 ' + wide, data))} to i32"
