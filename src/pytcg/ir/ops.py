"""THE op table: one row an op, read by the builder, verifier, printer and every back-end.

An op's *signature* says how its operand types hang together; letters are type variables:
``T`` any integer type, ``F`` a float type, ``P`` the pointer type, ``B`` the 1-bit type, ``V`` the
128-bit vector type, ``A`` any type at all; a lower-case type name stands for itself. The result
type follows the arrow; ``*`` is "named by the op's ``type`` attribute".

What an op *means* is written once, as running code, in ``pytcg_python.semantics``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Type(Enum):
    """A value's type; integers are bit patterns of that width, signedness is in the op."""

    I1 = "i1"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    I128 = "i128"
    F32 = "f32"
    F64 = "f64"
    F80 = "f80"
    PTR = "ptr"
    VOID = "void"

    def __repr__(self) -> str:
        return self.value


BITS = {
    Type.I1: 1, Type.I8: 8, Type.I16: 16, Type.I32: 32, Type.I64: 64, Type.I128: 128,
    Type.F32: 32, Type.F64: 64, Type.F80: 80, Type.PTR: 64, Type.VOID: 0,
}  # fmt: skip
INTEGERS = {Type.I1, Type.I8, Type.I16, Type.I32, Type.I64, Type.I128}
FLOATS = {Type.F32, Type.F64}
INT_OF_BITS = {BITS[t]: t for t in INTEGERS}


@dataclass(frozen=True, slots=True)
class OpDef:
    """One row: operand types, result type, names of the attributes it carries."""

    name: str
    args: tuple[str, ...]
    result: str
    attrs: tuple[str, ...] = ()


def _row(name: str, signature: str, *attrs: str) -> OpDef:
    args, result = signature.split("->")
    return OpDef(name, tuple(args.split()), result.strip(), attrs)


_ROWS = [
    # Integer arithmetic; wraps at the type's width. Division by zero is the caller's to exclude.
    _row("add", "T T -> T"), _row("sub", "T T -> T"), _row("mul", "T T -> T"),
    _row("udiv", "T T -> T"), _row("urem", "T T -> T"),
    _row("sdiv", "T T -> T"), _row("srem", "T T -> T"),
    _row("mulhu", "T T -> T"), _row("mulhs", "T T -> T"),
    # The quotient of (high, low, divisor), where high < divisor; of 16, 32 or 64 bits.
    _row("udivw", "T T T -> T"),
    _row("and", "T T -> T"), _row("or", "T T -> T"), _row("xor", "T T -> T"),
    # Shift and rotate counts are taken modulo the width.
    _row("shl", "T T -> T"), _row("lshr", "T T -> T"), _row("ashr", "T T -> T"),
    _row("rotl", "T T -> T"), _row("rotr", "T T -> T"),
    _row("neg", "T -> T"), _row("not", "T -> T"), _row("bswap", "T -> T"),
    _row("clz", "T -> T"), _row("ctz", "T -> T"), _row("popcnt", "T -> T"),
    # Carry and signed overflow out of an addition or subtraction.
    _row("addc", "T T -> B"), _row("addo", "T T -> B"),
    _row("subb", "T T -> B"), _row("subo", "T T -> B"),
    # Comparisons; pointers compare for identity.
    _row("eq", "A A -> B"), _row("ne", "A A -> B"),
    _row("ult", "T T -> B"), _row("ule", "T T -> B"), _row("ugt", "T T -> B"),
    _row("uge", "T T -> B"), _row("slt", "T T -> B"), _row("sle", "T T -> B"),
    _row("sgt", "T T -> B"), _row("sge", "T T -> B"),
    _row("select", "B A A -> A"),
    # Conversions.
    _row("zext", "T -> *", "type"), _row("sext", "T -> *", "type"), _row("trunc", "T -> *", "type"),
    _row("bitcast", "A -> *", "type"),
    # Host memory and locals.
    _row("ptradd", "P i64 -> P"), _row("ptrdiff", "P P -> i64"),
    _row("ld", "P -> *", "type"), _row("st", "A P -> void"),
    # Guest memory in code that LLVM may reorder: each access happens once, in program order.
    _row("ldg", "P -> *", "type"), _row("stg", "A P -> void"),
    _row("fill", "P i8 i64 -> void"),  # that many bytes
    _row("get", "-> *", "local", "type"), _row("set", "A -> void", "local"),
    # Calls. ``call`` names a function; ``callptr`` calls a host function pointer (C convention);
    # ``enter`` runs threaded code from a record until it returns.
    _row("symbol", "-> P", "name"),
    _row("call", "... -> *", "callee", "type"),
    _row("callptr", "P ... -> *", "type"),
    _row("enter", "P P P P -> void"),
    # Scalar floating point, in the current rounding mode, raising the host's sticky flags.
    _row("fadd", "F F -> F"), _row("fsub", "F F -> F"), _row("fmul", "F F -> F"),
    _row("fdiv", "F F -> F"), _row("fsqrt", "F -> F"),
    _row("feq", "F F -> B"), _row("flt", "F F -> B"), _row("fle", "F F -> B"),
    _row("funord", "F F -> B"),
    # By one of x86's 32 predicates (SDM vol. 2A, table 3-1).
    _row("fcmp", "F F -> B", "mode"),
    # a * b + c, rounded once; ``mode`` is one of `FMA`.
    _row("ffma", "F F F -> F", "mode"),
    _row("fext", "f32 -> f64"), _row("ftrunc", "f64 -> f32"),
    _row("sitof", "T -> *", "type"),
    # x86's conversions: the "integer indefinite" (only the sign bit) when out of range.
    _row("ftosi", "F -> *", "type"), _row("ftosi_round", "F -> *", "type"),
    # The host's x87 unit, under the control word 37Fh. Those that can raise exceptions leave the
    # status word of that operation (exceptions raised since ``xclear``, C1) for ``xstatus``.
    _row("xadd", "f80 f80 -> f80"), _row("xsub", "f80 f80 -> f80"),
    _row("xmul", "f80 f80 -> f80"), _row("xdiv", "f80 f80 -> f80"),
    _row("xsqrt", "f80 -> f80"), _row("xrint", "f80 -> f80"),
    _row("xcom", "f80 f80 -> i32"), _row("xucom", "f80 f80 -> i32"),  # the status word
    _row("xtrunc", "f80 -> *", "type"), _row("xtosi", "f80 -> *", "type"),
    _row("xstatus", "-> i32"), _row("xclear", "-> void"),
    # What raises nothing: numbers that are neither NaN nor denormal, integers, signs.
    _row("xext", "F -> f80"), _row("xfromi", "i64 -> f80"),
    _row("xneg", "f80 -> f80"), _row("xabs", "f80 -> f80"),
    # 128-bit vectors: lanes of ``lane`` bits.
    _row("vadd", "V V -> V", "lane"), _row("vsub", "V V -> V", "lane"),
    _row("vmul", "V V -> V", "lane"), _row("vmulhu", "V V -> V", "lane"),
    _row("vmulhs", "V V -> V", "lane"),
    # The product's high part of lane + 1 bits, rounded.
    _row("vmulhrs", "V V -> V", "lane"),
    _row("vadds", "V V -> V", "lane"), _row("vaddus", "V V -> V", "lane"),
    _row("vsubs", "V V -> V", "lane"), _row("vsubus", "V V -> V", "lane"),
    _row("vmins", "V V -> V", "lane"), _row("vmaxs", "V V -> V", "lane"),
    _row("vminu", "V V -> V", "lane"), _row("vmaxu", "V V -> V", "lane"),
    _row("vavg", "V V -> V", "lane"),
    _row("veq", "V V -> V", "lane"), _row("vgt", "V V -> V", "lane"),
    # Shift every lane by one count; a count of ``lane`` or more empties (or sign-fills) it.
    _row("vshl", "V i64 -> V", "lane"), _row("vlshr", "V i64 -> V", "lane"),
    _row("vashr", "V i64 -> V", "lane"),
    # The same, each lane by the count in b's.
    _row("vshlv", "V V -> V", "lane"), _row("vlshrv", "V V -> V", "lane"),
    _row("vashrv", "V V -> V", "lane"),
    _row("vpackss", "V V -> V", "lane"), _row("vpackus", "V V -> V", "lane"),
    _row("vunpackl", "V V -> V", "lane"), _row("vunpackh", "V V -> V", "lane"),
    # Lanes of a and b joined, in a fixed order; bytes of a as b says, none where b's sign is set.
    _row("vshuffle", "V V -> V", "lane", "order"),
    _row("vpshufb", "V V -> V", "lane"),
    _row("vmsb", "V -> i32", "lane"),
    # One lane by its number, and a vector with one lane replaced.
    _row("vlane", "V i64 -> *", "lane", "type"), _row("vinsert", "V T i64 -> V", "lane"),
    _row("vfadd", "V V -> V", "lane"), _row("vfsub", "V V -> V", "lane"),
    _row("vfmul", "V V -> V", "lane"), _row("vfdiv", "V V -> V", "lane"),
    _row("vfsqrt", "V -> V", "lane"),
    _row("vfcmp", "V V -> V", "lane", "mode"), _row("vffma", "V V V -> V", "lane", "mode"),
    # Four binary16 in the low half to binary32, and back (zeros above) by VCVTPS2PH's ``mode``.
    _row("fexthalf", "V -> V"), _row("ftrunchalf", "V -> V", "mode"),
    # Ciphers, hashes, finite fields (`pytcg.ir.crypto`): what processors have instructions for.
    _row("aesenc", "V V -> V"), _row("aesenclast", "V V -> V"),
    _row("aesdec", "V V -> V"), _row("aesdeclast", "V V -> V"),
    _row("aesimc", "V -> V"), _row("aeskeygen", "V -> V"),
    _row("clmul", "i64 i64 -> V"), _row("crc32c", "i32 T -> i32"),
    _row("gf2p8mul", "V V -> V"), _row("gf2p8affine", "V V -> V"),
    _row("gf2p8affineinv", "V V -> V"),
    _row("sha1nexte", "V V -> V"), _row("sha1msg1", "V V -> V"), _row("sha1msg2", "V V -> V"),
    _row("sha1rnds4", "V V -> V", "mode"), _row("sha256msg1", "V V -> V"),
    _row("sha256msg2", "V V -> V"), _row("sha256rnds2", "V V V -> V"),
    # PCMPISTRI and its like by their immediate (`pytcg.ir.strings`): index, mask, flags (as in
    # EFLAGS) of two strings; those of explicit lengths take each behind its string.
    _row("pcmpistri", "V V -> i32", "mode"), _row("pcmpistrm", "V V -> V", "mode"),
    _row("pcmpistrf", "V V -> i32", "mode"), _row("pcmpestri", "V i32 V i32 -> i32", "mode"),
    _row("pcmpestrm", "V i32 V i32 -> V", "mode"), _row("pcmpestrf", "V i32 V i32 -> i32", "mode"),
    # To a whole number: ROUNDPS's ``mode`` (SDM vol. 2B, table 4-18).
    _row("fround", "F -> F", "mode"), _row("vfround", "V -> V", "lane", "mode"),
    # The host: time stamp, and the SSE control and status word.
    _row("cycles", "-> i64"), _row("getmxcsr", "-> i32"), _row("setmxcsr", "i32 -> void"),
    # Terminals: each ends a block.
    _row("br", "-> void", "target"),
    _row("brif", "B -> void", "then", "otherwise", "likely"),
    _row("switch", "T -> void", "cases", "default"),
    _row("ret", "... -> void"),
    # Leave by a pending guest exception; inlining turns it into a jump to the caller's own.
    _row("unwind", "-> void"),
    _row("unreachable", "-> void"),
    # Tail-call threaded code: (code, env, rec, ram).
    _row("tail", "P P P P -> void"),
]  # fmt: skip

OPS = {row.name: row for row in _ROWS}

FMA = ("madd", "msub", "nmadd", "nmsub", "maddsub", "msubadd")
"""Modes of ffma and vffma: product and addend each as they are or negated (n: the product); the
last two, of vectors only, add in odd lanes and subtract in even ones, or the other way round."""

TERMINALS = {"br", "brif", "switch", "ret", "unwind", "unreachable", "tail"}
COMMUTATIVE = {
    "add", "mul", "mulhu", "mulhs", "and", "or", "xor", "addc", "addo", "eq", "ne", "feq",
    "funord", "vadd", "vmul", "vmulhu", "vmulhs", "vadds", "vaddus", "vmins", "vmaxs", "vminu",
    "vmaxu", "vavg", "veq",
}  # fmt: skip
READS_MEMORY = {"ld", "ldg", "call", "callptr", "enter", "get"}
SIDE_EFFECTS = {
    "st", "ldg", "stg", "fill", "set", "call", "callptr", "enter", "setmxcsr", "cycles", "getmxcsr",
}  # fmt: skip
# Float ops raise sticky flags that a later getmxcsr can tell: passes leave even dead ones alone.
STICKY = {
    "fadd", "fsub", "fmul", "fdiv", "fsqrt", "feq", "flt", "fle", "funord", "fext", "ftrunc",
    "sitof", "ftosi", "ftosi_round", "fcmp", "ffma", "fexthalf", "ftrunchalf", "vfcmp", "vffma",
    "vfadd", "vfsub", "vfmul", "vfdiv", "vfsqrt",
    "fround", "vfround",
}  # fmt: skip
# x87 ops of which a later xstatus can tell.
X87 = {"xadd", "xsub", "xmul", "xdiv", "xsqrt", "xrint", "xcom", "xucom", "xtrunc", "xtosi",
       "xstatus", "xclear"}  # fmt: skip
UNREMOVABLE = TERMINALS | SIDE_EFFECTS | STICKY | X87
