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

from enum import IntEnum, IntFlag

from pytcg.exec.forms import form_at
from pytcg.exec.invalidate import (
    DEAD,
    enters_region,
    hash_slot,
    jump_slot,
    page_of,
    region_count,
    tb_flush,
)
from pytcg.exec.layout import (
    BRANCH,
    MAX_COUNTS,
    MEMBER_SIZE,
    PAGE_MASK,
    RECORD,
    RECORD_SIZE,
    RELATIVE,
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
    RequestRun,
    ShapeRow,
    Slot,
    Tb,
    TlbEntry,
)
from pytcg.exec.stitch import close_head, open_head, stitch_again
from pytcg.softmmu.access import NO_PAGE, Access, tlb_entry, tlb_fill
from pytcg_native import (
    NULL,
    address_of,
    attempt,
    call_host,
    load16,
    load64,
    native,
    pointer_difference,
    ptr,
    store16,
    store64,
    symbol,
    u8,
    u16,
    u32,
    u64,
    unlikely,
)

HOT_BITS = 16
"""The bits of a block's count; it is reported each time that it comes round."""
FIRST_HITS = (1 << HOT_BITS) - 1024
"""Where counts begin: after the first 1,024 runs a block's region is looked for, though not yet
compiled."""
RING_SIZE = 1024
JUDGED = 1024
"""Times that an entry is used between two looks at whether it is worth it."""
WORTH = 100
"""Instructions that a region must run at least each time it is entered."""
TRIES = 3
"""Regions, each made around another block, that an entry may turn out not to be worth it in."""
MAX_BLOCKS = 48
MAX_INSNS = 320
"""Limits of a region."""
MAX_CANDIDATES = 1024
"""Blocks that a region may grow by, at one time."""
BLOCK_INSNS = 40
"""Instructions a block has at most."""
BLOCK_BYTES = TB.size + (BLOCK_INSNS + 6) * RECORD_SIZE
"""Arena space a block may take: its head, its records, and what ends it."""
CHAIN = 4096
"""Blocks of a chain that are looked at."""

SEED_BITS = 15
"""Of the table of known seeds: 1 << 15 hashes."""
HIGH_HALF, HIGH_END, NEAR = 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FF00_0000, 1 << 27
"""What `is_near` calls near."""
NOWHERE = 1 << 62
"""The distance of what is not in a region, or not known."""

JUMPS, CALLS = 1 << 17, 1 << 18
"""In a form's effects: a computed jump, a computed call. Its record holds the last target's pc."""
_OPERANDS = RECORD.offset("a")
_TAKEN = BRANCH.offset("taken")

_HEAD = TB.size
_REQUEST_HEAD = RequestHead.layout.size
_REQUEST_BLOCK = RequestBlock.layout.size
_REQUEST_RUN = RequestRun.layout.size
_SHAPE_ROW = ShapeRow.layout.size
REQUEST_BYTES = _REQUEST_HEAD + MAX_BLOCKS * (
    _REQUEST_BLOCK + BLOCK_INSNS * RECORD_SIZE + _REQUEST_RUN)
"""Room that a request may take, whatever it reads while blocks come and go."""


class Near(IntFlag):
    """Fields of a request's record that are distances, though the guest's code has addresses."""

    IMM = 1
    DISP = 2


class Ending(IntEnum):
    """How a block of a request ends."""

    INDIRECT = 0  # by its last instruction: an indirect transfer, or one that leaves for good
    BRANCH = 1    # by a direct transfer: `imm` is where it goes, `disp` what follows it
    FALL = 2      # it runs on into the next address


@native(extern=True)
def guest_context(env: ExecEnv) -> u32:
    """What a region may take for granted at its seed, and has to check: 16 bits of the guest's."""
    return 0


# Counting ----------------------------------------------------------------------------------------


@native(inline=True)
def count_entry(env: ExecEnv, tb: Tb) -> None:
    """Count one run of a block; report it when it is hot."""
    count: u16 = load16(ptr(env), tb.count) + u16(1)
    store16(ptr(env), tb.count, count)
    if unlikely(count == 0):
        store16(ptr(env), tb.count, 1)  # 0 is what a stitched head leaves (`tb_head_unpaid`)
        tb.hits += u32(1 << HOT_BITS)
        block_is_hot(env, tb)


@native(inline=True)
def runs_of(env: ExecEnv, tb: Tb) -> u32:
    """How often a block has run since it was made, or since it is part of a region.

    What is no block any more has no count: the compile service may ask about it.
    """
    if tb.count - env.counts >= 2 * MAX_COUNTS:
        return 0
    return tb.hits + u32(load16(ptr(env), tb.count)) - FIRST_HITS


@native(inline=True)
def count_anew(env: ExecEnv, tb: Tb) -> None:
    """Begin a block's count."""
    tb.hits = 0
    store16(ptr(env), tb.count, FIRST_HITS)


@native(inline=True)
def note_context(env: ExecEnv, tb: Tb) -> None:
    """Remember the state that a block is entered in."""
    tb.context = u16(guest_context(env))


@native
def block_is_hot(env: ExecEnv, tb: Tb) -> None:
    """Put a block into the hot ring; wake the compile service if it sleeps."""
    note_context(env, tb)
    if tb.hits == 1 << HOT_BITS and tb.code == tb.head:
        stitch_again(env, tb)
    if env.hot_ring == NULL or tb.unworthy != 0:
        return
    if tb.hits == 1 << HOT_BITS and not seed_known(env, seed_hash(env, tb)):
        return
    Slot(env.hot_ring + u64((env.hot_head & (RING_SIZE - 1)) << 3)).record = ptr(tb)
    env.hot_head += 1
    if env.hot_sleeps != 0:
        env.hot_sleeps = 0
        call_host(ptr(env.hot_event), "void")


# Seeds -------------------------------------------------------------------------------------------


@native(inline=True)
def is_near(value: u64, pc: u64) -> bool:
    """Whether a number looks like an address in the code's own program, at the top of memory.

    A kernel is loaded at another address at each boot, and its code holds absolute addresses.
    """
    return HIGH_HALF <= value < HIGH_END and value - pc + NEAR < 2 * NEAR


@native(inline=True)
def mix(value: u64, more: u64) -> u64:
    value = (value ^ more) * 0x9E37_79B9_7F4A_7C15
    return value ^ (value >> 29)


@native
def seed_hash(env: ExecEnv, tb: Tb) -> u64:
    """A number for a block's code, the same wherever it lies; 0 if no block is there any more.

    The compile service asks late: the arena may have been emptied and hold other things there.
    """
    found: u64 = 0
    rec: Record = Record(tb + _HEAD)
    insns: u32 = tb.insns
    if insns > BLOCK_INSNS or not in_arena(env, ptr(tb)):
        return 0
    for i in range(insns):
        if rec.form >= u32(env.form_count):
            return 0
        found = mix(found, form_at(env, rec.form).key)
        found = mix(found, load64(ptr(rec), _OPERANDS))
        if i != insns - 1:
            if not is_near(rec.imm, tb.pc):
                found = mix(found, rec.imm)
            if rec.shift & RELATIVE != 0:
                found = mix(found, rec.disp - tb.pc)
            elif not is_near(rec.disp, tb.pc):
                found = mix(found, rec.disp)
        rec = Record(rec + RECORD_SIZE)
    return found | 1


@native
def seed_known(env: ExecEnv, seed: u64) -> bool:
    """Whether the table of seeds has one; the table is never full."""
    if env.seeds == NULL:
        return False
    at: u64 = seed >> (64 - SEED_BITS)
    while True:
        kept: u64 = load64(env.seeds + (at << 3))
        if kept == seed:
            return True
        if kept == 0:
            return False
        at = (at + 1) & ((1 << SEED_BITS) - 1)


# Growing -----------------------------------------------------------------------------------------


@native(inline=True)
def in_arena(env: ExecEnv, tb: ptr) -> bool:
    """Whether there may be a block, or what was one before the arena was emptied."""
    return u64(pointer_difference(tb, env.arena)) < env.arena_limit - BLOCK_BYTES


@native
def is_block(env: ExecEnv, tb: Tb) -> bool:
    """Whether a block is there still: reports outlive a flush, and other things may lie there."""
    if not in_arena(env, ptr(tb)):
        return False
    other: Tb = Tb(hash_slot(env, tb.physical).record)
    for _i in range(CHAIN):
        if ptr(other) == ptr(tb):
            return True
        if not in_arena(env, ptr(other)):
            return False
        other = Tb(other.hash_next)
    return False


@native
def block_at(env: ExecEnv, near: Tb, pc: u64) -> ptr:
    """The translated block at ``pc`` in the mode of the block ``near``; NULL if there is none.

    Looks at what is translated and mapped already and changes nothing, so that the compile service
    may call it while the guest runs. What it looks at may be dropped and written over meanwhile:
    no pointer is followed out of the arena, and none for ever. Who is mistaken finds out at
    the end, by the number of flushes.
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
        known: ptr = slot.tb
        if not in_arena(env, known):
            return NULL
        offset = Tb(known).physical
    tb: Tb = Tb(hash_slot(env, offset).record)
    for _i in range(CHAIN):
        if not in_arena(env, ptr(tb)):
            return NULL
        if (tb.physical == offset and tb.pc == pc and tb.flags == near.flags
                and tb.cs_base == near.cs_base and tb.physical2 == NO_PAGE):  # fmt: skip
            return ptr(tb)
        tb = Tb(tb.hash_next)
    return NULL


@native
def block_ending(tb: Tb, insns: u32) -> u32:
    """The `Ending` of a block."""
    if tb.records == insns:
        return Ending.INDIRECT
    after: Record = Record(tb + (_HEAD + u64(insns) * RECORD_SIZE))
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
def request_add(request: RequestHead, tb: Tb) -> bool:
    """Take a block into a request if it can be in a region and there is room."""
    if tb.head == NULL:
        return False  # a head with a purpose: stepping, a shadow, a trace
    insns: u32 = tb.insns
    if insns == 0 or insns > BLOCK_INSNS:
        return False  # no block any more
    extra: u32 = u32(tb.records) - insns
    if (extra != 0 and extra != 2) or request.blocks >= MAX_BLOCKS:
        return False  # one: it ends at a place to stop before
    if request.insns + insns > MAX_INSNS or request_has(request, ptr(tb)):
        return False
    block: RequestBlock = RequestBlock(
        request + (_REQUEST_HEAD + u64(request.blocks) * _REQUEST_BLOCK))
    block.tb = ptr(tb)
    block.insns = insns
    request.blocks += 1
    request.insns += insns
    return True


@native
def last_effects(env: ExecEnv, tb: Tb, insns: u32) -> u64:
    """`JUMPS` or `CALLS` if a block ends in a computed jump or call, 0 for all others."""
    last: Record = Record(tb + (_HEAD + u64(insns - 1) * RECORD_SIZE))
    if last.form >= u32(env.form_count):
        return 0
    return form_at(env, last.form).effects & (JUMPS | CALLS)


@native
def request_begin(env: ExecEnv, request: RequestHead, seed: Tb) -> None:
    request.flushes = env.tb_flushes
    request.seed_pc = seed.pc
    request.mode = seed.flags
    request.blocks = 0
    request.insns = 0
    request.pages = 1
    request.candidates = 0
    request.context = u32(seed.context)


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
    insns: u32 = block.insns
    block.ending = block_ending(tb, insns)
    block.entry = u32(enters_region(tb))
    block.reserved = 0
    block.taken = 0
    block.fall = 0
    links: Link = Link(tb + (_HEAD + u64(insns) * RECORD_SIZE))
    if block.ending == Ending.BRANCH:
        block.taken = links.pc
        block.fall = Link(links + RECORD_SIZE).pc
    elif block.ending == Ending.FALL:
        block.fall = Link(links + RECORD_SIZE).pc
    elif last_effects(env, tb, insns) != 0:
        last: Branch = Branch(tb + (_HEAD + u64(insns - 1) * RECORD_SIZE))
        block.taken = load64(ptr(last), _TAKEN)
        block.fall = tb.pc + tb.size


# What a region may grow by next is listed behind the room for its blocks, where their records
# will be: pointers to blocks that a block of it leads to.


@native
def candidate(request: RequestHead, number: u32) -> ptr:
    """Where a pointer to the ``number``-th candidate lies."""
    blocks: u64 = MAX_BLOCKS
    return request + (_REQUEST_HEAD + blocks * _REQUEST_BLOCK + (u64(number) << 3))


@native
def offer(env: ExecEnv, request: RequestHead, tb: Tb, least: u32) -> None:
    """Make a block a candidate if it ran often enough."""
    if tb == NULL or request.candidates >= MAX_CANDIDATES:
        return
    if runs_of(env, tb) < least and tb.members == NULL:
        return
    Slot(candidate(request, request.candidates)).record = ptr(tb)
    request.candidates += 1


@native
def offer_page(env: ExecEnv, request: RequestHead, near: Tb, least: u32) -> None:
    """Offer the hot blocks of a page: where a computed jump goes is among them."""
    if near.physical >= env.ram_size:
        return  # no block any more
    tb: Tb = Tb(page_of(env, near.physical).first)
    for _i in range(CHAIN):
        if not in_arena(env, ptr(tb)):
            return
        if block_at(env, near, tb.pc) == ptr(tb):
            offer(env, request, tb, least)
        tb = Tb(tb.page_next[0])


@native
def offer_successors(env: ExecEnv, request: RequestHead, block: RequestBlock, least: u32) -> None:
    """Offer where a block leads to."""
    tb: Tb = Tb(block.tb)
    if block.ending != Ending.FALL and block.taken != 0:
        offer(env, request, Tb(block_at(env, tb, block.taken)), least)
    if block.ending == Ending.INDIRECT and last_effects(env, tb, block.insns) == JUMPS:
        offer_page(env, request, tb, least)
    elif block.fall != 0:
        offer(env, request, Tb(block_at(env, tb, block.fall)), least)


@native
def hottest(env: ExecEnv, request: RequestHead, seed: Tb) -> ptr:
    """Take the candidate that ran most, of equal ones the first; NULL if there is none.

    What ran in a region was not counted; it is taken for half as hot as the seed.
    """
    best: u32 = 0
    most: u32 = 0
    for number in range(request.candidates):
        tb: Tb = Tb(Slot(candidate(request, number)).record)
        hits: u32 = runs_of(env, tb)
        half: u32 = runs_of(env, seed) >> 1
        if tb.members != NULL and hits < half:
            hits = half
        if hits + 1 > most:
            most = hits + 1
            best = number
    if most == 0:
        return NULL
    found: ptr = Slot(candidate(request, best)).record
    request.candidates -= 1
    for number in range(best, request.candidates):
        Slot(candidate(request, number)).record = Slot(candidate(request, number + 1)).record
    return found


@native
def region_grow(env: ExecEnv, seed: Tb, request: RequestHead) -> u64:
    """Fill ``request`` with a region around a hot block; returns its bytes, 0 if it is not one.

    The hottest first of the blocks that its blocks lead to, as long as one ran at least once for
    64 runs of the seed.
    """
    request_begin(env, request, seed)
    if not is_block(env, seed):
        return 0
    least: u32 = runs_of(env, seed) >> 6
    next_one: ptr = ptr(seed)
    while next_one != NULL:
        number: u32 = request.blocks
        if request_add(request, Tb(next_one)):
            block: RequestBlock = RequestBlock(request_block(request, number))
            describe_block(env, request, seed, block)
            offer_successors(env, request, block, least)
        next_one = hottest(env, request, seed)
    return request_records(env, request)


@native
def region_follow(env: ExecEnv, seed: Tb, request: RequestHead, shape: ptr, count: u64) -> u64:
    """The same along a shape known before (`ShapeRow`s, the seed's first); 0 if a block is missing.

    What a region grows to depends on counts. So that code can be found again, shapes are kept.
    """
    request_begin(env, request, seed)
    if not is_block(env, seed):
        return 0
    for i in range(u64(0), count):
        row: ShapeRow = ShapeRow(shape + i * _SHAPE_ROW)
        tb: ptr = ptr(seed) if i == 0 else block_at(env, seed, seed.pc + row.pc)
        if tb == NULL:
            return 0
        number: u32 = request.blocks
        if not request_add(request, Tb(tb)):
            return 0
        block: RequestBlock = RequestBlock(request_block(request, number))
        describe_block(env, request, seed, block)
        block.entry = u32(row.entry)
        if block.ending == Ending.INDIRECT:
            block.taken = seed.pc + row.taken
            block.fall = seed.pc + row.fall
    return request_records(env, request)


@native
def copy_record(out: Record, rec: Record, form: Form, seed: u64) -> None:
    """A block's record as a request has it."""
    store64(ptr(out), 0, form.key)
    out.imm = rec.imm
    out.disp = rec.disp
    out.pc = rec.pc - seed
    out.a = rec.a
    out.b = rec.b
    out.base = rec.base
    out.index = rec.index
    out.segment = rec.segment
    out.shift = rec.shift
    out.length = rec.length
    out.form = u32(form.effects)
    near: u8 = 0
    if rec.shift & RELATIVE != 0:
        out.disp -= seed
    elif is_near(rec.disp, seed):
        out.disp -= seed
        near = Near.DISP
    if is_near(rec.imm, seed):
        out.imm -= seed
        near |= Near.IMM
    out.position = near


@native
def forget_targets(last: Record, ending: u32, effects: u64) -> None:
    """Clear what a block's last record has of its successors: the run's, not the code's."""
    if ending == Ending.BRANCH:
        last.imm = 0
        last.disp = 0
        last.position = 0
    elif effects != 0:
        last.imm = 0
        last.position &= Near.DISP


@native
def request_records(env: ExecEnv, request: RequestHead) -> u64:
    """Append the blocks' records and runs, and make addresses distances; 0 if that can't be."""
    out: Record = Record(request + (_REQUEST_HEAD + u64(request.blocks) * _REQUEST_BLOCK))
    for at in range(request.blocks):
        block: RequestBlock = RequestBlock(request_block(request, at))
        tb: Tb = Tb(block.tb)
        rec: Record = Record(tb + _HEAD)
        if block.insns > BLOCK_INSNS:
            return 0
        for i in range(block.insns):
            if rec.form >= u32(env.form_count):
                return 0
            copy_record(out, rec, form_at(env, rec.form), request.seed_pc)
            if i == block.insns - 1:
                forget_targets(out, block.ending, last_effects(env, tb, block.insns))
            out = Record(out + RECORD_SIZE)
            rec = Record(rec + RECORD_SIZE)
        if tb.flags == DEAD or Record(tb + _HEAD).pc != block.pc:
            return 0
    if request.blocks == 0 or request.flushes != env.tb_flushes:
        return 0
    run: RequestRun = RequestRun(out)
    for at in range(request.blocks):
        done: RequestBlock = RequestBlock(request_block(request, at))
        run.tb = done.tb
        run.hits = u64(runs_of(env, Tb(done.tb)))
        run = RequestRun(run + _REQUEST_RUN)
        block_rebase(request, done)
    blocks: u64 = request.blocks
    insns: u64 = request.insns
    return _REQUEST_HEAD + blocks * (_REQUEST_BLOCK + _REQUEST_RUN) + insns * RECORD_SIZE


@native
def block_rebase(request: RequestHead, block: RequestBlock) -> None:
    """Make a block's addresses distances; those that may differ another time are left out."""
    seed: u64 = request.seed_pc
    inside: bool = block.ending != Ending.INDIRECT
    other: RequestBlock = RequestBlock(request_block(request, u32(0)))
    for _at in range(request.blocks):
        # Blocks before this one have been rebased.
        pc: u64 = other.pc + seed if other.tb == NULL else other.pc
        inside = inside or pc == block.taken
        other = RequestBlock(other + _REQUEST_BLOCK)
    block.taken = block.taken - seed if block.taken != 0 and inside else u64(NOWHERE)
    block.fall = block.fall - seed if block.fall != 0 else u64(NOWHERE)
    block.pc -= seed
    block.tb = NULL


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


@native(cold=True)
def region_judge(env: ExecEnv, tb: Tb) -> None:
    """Close an entry by which a region does too little to make up for loading and storing state."""
    worth: bool = tb.done >= tb.entered * WORTH or env.jit_at_once != 0
    region_count(env, tb)
    if not worth and enters_region(tb):
        tb.unworthy += u16(1)
        tb.code = tb.head
        open_head(env, tb)


# Leaving -----------------------------------------------------------------------------------------


@native
def leave_regions(env: ExecEnv) -> None:
    """Their memory is about to be emptied: drop all blocks, and say so; none is running.

    Not in a run within a run: the outer one may be in a region.
    """
    wanted: u64 = env.code_wanted
    if env.code_left != wanted and env.arena_floor == 0:
        tb_flush(env)
        env.code_left = wanted


# Installing --------------------------------------------------------------------------------------


@native
def region_install(env: ExecEnv) -> None:
    """Put the regions of the ready ring in place; no threaded code is running."""
    while env.ready_tail != env.ready_head:
        region: Region = Region(
            Slot(env.ready_ring + u64((env.ready_tail & (RING_SIZE - 1)) << 3)).record)
        if region_fits(env, region):
            region_place(env, region)
        else:
            env.regions_late += 1
        env.ready_tail += 1  # the service may write over what is no more in the ring


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
        count_anew(env, tb)
        tb.stamp = 0
        if member.entry != 0 and tb.unworthy < TRIES:
            tb.entry = u16(member.entry - 1)
            tb.code = ptr(region.code)
            close_head(env, tb)
        member = Member(member + MEMBER_SIZE)
    env.regions_live += 1
