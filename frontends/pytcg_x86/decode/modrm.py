"""Operands in encodings: registers, ModRM and SIB addresses, immediates."""

from __future__ import annotations

from pytcg.exec.layout import Record
from pytcg_native import i8, i16, i32, i64, native, u8, u16, u32, u64
from pytcg_x86.core.state import ENV, Env, Mode, Seg
from pytcg_x86.decode.fetch import fetch16, fetch32, fetch64
from pytcg_x86.decode.formkey import EA_BASE, EA_DISP, EA_SIB, SIZE16, SIZE64
from pytcg_x86.decode.opcodes import SIZES

_GPR = ENV.offset("gpr")
_ZERO = ENV.offset("zero")
_SIZE_B, _SIZE_W, _SIZE_D, _SIZE_Q = (SIZES.index(c) for c in "bwdq")
_SIZE_V, _SIZE_S = (SIZES.index(c) for c in "vs")


@native(inline=True)
def gpr_at(number: u32) -> i16:
    """Offset in the state of a general register by number."""
    return i16(i32(number * 8) + _GPR)


@native(inline=True)
def gpr_offset(number: u32, byte: bool, rex: u32) -> i16:
    """Offset in the state of a general register; AH…BH for bytes 4-7 without REX."""
    if byte and rex == 0 and number >= 4:
        return gpr_at(number - 4) + 1
    return gpr_at(number)


@native(inline=True)
def put_register(rec: Record, slot: u32, value: i16) -> None:
    if slot == 0:
        rec.a = value
    else:
        rec.b = value


@native
def address16(rec: Record, rm: u32) -> None:
    """Base and index of a 16-bit ModRM (SDM vol. 2, table 2-1); the segment by default."""
    base: u32 = 3 if rm < 2 or rm == 7 else 5
    if rm == 4:
        base = 6
    elif rm == 5:
        base = 7
    rec.base = gpr_at(base)
    rec.segment = Seg.SS if base == 5 else Seg.DS
    if rm < 4:
        rec.index = gpr_at(6 + (rm & 1))


@native
def decode_address(env: Env, rec: Record, at: u64, modrm: u32, rex: u32, asize: u32) -> u64:
    """The memory operand of a ModRM byte: record fields; the result is the new position, with the
    kind of address in bits 8-9 and bit 10 set if it is relative to rIP."""
    mod: u32 = modrm >> 6
    rm: u32 = modrm & 7
    kind: u64 = EA_BASE
    rec.segment = Seg.DS
    rec.shift = 0
    if asize == SIZE16:
        if mod == 0 and rm == 6:
            rec.disp = fetch16(env, at)
            return (at + 2) | EA_DISP << 8
        address16(rec, rm)
        kind = EA_SIB if rm < 4 else EA_BASE
        if mod == 1:
            rec.disp = u64(i64(i8(env.fetch[at])))
            return (at + 1) | kind << 8
        rec.disp = 0
        if mod == 2:
            rec.disp = u64(i64(i16(u16(fetch16(env, at)))))
            return (at + 2) | kind << 8
        return at | kind << 8
    where: u64 = at
    no_base: bool = False
    if rm == 4:
        sib: u32 = env.fetch[where]
        where += 1
        index: u32 = (sib >> 3 & 7) | (rex & 2) << 2
        rm = sib & 7
        if index != 4:
            kind = EA_SIB
            rec.index = gpr_at(index)
            rec.shift = u8(sib >> 6)
        no_base = rm == 5 and mod == 0
    elif mod == 0 and rm == 5:
        rec.disp = u64(i64(i32(u32(fetch32(env, where)))))
        if (env.mode & Mode.CODE64) != 0:
            return (where + 4) | EA_DISP << 8 | 1 << 10
        return (where + 4) | EA_DISP << 8
    if no_base:
        rec.base = _ZERO
    else:
        rec.base = gpr_at(rm | (rex & 1) << 3)
        # rBP and rSP as base mean the stack segment; r12 and r13 do not.
        if (rm == 4 or rm == 5) and (rex & 1) == 0:
            rec.segment = Seg.SS
    if mod == 1:
        rec.disp = u64(i64(i8(env.fetch[where])))
        return (where + 1) | kind << 8
    rec.disp = 0
    if mod == 2 or no_base:
        rec.disp = u64(i64(i32(u32(fetch32(env, where)))))
        where += 4
        if no_base and kind == EA_BASE:
            kind = EA_DISP
    return where | kind << 8


@native
def immediate(env: Env, at: u64, size: u32, osize: u32) -> u64:
    """An immediate's value (sign-extended where the manual says so)."""
    if size == _SIZE_B:
        return env.fetch[at]
    if size == _SIZE_S:
        return u64(i64(i8(env.fetch[at])))
    if size == _SIZE_W:
        return fetch16(env, at)
    if size == _SIZE_D:
        return fetch32(env, at)
    if size == _SIZE_Q:
        return fetch64(env, at)
    if osize == SIZE16:
        return u64(i64(i16(u16(fetch16(env, at)))))
    if osize == SIZE64 and size == _SIZE_V:
        return fetch64(env, at)
    return u64(i64(i32(u32(fetch32(env, at)))))


@native
def immediate_length(size: u32, osize: u32) -> u64:
    if size < _SIZE_V:  # b, w, d, q
        return u64(1) << (size - _SIZE_B)
    if size == _SIZE_S:
        return 1
    if osize == SIZE16:
        return 2
    if osize == SIZE64 and size == _SIZE_V:
        return 8
    return 4
