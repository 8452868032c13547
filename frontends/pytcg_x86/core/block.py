"""A block of records: forms and their code, superinstructions, successors, the end."""

from __future__ import annotations

from pytcg.exec.forms import form_at, record_code
from pytcg.exec.hooks import hook_block
from pytcg.exec.layout import (
    FORM_HASH_SIZE,
    PAGE_MASK,
    PAGE_SIZE,
    RECORD_SIZE,
    TB,
    Branch,
    ExecEnv,
    Link,
    Record,
    Tb,
)
from pytcg.exec.logevent import LogEvent
from pytcg.exec.trap import is_break
from pytcg.softmmu.access import NO_PAGE
from pytcg_native import (
    NULL,
    address_of,
    call_host,
    load32,
    native,
    ptr,
    store32,
    symbol,
    u8,
    u16,
    u32,
    u64,
    unlikely,
)
from pytcg_x86.core.flags import ALL_FLAGS, OPAQUE
from pytcg_x86.core.state import Env, Mode, Seg
from pytcg_x86.decode.decode import ATTRS, decode_insn
from pytcg_x86.decode.fetch import MAX_LENGTH, fill_fetch, more_code
from pytcg_x86.decode.formkey import EA_NONE, KEY_DEAD, KEY_EA, KEY_SECOND
from pytcg_x86.decode.opcodes import ATTR_BIT, COMPARES, FUSES, HAS_J, JCC

_HEAD = TB.size
END, BRANCH, STACK, SHADOW = (ATTR_BIT[name] for name in ("end", "branch", "stack", "shadow"))
_NEAR = 64


# Forms -------------------------------------------------------------------------------------------


@native
def form_index(env: ExecEnv, key: u64) -> u32:
    """A form's number, given out on first sight."""
    at: u64 = (key * 0x9E37_79B9_7F4A_7C15) >> 50
    while True:
        slot: ptr = ptr(env.form_hash) + (at << 2)
        index: u32 = load32(slot)
        if index == 0:
            index = u32(env.form_count)
            env.form_count += 1
            form_at(env, index).key = key
            store32(slot, 0, index)
            return index
        if form_at(env, index).key == key:
            return index
        at = (at + 1) & (FORM_HASH_SIZE - 1)


@native(inline=True)
def bind_form(env: ExecEnv, rec: Record, key: u64) -> None:
    rec.form = form_index(env, key)
    code: ptr = record_code(env, rec)
    rec.code = code if code != NULL else symbol("record_missing")


@native
def improve(env: ExecEnv, rec: Record, key: u64) -> None:
    """Use a better form if it is compiled; otherwise it is compiled with the next batch."""
    index: u32 = form_index(env, key)
    code: ptr = ptr(form_at(env, index).code)
    if code != NULL:
        rec.form = index
        rec.code = code


@native
def improve_block(env: ExecEnv, tb: Tb) -> None:
    """Superinstructions and dead flags, from the block's last instruction to its first."""
    count: u64 = tb.insns
    live: u64 = ALL_FLAGS
    after: u32 = 0
    for i in range(u64(0), count):
        at: u64 = count - 1 - i
        rec: Record = Record(tb + (_HEAD + at * RECORD_SIZE))
        key: u64 = form_at(env, rec.form).key
        attrs: u32 = ATTRS[key & 0xFFF]
        effects: u64 = form_at(env, rec.form).effects
        if form_at(env, rec.form).code == NULL:
            effects = OPAQUE
        writes: u64 = effects >> 8 & ALL_FLAGS
        if (attrs & FUSES) != 0 and (after & JCC) != 0 and i == 1:
            register_only: bool = (key >> KEY_EA & 3) == EA_NONE
            if register_only or (attrs & COMPARES) != 0:
                improve(env, rec, key | (form_at(env, Record(rec + RECORD_SIZE).form).key & 0xFFF)
                        << KEY_SECOND)
        elif writes != 0 and (writes & live) == 0:
            improve(env, rec, key | 1 << KEY_DEAD)
        live = (live & ~writes) | (effects & ALL_FLAGS)
        if (effects & OPAQUE) != 0:
            live = ALL_FLAGS
        after = attrs


# The block ---------------------------------------------------------------------------------------


@native
def link_record(env: Env, tb: Tb, record: ptr, slot: ptr, pc: u64) -> None:
    """A record that finds the successor at ``pc``, chaining it in if on the block's page."""
    link: Link = Link(record)
    link.pc = pc
    link.slot = slot
    link.stamp = ~u64(0)
    link.tb = NULL
    plain: bool = (env.mode & (Mode.STEP | Mode.INHIBIT)) == 0  # no instruction changes the mode
    whole: bool = tb.physical2 == NO_PAGE
    same: bool = ((env.code_base + pc) ^ (env.code_base + tb.pc)) & env.linear_mask & PAGE_MASK == 0
    link.code = symbol("tb_jump")
    if plain:
        link.code = symbol("tb_chain") if whole and same else symbol("tb_hop")


@native
def end_block(env: Env, tb: Tb, rec: ptr, records: u32, pc: u64) -> u32:
    """End a block that goes on at ``pc``; returns the number of records added."""
    Branch(rec).code = symbol("tb_goto")
    Branch(rec).pc = pc
    Branch(rec).taken = rec + RECORD_SIZE
    Record(rec).position = u8(tb.insns)
    link_record(env, tb, rec + RECORD_SIZE, address_of(Branch(rec).taken), pc)
    return 2


@native
def guest_translate_block(env: Env, tb: Tb, linear: u64, offset: u64, limit: u32) -> None:
    """See `pytcg.exec.dispatch`."""
    mode: u32 = env.mode
    tb.code = symbol("tb_head")
    most: u32 = limit
    if (mode & (Mode.STEP | Mode.INHIBIT)) != 0:
        most = 1
        tb.code = symbol("tb_head_shadow") if (mode & Mode.INHIBIT) != 0 else symbol("tb_head_step")
    pc: u64 = tb.pc
    first_left: u64 = PAGE_SIZE - (offset & (PAGE_SIZE - 1))
    done: u64 = 0
    records: u32 = 0
    tb.insns = 0
    open_end: bool = True
    while open_end:
        rec: Record = Record(tb + (_HEAD + u64(records) * RECORD_SIZE))
        if tb.insns >= most or done >= first_left:
            records += end_block(env, tb, ptr(rec), records, pc)
            break
        if unlikely(env.break_mask != 0) and is_break(env, (linear + done) & env.linear_mask) != 0:
            if tb.insns != 0:
                records += end_block(env, tb, ptr(rec), records, pc)
                break
            tb.code = symbol("tb_head_break")
        if env.until_set != 0 and env.until == pc:
            rec.code = symbol("tb_until")
            rec.pc = pc
            rec.position = u8(tb.insns)
            records += 1
            done += 1  # it is a block of that byte too: `set_until`
            break
        fill_fetch(env, linear + done, offset + done, NO_PAGE)
        key: u64 = decode_insn(env, rec, pc)
        if done + u64(rec.length) > first_left:
            if tb.insns > 0:
                records += end_block(env, tb, ptr(rec), records, pc)
                break
            tb.physical2 = more_code(env, linear) if first_left < MAX_LENGTH else NO_PAGE
            fill_fetch(env, linear, offset, tb.physical2)
            key = decode_insn(env, rec, pc)
        rec.pc = pc
        rec.position = u8(tb.insns)
        if unlikely(rec.length > MAX_LENGTH):
            rec.code = symbol("record_too_long")
            rec.form = 0
            records += 1
            tb.insns += 1
            done += MAX_LENGTH
            break
        bind_form(env, rec, key)
        records += 1
        tb.insns += 1
        done += rec.length
        attrs: u32 = ATTRS[key & 0xFFF]
        target: u64 = rec.imm
        pc = wrap_pc(env, pc + rec.length)
        after: ptr = rec + RECORD_SIZE
        if (attrs & HAS_J) != 0:
            Branch(rec).taken = after
            Branch(rec).fall = after + RECORD_SIZE
            link_record(env, tb, after, address_of(Branch(rec).taken), target)
            link_record(env, tb, after + RECORD_SIZE, address_of(Branch(rec).fall), pc)
            Record(after).position = u8(tb.insns)
            Record(after + RECORD_SIZE).position = u8(tb.insns)
            records += 2
            open_end = False
        elif (attrs & (END | BRANCH)) != 0 or (key & 0xFFF) < 2:
            open_end = False
        elif (attrs & SHADOW) != 0 and most > u32(tb.insns) + 1:
            most = u32(tb.insns) + 1  # the next instruction belongs to it, and then one may leave
    tb.records = u16(records)
    tb.size = u16(done)
    if not hook_block(env, tb) and tb.insns > 1:
        improve_block(env, tb)
    if unlikely(env.log != 0):
        log_block(env, tb)


@native
def log_block(env: Env, tb: Tb) -> None:
    """Report a new block, and have it report when it is entered."""
    if (env.log & LogEvent.ENTER) != 0 and tb.code != symbol("tb_head_break"):
        tb.code = symbol("tb_head_trace")
    if (env.log & LogEvent.BLOCK) != 0:
        call_host(ptr(env.log_event), "void", u32(LogEvent.BLOCK), ptr(tb), u64(0), u64(0))


@native(inline=True)
def wrap_pc(env: Env, pc: u64) -> u64:
    if (env.mode & Mode.CODE64) != 0:
        return pc
    return pc & 0xFFFF_FFFF if (env.mode & Mode.CODE32) != 0 else pc & 0xFFFF


@native
def through_stack(env: Env, address: u64) -> u32:
    """Whether the instruction that has faulted made its access at ``address`` through SS."""
    if env.fault_record == NULL:
        return 0
    rec: Record = Record(env.fault_record)
    key: u64 = form_at(env, rec.form).key
    stack: bool = (ATTRS[key & 0xFFF] & STACK) != 0
    if (key >> KEY_EA & 3) == EA_NONE:
        return u32(stack)
    near: bool = address - env.gpr[4] + _NEAR < 2 * _NEAR  # PUSH of what is in memory: which it was
    return u32(rec.segment == Seg.SS or (stack and near))
