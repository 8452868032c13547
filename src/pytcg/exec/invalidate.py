"""Killing translated blocks: a store into code, a flush of everything.

A dead block's records are all overwritten with code that looks the pc up again, so a block that
rewrites itself goes on with fresh code at the very next instruction, and chained predecessors
find the new block without being unlinked.
"""

from __future__ import annotations

from pytcg.exec.layout import (
    FILL_LOG,
    JUMP,
    JUMP_CACHE_BITS,
    JUMP_CACHE_SIZE,
    LINE_BITS,
    MEMBER_SIZE,
    PAGE_BITS,
    PAGE_SIZE,
    RECORD_SIZE,
    TB,
    TB_HASH_BITS,
    TB_HASH_SIZE,
    ExecEnv,
    Jump,
    Member,
    Page,
    Record,
    Region,
    Slot,
    Tb,
)
from pytcg.exec.stitch import close_head, open_head
from pytcg_native import NULL, address_of, fill, likely, native, ptr, symbol, u32, u64

DEAD = 0xFFFF_FFFF
"""Flags of a dead block: no mode has them."""

_PAGE_BYTES = Page.layout.size
_FEW = 4096
_LARGE = 64 << 30
"""A flush of few blocks, or of a large memory's, goes block by block."""
_JUMP_BYTES = JUMP_CACHE_SIZE * JUMP.size
_HASH_BYTES = TB_HASH_SIZE * 8
_HEAD = TB.size
_HALF = JUMP_CACHE_BITS // 2
_HALF_MASK = (1 << _HALF) - 1
_LAST_LINE = 63
_ALL_LINES = (1 << 64) - 1


@native(inline=True)
def page_of(env: ExecEnv, offset: u64) -> Page:
    return Page(env.pages + (offset >> PAGE_BITS) * _PAGE_BYTES)


@native(inline=True)
def page_has_code(env: ExecEnv, offset: u64) -> bool:
    """Whether a translated block touches the page of a RAM offset."""
    page: Page = page_of(env, offset)
    return page.first != NULL or page.spilling != NULL


@native(inline=True)
def lines_of(offset: u64, size: u64) -> u64:
    """The lines of a page that ``size`` bytes (at least one) touch, as far as they are in it."""
    place: u64 = offset & (PAGE_SIZE - 1)
    last: u64 = (place + (size - 1)) >> LINE_BITS
    if last > _LAST_LINE:
        last = _LAST_LINE
    return (u64(_ALL_LINES) << (place >> LINE_BITS)) & (u64(_ALL_LINES) >> (_LAST_LINE - last))


@native(inline=True)
def hash_slot(env: ExecEnv, offset: u64) -> Slot:
    """Where the chain of the blocks at a RAM offset begins."""
    mixed: u64 = (offset * 0x9E37_79B9_7F4A_7C15) >> (64 - TB_HASH_BITS)
    return Slot(env.hash + (mixed << 3))


@native(inline=True)
def jump_slot(env: ExecEnv, pc: u64) -> Jump:
    """The jump cache's slot for a pc: the page picks the upper half of the index."""
    low: u64 = (pc ^ (pc >> _HALF)) & _HALF_MASK
    high: u64 = (pc >> PAGE_BITS) & _HALF_MASK
    return Jump(env.jumps + (((high << _HALF) | low) << 4))


@native
def tb_unlink(env: ExecEnv, tb: Tb) -> None:
    """Take a block out of its hash chain: code that patches itself would fill it with dead ones."""
    slot: Slot = hash_slot(env, tb.physical)
    if slot.record == ptr(tb):
        slot.record = tb.hash_next
        return
    other: Tb = Tb(slot.record)
    while other != NULL:
        if other.hash_next == ptr(tb):
            other.hash_next = tb.hash_next
            return
        other = Tb(other.hash_next)


@native
def region_kill(env: ExecEnv, tb: Tb) -> None:
    """A block dies: so do the regions made from it."""
    member: Member = Member(tb.members)
    while member != NULL:
        region: Region = Region(member.region)
        if region.dead == 0:
            region_remove(env, region)
        member = Member(member.following)


@native(inline=True)
def enters_region(tb: Tb) -> bool:
    """Whether a block's code is that of a region."""
    return tb.members != NULL and tb.code != tb.head and tb.code != symbol("tb_stale")


@native
def region_remove(env: ExecEnv, region: Region) -> None:
    """Give a region's entries their own heads back."""
    region.dead = 1
    env.regions_live -= 1
    env.regions_died += 1
    member: Member = Member(address_of(region.members[0]))
    for _i in range(region.count):
        tb: Tb = Tb(member.tb)
        if tb.flags != DEAD and tb.code == region.code:
            tb.code = tb.head
            open_head(env, tb)
        member = Member(member + MEMBER_SIZE)


@native
def tb_kill(env: ExecEnv, tb: Tb) -> None:
    """Make a block unfindable, and every way into it a look-up."""
    tb_unlink(env, tb)
    if tb.members != NULL:
        region_kill(env, tb)
    tb.flags = DEAD
    tb.code = symbol("tb_stale")
    close_head(env, tb)
    stale: ptr = symbol("record_stale")
    record: Record = Record(tb + _HEAD)
    for _i in range(tb.records):
        record.code = stale
        record = Record(record + RECORD_SIZE)


@native
def invalidate_write(env: ExecEnv, offset: u64, size: u32) -> None:
    """Kill the blocks that overlap ``size`` bytes at a RAM offset, within one page."""
    page: Page = page_of(env, offset)
    if likely(page.lines & lines_of(offset, u64(size)) == 0):
        return
    page.lines = 0
    end: u64 = offset + size
    kept: ptr = NULL
    tb: Tb = Tb(page.first)
    while tb != NULL:
        following: Tb = Tb(tb.page_next[0])
        if tb.flags != DEAD:
            if tb.physical < end and offset < tb.physical + tb.size:
                tb_kill(env, tb)
            else:
                tb.page_next[0] = kept
                kept = ptr(tb)
                page.lines |= lines_of(tb.physical, u64(tb.size))
        tb = following
    page.first = kept
    _invalidate_spilling(env, page, offset)


@native
def _invalidate_spilling(env: ExecEnv, page: Page, offset: u64) -> None:
    """The same for blocks whose last instruction runs on into this page from the one before."""
    kept: ptr = NULL
    tb: Tb = Tb(page.spilling)
    while tb != NULL:
        following: Tb = Tb(tb.page_next[1])
        if tb.flags != DEAD:
            first_part: u64 = PAGE_SIZE - (tb.physical & (PAGE_SIZE - 1))
            if offset < tb.physical2 + tb.size - first_part:
                tb_kill(env, tb)
            else:
                tb.page_next[1] = kept
                kept = ptr(tb)
                page.lines |= lines_of(u64(0), tb.size - first_part)
        tb = following
    page.spilling = kept


@native
def invalidate_physical(env: ExecEnv, offset: u64, length: u64) -> None:
    """Kill all blocks in a range of the RAM window (a device or the host wrote there)."""
    at: u64 = offset
    while at < offset + length:
        page_end: u64 = (at | (PAGE_SIZE - 1)) + 1
        end: u64 = page_end if page_end < offset + length else offset + length
        if page_has_code(env, at):
            invalidate_write(env, at, u32(end - at))
        at = end


@native
def jump_cache_flush(env: ExecEnv) -> None:
    """Forget which block starts at which virtual address."""
    if env.jump_fills > FILL_LOG or env.global_jump_fills > FILL_LOG:
        fill(ptr(env.jumps), 0xFF, _JUMP_BYTES)
    else:
        forget_jumps(ptr(env.jump_log), env.jump_fills)
        forget_jumps(ptr(env.global_jump_log), env.global_jump_fills)
    env.jump_fills = 0
    env.global_jump_fills = 0


@native
def jump_cache_flush_local(env: ExecEnv) -> None:
    """The same, but for blocks on global pages."""
    if env.jump_fills > FILL_LOG:
        jump_cache_flush(env)
        return
    forget_jumps(ptr(env.jump_log), env.jump_fills)
    env.jump_fills = 0


@native(inline=True)
def forget_jumps(log: ptr, count: u64) -> None:
    for i in range(count):
        Jump(Slot(log + (i << 3)).record).tag = 0xFFFF_FFFF_FFFF_FFFF


@native(inline=True)
def fill_jump(env: ExecEnv, slot: Jump, tag: u64, tb: ptr, everywhere: bool) -> None:
    """Let the jump cache know a block; ``everywhere`` if it is on a global page."""
    slot.tag = tag
    slot.tb = tb
    if everywhere:
        if env.global_jump_fills < FILL_LOG:
            Slot(env.global_jump_log + (env.global_jump_fills << 3)).record = ptr(slot)
        env.global_jump_fills += 1
    else:
        if env.jump_fills < FILL_LOG:
            Slot(env.jump_log + (env.jump_fills << 3)).record = ptr(slot)
        env.jump_fills += 1


@native(inline=True)
def region_count(env: ExecEnv, tb: Tb) -> None:
    """Add what is counted at an entry to the totals."""
    env.region_entries += u64(tb.entered)
    env.region_insns += u64(tb.done)
    tb.entered = 0
    tb.done = 0


@native
def region_totals(env: ExecEnv) -> None:
    """Bring the totals up to date."""
    tb: Tb = Tb(env.tb_last)
    while tb != NULL:
        region_count(env, tb)
        tb = Tb(tb.made_before)


@native
def forget_page(env: ExecEnv, offset: u64) -> None:
    page: Page = page_of(env, offset)
    page.first = NULL
    page.spilling = NULL
    page.lines = 0


@native
def forget_blocks(env: ExecEnv) -> None:
    """Empty the hash and the pages' lists, block by block."""
    tb: Tb = Tb(env.tb_last)
    while tb != NULL:
        hash_slot(env, tb.physical).record = NULL
        forget_page(env, tb.physical)
        if tb.physical2 != 0xFFFF_FFFF_FFFF_FFFF:
            forget_page(env, tb.physical2)
        tb = Tb(tb.made_before)


@native
def tb_flush(env: ExecEnv) -> None:
    """Drop every block; only while none is running."""
    region_totals(env)
    if env.tb_made < _FEW or env.ram_size > _LARGE:
        forget_blocks(env)
    else:
        fill(ptr(env.hash), 0, _HASH_BYTES)
        fill(ptr(env.pages), 0, (env.ram_size >> PAGE_BITS) * _PAGE_BYTES)
    jump_cache_flush(env)
    env.arena_used = env.arena_floor
    env.code_used = env.code_floor
    env.tb_flushes += 1
    if env.arena_floor == 0:
        env.whole_flushes += 1
    env.tb_count = 0
    env.tb_last = NULL
    env.tb_made = 0
    env.aliased = 0


@native
def invalidate_byte(env: ExecEnv, offset: u64) -> None:
    """Kill the blocks that a byte of RAM is part of."""
    if page_has_code(env, offset):
        invalidate_write(env, offset, u32(1))
