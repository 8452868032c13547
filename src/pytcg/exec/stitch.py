"""Stitching: a block's machine code is made by copying the stencils of its instructions.

A stencil is the machine code of a form without its slow paths, with holes for the record's fields.
The copies lie one behind the other, so what was a load of a field and a jump through the next
record is a constant and nothing. All else stays as it is: each record's code is its copy, so
threaded code may enter and leave anywhere; where the stencil doesn't know the way (a TLB miss, a
fault) it bails to the form's handler, and that goes on with the next record's code.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from pytcg.exec.forms import form_at, record_code
from pytcg.exec.layout import (
    PATCH,
    RECORD_SIZE,
    STENCIL,
    TB,
    Branch,
    ExecEnv,
    Form,
    Link,
    Patch,
    Record,
    Slot,
    Stencil,
    Tb,
)
from pytcg_native import (
    NULL,
    address_of,
    i16,
    i64,
    load8,
    load16,
    load32,
    load64,
    load128,
    native,
    pointer_difference,
    ptr,
    resume,
    store8,
    store16,
    store32,
    store64,
    store128,
    symbol,
    u8,
    u16,
    u32,
    u64,
)

_HEAD = TB.size
_STENCIL, _PATCH = STENCIL.size, PATCH.size
TRAMPOLINE = 16
"""Bytes of each of the jumps at the code's start: to where stencils go (`Target`)."""
BLOCK_ROOM = 40 * 1024
"""Bytes that a block may take: 40 instructions of the longest stencils there may be. When there
are less, blocks stay as they are until all are dropped."""
LONGEST = 1000
"""Bytes of the longest stencil."""
GO = 0x2424_FF41
"""JMP [r12]: on with the code of the record at hand."""
EXIT = 12
"""Bytes of an exit to a branch's successor."""
LOAD_RECORD = 0x2464_8B4D
"""MOV r12, [r12 + disp8], without the displacement."""
ADD_RECORD, JUMP = 0xC4_8149, 0xE9
"""ADD r12, imm32 (three bytes) and JMP rel32 (one)."""
SHORT = 0x7FFF_F000
"""Numbers from -SHORT to SHORT fit a hole of 32 bits, whatever is added."""


class StencilFlag(IntFlag):
    """stencil.flags."""

    IMM = 1   # the immediate must fit 32 bits
    DISP = 2  # so must the displacement
    FALLS = 4  # it may go on with the next record
    FALL = 8   # it may go to the branch's successor that falls through
    TAKEN = 16  # it may go to the one taken


class Target(IntEnum):
    """Where a stencil goes: in a patch of width 0."""

    NEXT = 0
    BAIL = 1    # `record_handled`
    LOOKUP = 2  # `tb_lookup`
    HEAD = 3    # `tb_head`
    HOP = 4     # `tb_hop`
    STACK = 5   # `record_on_stack`
    UNPAID = 6  # `tb_head_unpaid`
    FALL = 7    # the exits behind the stencil
    TAKEN = 8


TRAMPOLINES = ("record_handled", "tb_lookup", "tb_head", "tb_hop", "record_on_stack",
               "tb_head_unpaid")  # fmt: skip
"""What the trampolines jump to, in their order."""
HEAD_KEY, HOP_KEY = (1 << 64) - 1, (1 << 64) - 2
"""Keys of the stencils that no form has (`pytcg.exec.stencils`)."""


@native(inline=True)
def is_short(value: u64) -> bool:
    return value + SHORT < 2 * SHORT


@native
def stencil_for(env: ExecEnv, rec: Record) -> ptr:
    """The stencil for a record, NULL if it must be left to what its code is now."""
    form: Form = form_at(env, rec.form)
    stencil: Stencil = Stencil(form.stencil)
    if stencil == NULL:
        return NULL
    if is_stitched(env, ptr(rec.code)):
        rec.code = form.code
    if rec.code != form.code:
        return NULL  # it has hooks, or is a place to stop
    if (stencil.flags & StencilFlag.IMM) != 0 and not is_short(rec.imm):
        return NULL
    if (stencil.flags & StencilFlag.DISP) != 0 and not is_short(rec.disp):
        return NULL
    return ptr(stencil)


@native(inline=True)
def is_stitched(env: ExecEnv, code: ptr) -> bool:
    return u64(pointer_difference(code, ptr(env.code))) < env.code_size


@native
def copy_stencil(env: ExecEnv, to: ptr, stencil: Stencil, rec: ptr) -> None:
    """Copy a stencil and fill its holes; up to 15 bytes behind it change."""
    patch: Patch = Patch(stencil + _STENCIL)
    code: ptr = stencil + (_STENCIL + u64(stencil.patches) * _PATCH)
    taken: u64 = EXIT if (stencil.flags & StencilFlag.FALL) != 0 else u64(0)
    for at in range(u64(0), u64(stencil.size), 16):
        store128(to, at, load128(code, at))
    for _i in range(stencil.patches):
        fill_hole(env, to, to + u64(stencil.size), taken, patch, rec)
        patch = Patch(patch + _PATCH)


@native(inline=True)
def fill_hole(env: ExecEnv, to: ptr, following: ptr, taken: u64, patch: Patch, rec: ptr) -> None:
    place: u64 = patch.place
    field: u64 = patch.field
    if patch.width == 0:
        target: ptr = following
        if field == Target.TAKEN:
            target = following + taken
        elif field != Target.NEXT and field != Target.FALL:
            target = env.code + (field - 1) * TRAMPOLINE
        distance: i64 = pointer_difference(target, to + place)
        store32(to, place, u32(distance + patch.addend))
        return
    value: u64 = 0
    if patch.bits == 16:
        value = u64(i64(i16(load16(rec, field))))
    elif patch.bits == 8:
        value = load8(rec, field)
    else:
        value = load64(rec, field)
    value += u64(patch.addend)
    if patch.width == 4:
        store32(to, place, u32(value))
    elif patch.width == 8:
        store64(to, place, value)
    elif patch.width == 2:
        store16(to, place, u16(value))
    else:
        store8(to, place, u8(value))


# Exits -------------------------------------------------------------------------------------------


@native
def write_exit(env: ExecEnv, to: ptr, from_rec: ptr, slot: ptr, link: Link) -> None:
    """An exit by a branch's slot: to the successor there, or to the link record that finds it."""
    tb: ptr = ptr(Slot(slot).record)
    if tb != ptr(link) and is_stitched(env, ptr(Tb(tb).head)):
        lead(to, from_rec, Tb(tb))
        return
    if tb == ptr(link) and link.code == symbol("tb_chain"):
        link.tb = to
    store32(to, 0, u32(LOAD_RECORD))
    store8(to, 4, u8(pointer_difference(slot, from_rec)))
    store32(to, 5, u32(GO))


@native
def lead(to: ptr, from_rec: ptr, tb: Tb) -> None:
    """Make an exit a jump to a stitched block's head."""
    store32(to, 0, u32(ADD_RECORD))
    store32(to, 3, u32(pointer_difference(ptr(tb), from_rec)))
    store8(to, 7, u8(JUMP))
    store32(to, 8, u32(pointer_difference(ptr(tb.head), to + EXIT)))


@native
def lead_exit(env: ExecEnv, link: Link, tb: Tb) -> None:
    """A successor has been found: lead the exit that belongs to its link straight there."""
    to: ptr = ptr(link.tb)
    if is_stitched(env, to) and is_stitched(env, ptr(tb.head)):
        back: i64 = -i64(load8(to, 4))
        lead(to, link.slot + back, tb)


@native(inline=True)
def close_head(env: ExecEnv, tb: Tb) -> None:
    """Whoever jumps to a block's own code goes on with what is its code now."""
    if is_stitched(env, ptr(tb.head)):
        store32(ptr(tb.head), 0, u32(GO))


@native(inline=True)
def open_head(env: ExecEnv, tb: Tb) -> None:
    """A block's own code is its code again."""
    if is_stitched(env, ptr(tb.head)):
        stencil: Stencil = Stencil(env.head_stencil)
        store32(ptr(tb.head), 0, load32(stencil + (_STENCIL + u64(stencil.patches) * _PATCH), 0))


@native(inline=True)
def stitch_exits(env: ExecEnv, to: ptr, flags: u32, rec: ptr, last: Branch) -> ptr:
    """The exits behind a branch's stencil; ``last`` is the branch, or its second half."""
    link: Link = Link(last + RECORD_SIZE)
    if (flags & StencilFlag.FALL) != 0:
        write_exit(env, to, rec, address_of(last.fall), Link(link + RECORD_SIZE))
        to += u64(EXIT)
    if (flags & StencilFlag.TAKEN) != 0:
        write_exit(env, to, rec, address_of(last.taken), link)
        to += u64(EXIT)
    return to


# Blocks ------------------------------------------------------------------------------------------


@native(inline=True)
def stitch_end(env: ExecEnv, to: ptr, link: Record) -> ptr:
    """Give a link record its own code if it hops to another page."""
    if env.hop_stencil == NULL or link.code != symbol("tb_hop"):
        return to
    copy_stencil(env, to, Stencil(env.hop_stencil), ptr(link))
    link.code = to
    return to + u64(Stencil(env.hop_stencil).size)


@native
def stitch_again(env: ExecEnv, tb: Tb) -> None:
    """Make a block's machine code anew if there are more stencils than when it was made."""
    rec: Record = Record(tb + _HEAD)
    for _i in range(tb.insns):
        if is_stitched(env, ptr(rec.code)):
            if (Stencil(form_at(env, rec.form).stencil).flags & StencilFlag.TAKEN) != 0:
                return  # a superinstruction: the last record goes with it
        elif stencil_for(env, rec) != NULL:
            stitch_block(env, tb)
            return
        rec = Record(rec + RECORD_SIZE)


@native
def stitch_block(env: ExecEnv, tb: Tb) -> None:
    """Make a block's machine code, as far as its forms have stencils."""
    if env.head_stencil == NULL or env.code_used + BLOCK_ROOM > env.code_size:
        return
    start: ptr = env.code + env.code_used
    to: ptr = start
    copy_stencil(env, to, Stencil(env.head_stencil), ptr(tb))
    to += u64(Stencil(env.head_stencil).size)
    rec: Record = Record(tb + _HEAD)
    last: ptr = tb + (_HEAD + u64(tb.insns - 1) * RECORD_SIZE)
    falls: bool = True
    for _i in range(tb.insns):
        stencil: Stencil = Stencil(stencil_for(env, rec))
        falls = True
        if stencil != NULL:
            copy_stencil(env, to, stencil, ptr(rec))
            rec.code = to
            to += u64(stencil.size)
            falls = (stencil.flags & StencilFlag.FALLS) != 0
            to = stitch_exits(env, to, stencil.flags, ptr(rec), Branch(last))
            if (stencil.flags & StencilFlag.TAKEN) != 0:
                break  # a superinstruction has the last record's code too
        else:
            store32(to, 0, u32(GO))
            to += u64(4)
        rec = Record(rec + RECORD_SIZE)
    if falls and tb.records != u32(tb.insns) and rec.code == symbol("tb_goto"):
        write_exit(env, to, ptr(rec), address_of(Branch(rec).taken), Link(rec + RECORD_SIZE))
        to += u64(EXIT)
    elif falls:
        store32(to, 0, u32(GO))
        to += u64(4)
    rec = Record(last + RECORD_SIZE)
    for _k in range(u32(tb.insns), u32(tb.records)):
        to = stitch_end(env, to, rec)
        rec = Record(rec + RECORD_SIZE)
    env.code_used += (u64(pointer_difference(to, start)) + 15) & ~u64(15)
    if is_stitched(env, ptr(tb.head)):
        store8(ptr(tb.head), 0, u8(JUMP))  # who goes to the code before
        store32(ptr(tb.head), 1, u32(pointer_difference(start, ptr(tb.head) + 5)))
    if tb.code == tb.head:
        tb.code = start
    tb.head = start


@native(extern=True)
def guest_keep_stack(env: ExecEnv) -> None:
    """Call `keep_stack` for the page that the stack pointer is on."""


@native(threaded=True)
def record_on_stack(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """The same, because it is another page of the stack than before, or crosses two."""
    guest_keep_stack(env)
    return resume(record_code(env, Record(rec)), rec)


@native(threaded=True)
def record_handled(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """An instruction that its stencil leaves to the form's handler."""
    return resume(record_code(env, Record(rec)), rec)
