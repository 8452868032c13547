"""Finding and running blocks: jump cache, block hash, chaining, and the loop around it all.

Everything here is native code. `cpu_exec` enters threaded code at a block's head; threaded code
goes from record to record and block to block by tail calls and returns only when something needs
the loop: a fault, an interrupt, an empty budget, a form that is not compiled yet.

A front-end supplies the three `guest_…` functions.
"""

from __future__ import annotations

from pytcg.exec.debug import DebugReason
from pytcg.exec.exits import Exit
from pytcg.exec.forms import record_code
from pytcg.exec.hooks import refund
from pytcg.exec.invalidate import (
    DEAD,
    fill_jump,
    hash_slot,
    invalidate_byte,
    jump_slot,
    lines_of,
    page_has_code,
    page_of,
    tb_flush,
)
from pytcg.exec.layout import (
    FILL_LOG,
    MAX_COUNTS,
    MMU_MODES,
    PAGE_MASK,
    PAGE_SIZE,
    RECORD_SIZE,
    TB,
    TLB_SIZE,
    Branch,
    ExecEnv,
    Jump,
    Link,
    Page,
    Record,
    Slot,
    Tb,
    TlbEntry,
)
from pytcg.exec.regions import (
    BLOCK_BYTES,
    BLOCK_INSNS,
    HOT_BITS,
    count_anew,
    count_entry,
    leave_regions,
    note_context,
    region_install,
)
from pytcg.exec.stitch import lead_exit, stitch_block
from pytcg.exec.trap import guest_alone
from pytcg.softmmu.access import (
    NO_PAGE,
    NOT_RAM,
    Access,
    forget_pages,
    is_global,
    ram_offset,
    tlb_entry,
    tlb_fill,
)
from pytcg_native import (
    NULL,
    address_of,
    attempt,
    enter,
    i64,
    likely,
    load16,
    native,
    ptr,
    resume,
    store16,
    symbol,
    u8,
    u32,
    u64,
    unlikely,
)

HEAD = TB.size
_TLB_ENTRIES = MMU_MODES * TLB_SIZE


@native(extern=True)
def guest_translate_block(env: ExecEnv, tb: Tb, linear: u64, offset: u64, limit: u32) -> None:
    """Decode up to ``limit`` instructions at a linear address (RAM offset ``offset``) into ``tb``.

    Fills the records after the head and tb.records, insns, size, physical2 and code. May raise a
    fetch fault (second page) if not even the first instruction can be read.
    """


@native(extern=True)
def guest_deliver(env: ExecEnv) -> None:
    """Deliver the exception in env.exception_*; may raise the next one."""


@native(extern=True)
def guest_poll(env: ExecEnv) -> None:
    """Take a pending interrupt if there is one; may raise."""


# Lookup ----------------------------------------------------------------------------------------


@native(inline=True)
def lookup_block(env: ExecEnv) -> ptr:
    """The block at env.pc, from the jump cache if it is there."""
    slot: Jump = jump_slot(env, env.pc)
    if likely(slot.tag == env.pc ^ env.jump_salt):
        tb: Tb = Tb(slot.tb)
        if likely(tb.cs_base == env.code_base):
            return ptr(tb)
    return tb_find(env)


@native
def fetch_offset(env: ExecEnv, linear: u64) -> u64:
    """RAM offset of code at a linear address; raises fetch faults."""
    entry: TlbEntry = tlb_entry(env, linear)
    if likely(entry.execute == linear & PAGE_MASK):
        return linear + entry.addend
    offset: u64 = ram_offset(env, tlb_fill(env, linear, Access.EXECUTE))
    if offset == NOT_RAM:
        return NOT_RAM
    return offset & 0x7FFF_FFFF_FFFF_FFFF


@native
def tb_find(env: ExecEnv) -> ptr:
    """The block at env.pc in the present mode, translated if there is none; may raise."""
    pc: u64 = env.pc
    linear: u64 = (env.code_base + pc) & env.linear_mask
    offset: u64 = fetch_offset(env, linear)
    if unlikely(offset == NOT_RAM):
        env.exit_reason = Exit.NOT_RAM
        return ptr(address_of(env.leave))
    tb: Tb = Tb(hash_slot(env, offset).record)
    while tb != NULL:
        if (tb.physical == offset and tb.pc == pc and tb.flags == env.mode
                and tb.cs_base == env.code_base
                and (likely(tb.physical2 == NO_PAGE) or second_page_fits(env, tb, linear))):
            break
        tb = Tb(tb.hash_next)
    if tb == NULL:
        tb = Tb(tb_generate(env, linear, offset, BLOCK_INSNS))
        tb_insert(env, tb)
        if unlikely(env.jit_at_once != 0):
            note_context(env, tb)
            env.jit_block = ptr(tb)
            env.exit_reason = Exit.HOT
            return ptr(address_of(env.leave))
    kept: bool = is_global(env, linear) and tb.physical2 == NO_PAGE
    fill_jump(env, jump_slot(env, pc), pc ^ env.jump_salt, ptr(tb), kept)
    return ptr(tb)


@native
def second_page_fits(env: ExecEnv, tb: Tb, linear: u64) -> bool:
    return fetch_offset(env, (linear | (PAGE_SIZE - 1)) + 1) == tb.physical2


@native
def tb_generate(env: ExecEnv, linear: u64, offset: u64, limit: u32) -> ptr:
    """Translate a block into the arena; it is not findable yet."""
    full: bool = env.arena_used + BLOCK_BYTES > env.arena_limit
    if unlikely(full or env.tb_made >= MAX_COUNTS - 1):
        tb_flush(env)
    env.arena_used = (env.arena_used + 63) & ~u64(63)
    tb: Tb = Tb(env.arena + env.arena_used)
    tb.physical = offset
    tb.physical2 = NO_PAGE
    tb.pc = env.pc
    tb.flags = env.mode
    tb.cs_base = env.code_base
    tb.count = env.counts + u32(env.tb_made << 1)
    count_anew(env, tb)
    tb.members = NULL
    tb.hash_next = NULL
    tb.unworthy = 0
    tb.context = 0
    tb.entered = 0
    tb.done = 0
    if unlikely(ram_offset(env, linear) & 0x7FFF_FFFF_FFFF_FFFF != offset) or env.pc != linear:
        env.aliased = 1
    guest_translate_block(env, tb, linear, offset, limit)
    tb.head = NULL
    if tb.code == symbol("tb_head"):
        tb.head = tb.code
        stitch_block(env, tb)
    return ptr(tb)


@native
def tb_insert(env: ExecEnv, tb: Tb) -> None:
    """Keep a block: in the arena, the hash, and its pages' lists."""
    env.arena_used += HEAD + u64(tb.records) * RECORD_SIZE
    env.tb_count += 1
    slot: Slot = hash_slot(env, tb.physical)
    tb.hash_next = slot.record
    slot.record = ptr(tb)
    link_pages(env, tb)


@native
def link_pages(env: ExecEnv, tb: Tb) -> None:
    """Let stores find a block by the pages it was made from."""
    tb.made_before = env.tb_last
    env.tb_last = ptr(tb)
    env.tb_made += 1
    protect_page(env, tb.physical)
    page: Page = page_of(env, tb.physical)
    tb.page_next[0] = page.first
    page.first = ptr(tb)
    page.lines |= lines_of(tb.physical, u64(tb.size))
    if tb.physical2 != NO_PAGE:
        protect_page(env, tb.physical2)
        second: Page = page_of(env, tb.physical2)
        tb.page_next[1] = second.spilling
        second.spilling = ptr(tb)
        first_part: u64 = PAGE_SIZE - (tb.physical & (PAGE_SIZE - 1))
        second.lines |= lines_of(u64(0), tb.size - first_part)


@native
def protect_page(env: ExecEnv, offset: u64) -> None:
    """Make stores to a page that gets its first block take the slow path, by every alias."""
    if page_has_code(env, offset):
        return
    forget_pages(env)
    page: u64 = offset & PAGE_MASK
    if env.tlb_fills <= FILL_LOG:
        for i in range(env.tlb_fills):
            forbid_stores(TlbEntry(Slot(env.tlb_log + (i << 3)).record), page)
        for k in range(env.global_tlb_fills):
            forbid_stores(TlbEntry(Slot(env.global_tlb_log + (k << 3)).record), page)
    else:
        for i in range(u64(0), u64(_TLB_ENTRIES)):
            forbid_stores(TlbEntry(env.tlbs + (i << 5)), page)


@native(inline=True)
def forbid_stores(entry: TlbEntry, page: u64) -> None:
    """Take the write tag of an entry for the RAM page at an offset."""
    if entry.write != NO_PAGE and entry.write + entry.addend == page:
        entry.write = NO_PAGE


# Threaded code that is no instruction ----------------------------------------------------------


@native(threaded=True)
def tb_head(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """A block's head: account for its instructions, see whether anybody wants the loop."""
    first: ptr = enter_block(env, rec)
    if first == NULL:
        return NULL
    count_entry(env, Tb(rec))
    return first


@native(threaded=True)
def tb_head_unpaid(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """`tb_head` for a stitched head, which has counted already."""
    env.budget += i64(Tb(rec).insns)
    if load16(ptr(env), Tb(rec).count) == 0:
        store16(ptr(env), Tb(rec).count, (1 << HOT_BITS) - 1)
    return resume(symbol("tb_head"), rec)


@native(inline=True)
def enter_block(env: ExecEnv, rec: ptr) -> ptr:
    """The record to begin with; NULL if the loop is wanted."""
    tb: Tb = Tb(rec)
    budget: i64 = env.budget - i64(tb.insns)
    if unlikely(budget < 0) or unlikely(env.exit_request != 0):
        env.pc = tb.pc
        if env.exit_request == 0:
            env.exit_reason = Exit.BUDGET
        return NULL
    env.budget = budget
    return rec + HEAD


@native(threaded=True)
def tb_lookup(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """Go on at env.pc."""
    return lookup_block(env)


@native(threaded=True)
def tb_resume(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """Go on at env.pc in threaded code: a region has left an instruction to it."""
    tb: ptr = lookup_block(env)
    if Tb(tb).members == NULL or env.exit_reason != Exit.NONE:
        return tb
    # Its code may be a region that would leave at once again.
    first: ptr = enter_block(env, tb)
    if first == NULL:
        return NULL
    return first


@native(threaded=True)
def tb_stale(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """The head of a dead block: look its pc up again."""
    env.pc = Tb(rec).pc
    return tb_find(env)


@native(threaded=True)
def record_stale(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """A record of a dead block: it was being run when it died."""
    env.pc = Record(rec).pc
    refund(env, rec)
    return tb_find(env)


@native(threaded=True)
def tb_chain(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """A successor on the same page: find it, and go straight there from now on."""
    env.pc = Link(rec).pc
    slot: Slot = Slot(Link(rec).slot)
    flushes: u64 = env.tb_flushes
    tb: ptr = lookup_block(env)
    if env.exit_reason != Exit.NONE:
        return tb
    # After a flush the slot may be part of another block.
    if likely(flushes == env.tb_flushes) and Tb(tb).physical2 == NO_PAGE:
        slot.record = tb
        lead_exit(env, Link(rec), Tb(tb))
    return tb


@native(threaded=True)
def tb_jump(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """A successor in what may be another mode: look it up each time."""
    env.pc = Link(rec).pc
    return lookup_block(env)


@native(threaded=True)
def tb_hop(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """A successor on another page: look it up when it is dead or mappings may have changed."""
    link: Link = Link(rec)
    if likely(link.stamp == env.map_stamp and Tb(link.tb).flags != DEAD):
        return ptr(link.tb)
    env.pc = link.pc
    flushes: u64 = env.tb_flushes
    tb: ptr = lookup_block(env)
    if env.exit_reason == Exit.NONE and flushes == env.tb_flushes:
        link.tb = tb
        link.stamp = env.map_stamp
    return tb


@native(threaded=True)
def tb_goto(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """The end of a block that no control transfer ends."""
    return ptr(Branch(rec).taken)


@native(threaded=True)
def tb_until(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """The address to stop before."""
    env.pc = Record(rec).pc
    refund(env, rec)
    env.exit_reason = Exit.UNTIL
    return NULL


@native(threaded=True)
def record_missing(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """An instruction whose form was not compiled when the block was made."""
    code: ptr = record_code(env, Record(rec))
    if code != NULL:
        Record(rec).code = code
        return rec
    env.pc = Record(rec).pc
    if Record(rec).position != 0:
        env.block_skip = env.pc
    refund(env, rec)
    env.exit_reason = Exit.MISSING_FORMS
    return NULL


@native(threaded=True)
def tb_head_hooked(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """Head of a block with hooks: it is never hot."""
    first: ptr = enter_block(env, rec)
    if first == NULL:
        return NULL
    return first


@native(inline=True)
def runnable(env: ExecEnv, rec: ptr) -> bool:
    """Whether a record is an instruction with its code: not a place to stop, nor a missing form."""
    if Record(rec).code == symbol("record_hooked") or Record(rec).code == symbol("record_trapped"):
        return record_code(env, Record(rec)) != NULL and env.stop_request == 0
    if Record(rec).code == symbol("record_missing"):
        code: ptr = record_code(env, Record(rec))
        if code == NULL:
            return False
        Record(rec).code = code
    return Record(rec).code != symbol("tb_until")


@native(threaded=True)
def tb_leave(env: ExecEnv, rec: ptr, ram: ptr) -> ptr:
    """Leave threaded code; env.exit_reason says why."""
    return NULL


@native
def set_until(env: ExecEnv, wanted: u32, pc: u64) -> None:
    """Where to stop: kill the blocks that stopped at the place before, and those that should."""
    if wanted == u32(env.until_set) and (wanted == 0 or pc == env.until):
        return
    if env.aliased != 0:
        tb_flush(env)
    else:
        if env.until_set != 0:
            kill_at(env, env.until)
        if wanted != 0:
            kill_at(env, pc)
    env.until_set = u8(wanted)
    env.until = pc


@native
def kill_at(env: ExecEnv, physical: u64) -> None:
    offset: u64 = ram_offset(env, physical)
    if offset != NOT_RAM:
        invalidate_byte(env, offset & 0x7FFF_FFFF_FFFF_FFFF)


# The loop --------------------------------------------------------------------------------------


@native
def run_block(env: ExecEnv) -> None:
    """Run threaded code from env.pc until it returns; may raise a fetch fault."""
    env.fault_record = NULL
    rec: ptr = lookup_block(env)
    if env.exit_reason != Exit.NONE:
        return
    if env.exit_request == 0 and i64(Tb(rec).insns) > env.budget:
        if env.budget_soft != 0:
            env.exit_reason = Exit.SLICE
            return
        # The rest of the budget ends within the block: make one that fits, for once.
        linear: u64 = (env.code_base + env.pc) & env.linear_mask
        rec = tb_generate(env, linear, fetch_offset(env, linear), u32(env.budget))
        env.arena_used += BLOCK_BYTES
        link_pages(env, Tb(rec))
        env.block_skip = Tb(rec).pc + Tb(rec).size
    enter(Record(rec).code, ptr(env), rec, ptr(env.ram))


@native
def account_fault(env: ExecEnv) -> None:
    """An instruction that faults counts as one; so does a fetch that does, if the budget has room.

    Without room the fetch belongs to the next run: its fault is forgotten and will come again.
    """
    if env.fault_record != NULL:
        env.block_skip = env.pc
        refund(env, ptr(env.fault_record))
    elif env.budget <= 0:
        env.exception_pending = 0
        env.exit_reason = Exit.BUDGET
        return
    env.budget -= i64(1)


@native
def debug_leave(env: ExecEnv) -> None:
    """A debugger's stop: the instruction that met a watchpoint has not been run."""
    if env.debug_reason == DebugReason.WATCH:
        env.exception_pending = 0
        if env.fault_record != NULL:
            refund(env, ptr(env.fault_record))
        env.block_skip = env.pc
        env.step_pending = 0  # its trap
    env.exit_reason = Exit.DEBUG


@native
def run_again(env: ExecEnv) -> None:
    """An instruction was given up (`exec.trap`): have it run alone."""
    env.exception_pending = 0
    env.rerun = 0
    env.step_pending = 0
    if env.fault_record != NULL:
        refund(env, ptr(env.fault_record))
    env.block_skip = env.pc
    guest_alone(env)


@native
def cpu_exec(env: ExecEnv) -> u32:
    """Run the guest until there is a reason (`Exit`) to return to Python."""
    env.exit_reason = Exit.NONE
    leave_regions(env)
    while True:
        if env.exception_pending != 0:
            env.exception_pending = 0
            attempt(guest_deliver(env))
            if unlikely(env.debug_reason != 0):
                env.exit_reason = Exit.DEBUG
        # Also after a delivery: a handler that can't be fetched must not shut requests out.
        waits: bool = env.inhibit > 1 or (env.inhibit == 1 and env.step_pending == 0)
        if (env.exit_request != 0 and not waits and env.exception_pending == 0
                and env.exit_reason == Exit.NONE):  # fmt: skip
            env.exit_request = 0
            leave_regions(env)
            if env.ready_tail != env.ready_head:
                region_install(env)
            attempt(guest_poll(env))
            if unlikely(env.debug_reason != 0):
                env.exit_reason = Exit.DEBUG
            if env.stop_request != 0 and env.exit_reason == Exit.NONE:
                env.exit_reason = Exit.REQUEST
        if env.exit_reason != Exit.NONE:
            return env.exit_reason
        if env.exception_pending == 0:
            if env.budget <= 0:
                return Exit.BUDGET
            env.alone = 0
            env.debug_restarts = 1
            attempt(run_block(env))
            env.debug_restarts = 0
            if unlikely(env.debug_reason != 0):
                debug_leave(env)
            elif env.exception_pending != 0:
                if unlikely(env.rerun != 0):
                    run_again(env)
                else:
                    account_fault(env)
            elif env.exit_reason == Exit.NOT_RAM and env.budget <= 0:
                env.exit_reason = Exit.BUDGET
            if env.exit_reason == Exit.BUDGET and env.budget > 0:
                env.exit_reason = Exit.NONE
