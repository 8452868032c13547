"""Regions: hot blocks compiled together. Counting, growing, putting in place, taking out again.

A block's head counts; when the count comes round, the block is put into the *hot ring*, which the
compile service empties. `region_grow` copies a block and the blocks it leads to into a request,
while the guest runs on. What comes back is a `Region`: code, and the blocks it was made from. The
service puts it into the *ready ring*; `region_install` makes it the code of its entries' heads,
between two runs of threaded code.

A region is a member list of blocks. When one of them dies the region goes: its entries get their
own heads back. Nothing runs in it then, since it leaves before it would store into its own code.
"""

from __future__ import annotations

from enum import IntEnum

from pytcg.exec.invalidate import DEAD, hash_slot, jump_slot, page_of
from pytcg.exec.layout import (
    BRANCH,
    MEMBER_SIZE,
    PAGE_MASK,
    RECORD_SIZE,
    TB,
    Branch,
    ExecEnv,
    Form,
    Jump,
    Link,
    Member,
    Record,
    Region,
    RequestBlock,
    RequestHead,
    ShapeRow,
    Slot,
    Tb,
    TlbEntry,
)
from pytcg.softmmu.access import NO_PAGE, Access, tlb_entry, tlb_fill
from pytcg_native import (
    NULL,
    address_of,
    attempt,
    call_host,
    load64,
    native,
    ptr,
    store64,
    symbol,
    u32,
    u64,
    unlikely,
)

HOT_BITS = 14
"""A block is hot each time this many low bits of its count come round."""
RING_SIZE = 1024
MAX_BLOCKS = 48
MAX_INSNS = 320
"""Limits of a region."""
BLOCK_INSNS = 40
"""Instructions a block has at most (`pytcg.exec.dispatch`)."""

JUMPS, CALLS = 1 << 17, 1 << 18
"""In a form's effects: a computed jump, a computed call. Its record holds the last target's pc."""
_TAKEN = BRANCH.offset("taken")

_HEAD = TB.size
_FORM_SIZE = Form.layout.size
_REQUEST_HEAD = RequestHead.layout.size
_REQUEST_BLOCK = RequestBlock.layout.size
_SHAPE_ROW = ShapeRow.layout.size
REQUEST_BYTES = _REQUEST_HEAD + MAX_BLOCKS * (_REQUEST_BLOCK + BLOCK_INSNS * RECORD_SIZE)
"""Room that a request may take, whatever it reads while blocks come and go."""


class Ending(IntEnum):
    """How a block of a request ends."""

    INDIRECT = 0  # by its last instruction: an indirect transfer, or one that leaves for good
    BRANCH = 1    # by a direct transfer: `imm` is where it goes, `disp` what follows it
    FALL = 2      # it runs on into the next address


# Counting ----------------------------------------------------------------------------------------


@native(inline=True)
def count_entry(env: ExecEnv, tb: Tb) -> None:
    """Count one run of a block; report it when it is hot."""
    hits: u32 = tb.hits + 1
    tb.hits = hits
    if unlikely((hits & ((1 << HOT_BITS) - 1)) == 0):
        block_is_hot(env, tb)


@native
def block_is_hot(env: ExecEnv, tb: Tb) -> None:
    """Put a block into the hot ring; wake the compile service if it sleeps."""
    if env.hot_ring == NULL:
        return
    Slot(env.hot_ring + u64((env.hot_head & (RING_SIZE - 1)) << 3)).record = ptr(tb)
    env.hot_head += 1
    if env.hot_sleeps != 0:
        env.hot_sleeps = 0
        call_host(ptr(env.hot_event), "void")


# Growing -----------------------------------------------------------------------------------------


@native
def block_at(env: ExecEnv, near: Tb, pc: u64) -> ptr:
    """The translated block at ``pc`` in the mode of the block ``near``; NULL if there is none.

    Looks at what is translated and mapped already and changes nothing, so that the compile service
    may call it while the guest runs.
    """
    linear: u64 = (near.cs_base + pc) & env.linear_mask
    near_linear: u64 = (near.cs_base + near.pc) & env.linear_mask
    page: u64 = linear & PAGE_MASK
    offset: u64 = near.physical + (linear - near_linear)
    if page != near_linear & PAGE_MASK:
        # Where that is now only the jump cache can tell without a walk; `region_maps` makes sure.
        slot: Jump = jump_slot(env, pc)
        if slot.tag != pc ^ (u64(near.flags) << 48):
            return NULL
        offset = Tb(slot.tb).physical
    tb: Tb = Tb(hash_slot(env, offset).record)
    while tb != NULL:
        if (tb.physical == offset and tb.pc == pc and tb.flags == near.flags
                and tb.cs_base == near.cs_base and tb.physical2 == NO_PAGE):  # fmt: skip
            return ptr(tb)
        tb = Tb(tb.hash_next)
    return NULL


@native
def block_ending(tb: Tb) -> u32:
    """The `Ending` of a block."""
    if tb.records == tb.insns:
        return Ending.INDIRECT
    after: Record = Record(tb + (_HEAD + u64(tb.insns) * RECORD_SIZE))
    return Ending.FALL if after.code == symbol("tb_goto") else Ending.BRANCH


@native
def request_has(request: RequestHead, tb: ptr) -> bool:
    block: RequestBlock = RequestBlock(request + _REQUEST_HEAD)
    for _i in range(request.blocks):
        if block.tb == tb:
            return True
        block = RequestBlock(block + _REQUEST_BLOCK)
    return False


@native
def request_add(env: ExecEnv, request: RequestHead, tb: Tb, least: u32) -> None:
    """Take a block into a request if it is worth it and there is room."""
    if tb == NULL:
        return
    if tb.hits < least and tb.members == NULL:
        return
    if tb.code != symbol("tb_head") and tb.members == NULL:
        return  # a head with a purpose: stepping, a shadow, a trace
    extra: u32 = tb.records - tb.insns
    if (extra != 0 and extra != 2) or request.blocks >= MAX_BLOCKS:
        return  # one: it ends at a place to stop before
    if request.insns + tb.insns > MAX_INSNS or request_has(request, ptr(tb)):
        return
    block: RequestBlock = RequestBlock(
        request + (_REQUEST_HEAD + u64(request.blocks) * _REQUEST_BLOCK))
    block.tb = ptr(tb)
    request.blocks += 1
    request.insns += tb.insns


@native
def last_effects(env: ExecEnv, tb: Tb) -> u64:
    """`JUMPS` or `CALLS` if a block ends in a computed jump or call, 0 for all others."""
    last: Record = Record(tb + (_HEAD + u64(tb.insns - 1) * RECORD_SIZE))
    if last.form >= u32(env.form_count):
        return 0
    return Form(env.form_list + u64(last.form) * _FORM_SIZE).effects & (JUMPS | CALLS)


@native
def add_page(env: ExecEnv, request: RequestHead, near: Tb, least: u32) -> None:
    """Take in the hot blocks of a page: where a computed jump goes is among them."""
    tb: Tb = Tb(page_of(env, near.physical).first)
    while tb != NULL:
        if block_at(env, near, tb.pc) == ptr(tb):
            request_add(env, request, tb, least)
        tb = Tb(tb.page_next[0])


@native
def request_begin(env: ExecEnv, request: RequestHead, seed: Tb) -> None:
    request.flushes = env.tb_flushes
    request.seed_pc = seed.pc
    request.mode = seed.flags
    request.blocks = 0
    request.insns = 0
    request.pages = 1


@native
def request_block(request: RequestHead, number: u32) -> ptr:
    return request + (_REQUEST_HEAD + u64(number) * _REQUEST_BLOCK)


@native
def describe_block(env: ExecEnv, request: RequestHead, seed: Tb, block: RequestBlock) -> None:
    """Fill a block of a request from what is translated."""
    tb: Tb = Tb(block.tb)
    block.pc = tb.pc
    if (tb.physical ^ seed.physical) & PAGE_MASK != 0:
        request.pages = 2
    block.hits = tb.hits
    block.insns = tb.insns
    block.ending = block_ending(tb)
    block.entry = u32(tb.members != NULL and tb.code != symbol("tb_head"))
    block.taken = 0
    block.fall = 0
    links: Link = Link(tb + (_HEAD + u64(tb.insns) * RECORD_SIZE))
    if block.ending == Ending.BRANCH:
        block.taken = links.pc
        block.fall = Link(links + RECORD_SIZE).pc
    elif block.ending == Ending.FALL:
        block.fall = Link(links + RECORD_SIZE).pc
    elif last_effects(env, tb) != 0:
        last: Branch = Branch(tb + (_HEAD + u64(tb.insns - 1) * RECORD_SIZE))
        block.taken = load64(ptr(last), _TAKEN)
        block.fall = tb.pc + tb.size


@native
def region_grow(env: ExecEnv, seed: Tb, request: RequestHead) -> u64:
    """Fill ``request`` with a region around a hot block; returns its bytes, 0 if it is not one.

    Breadth first along direct branches, to blocks that ran at least once for 64 runs of the seed.
    """
    request_begin(env, request, seed)
    least: u32 = seed.hits >> 6
    request_add(env, request, seed, u32(0))
    at: u32 = 0
    while at < request.blocks:
        block: RequestBlock = RequestBlock(request_block(request, at))
        tb: Tb = Tb(block.tb)
        describe_block(env, request, seed, block)
        jumps: bool = block.ending == Ending.INDIRECT and last_effects(env, tb) == JUMPS
        if block.ending != Ending.FALL and block.taken != 0:
            request_add(env, request, Tb(block_at(env, seed, block.taken)), least)
        if jumps:
            add_page(env, request, tb, least)
        elif block.fall != 0:
            request_add(env, request, Tb(block_at(env, seed, block.fall)), least)
        at += 1
    return request_records(env, request)


@native
def region_follow(env: ExecEnv, seed: Tb, request: RequestHead, shape: ptr, count: u64) -> u64:
    """The same along a shape known before (`ShapeRow`s, the seed's first); 0 if a block is missing.

    What a region grows to depends on counts. So that code can be found again, shapes are kept.
    """
    request_begin(env, request, seed)
    for i in range(u64(0), count):
        row: ShapeRow = ShapeRow(shape + i * _SHAPE_ROW)
        tb: ptr = ptr(seed) if i == 0 else block_at(env, seed, seed.pc + row.pc)
        if tb == NULL:
            return 0
        number: u32 = request.blocks
        request_add(env, request, Tb(tb), u32(0))
        if request.blocks == number:
            return 0
        block: RequestBlock = RequestBlock(request_block(request, number))
        describe_block(env, request, seed, block)
        block.entry = u32(row.entry)
        if block.ending == Ending.INDIRECT:
            block.taken = seed.pc + row.taken
            block.fall = seed.pc + row.fall
    return request_records(env, request)


@native
def request_records(env: ExecEnv, request: RequestHead) -> u64:
    """Append the blocks' records, with form keys for code and effects for form numbers."""
    out: Record = Record(request + (_REQUEST_HEAD + u64(request.blocks) * _REQUEST_BLOCK))
    for at in range(request.blocks):
        block: RequestBlock = RequestBlock(request_block(request, at))
        tb: Tb = Tb(block.tb)
        rec: Record = Record(tb + _HEAD)
        if block.insns > BLOCK_INSNS:
            return 0
        for _i in range(block.insns):
            if rec.form >= u32(env.form_count):
                return 0
            form: Form = Form(env.form_list + u64(rec.form) * _FORM_SIZE)
            store64(ptr(out), 0, form.key)
            out.imm = rec.imm
            out.disp = rec.disp
            out.pc = rec.pc
            out.a = rec.a
            out.b = rec.b
            out.base = rec.base
            out.index = rec.index
            out.segment = rec.segment
            out.shift = rec.shift
            out.length = rec.length
            out.position = rec.position
            out.form = u32(form.effects)
            out = Record(out + RECORD_SIZE)
            rec = Record(rec + RECORD_SIZE)
        if tb.flags == DEAD or Record(tb + _HEAD).pc != block.pc:
            return 0
    if request.blocks == 0 or request.flushes != env.tb_flushes:
        return 0
    blocks: u64 = request.blocks
    insns: u64 = request.insns
    return _REQUEST_HEAD + blocks * _REQUEST_BLOCK + insns * RECORD_SIZE


# Entering ----------------------------------------------------------------------------------------


@native(cold=True)
def region_maps(env: ExecEnv, entry: Tb) -> u32:
    """Whether the pages of the region that ``entry`` enters are still where they were.

    Only regions on several pages ask, and only when some mapping has changed since the last time.
    """
    member: Member = Member(entry.members)
    while member != NULL and Region(member.region).code != entry.code:
        member = Member(member.following)
    if member == NULL:
        return 0
    region: Region = Region(member.region)
    other: Member = Member(address_of(region.members[0]))
    last: u64 = NO_PAGE
    for _i in range(region.count):
        tb: Tb = Tb(other.tb)
        if tb.physical & PAGE_MASK != last:
            last = tb.physical & PAGE_MASK
            linear: u64 = (tb.cs_base + tb.pc) & env.linear_mask
            code: TlbEntry = tlb_entry(env, linear)
            if code.execute != linear & PAGE_MASK:
                attempt(tlb_fill(env, linear, Access.EXECUTE))
                env.exception_pending = 0
            if code.execute != linear & PAGE_MASK or linear + code.addend != tb.physical:
                return 0
        other = Member(other + MEMBER_SIZE)
    entry.stamp = env.map_stamp
    return 1


# Installing --------------------------------------------------------------------------------------


@native
def region_install(env: ExecEnv) -> None:
    """Put the regions of the ready ring in place; no threaded code is running."""
    while env.ready_tail != env.ready_head:
        region: Region = Region(
            Slot(env.ready_ring + u64((env.ready_tail & (RING_SIZE - 1)) << 3)).record)
        env.ready_tail += 1
        if region_fits(env, region):
            region_place(env, region)
        else:
            env.regions_late += 1


@native
def region_fits(env: ExecEnv, region: Region) -> bool:
    """Whether all blocks a region was made from are still there."""
    if region.flushes != env.tb_flushes:
        return False
    member: Member = Member(address_of(region.members[0]))
    for _i in range(region.count):
        if Tb(member.tb).flags == DEAD:
            return False
        member = Member(member + MEMBER_SIZE)
    return True


@native
def region_place(env: ExecEnv, region: Region) -> None:
    """Make a region the code of its entries; all its blocks start counting anew."""
    member: Member = Member(address_of(region.members[0]))
    for _i in range(region.count):
        tb: Tb = Tb(member.tb)
        member.region = ptr(region)
        member.following = tb.members
        tb.members = ptr(member)
        tb.hits = 0
        tb.stamp = 0
        if member.entry != 0:
            tb.entry = member.entry - 1
            tb.code = ptr(region.code)
        member = Member(member + MEMBER_SIZE)
    env.regions_live += 1
