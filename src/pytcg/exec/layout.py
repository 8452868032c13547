"""Structs of the execution engine: what threaded code, block lookup and the softmmu share.

No x86 here: a front-end's CPU state extends `EXEC_ENV`.
"""

from __future__ import annotations

from pytcg.ir.layout import Struct
from pytcg_native.types import Pointer

PAGE_BITS = 12
PAGE_SIZE = 1 << PAGE_BITS
PAGE_MASK = ~(PAGE_SIZE - 1)

TLB_BITS = 12
TLB_SIZE = 1 << TLB_BITS
MMU_MODES = 3
NEAR = 128
"""How far a displacement of one byte reaches, and how far env points into its struct."""
MAX_COUNTS = 1 << 19
"""Counts of runs, one a block. They lie together, so that a block that runs on into others touches
no cache line of its own but its code's."""
FILL_LOG = 1024
"""Entries filled since the last flush that are remembered, so that a flush need not clear all."""
JUMP_CACHE_BITS = 14
JUMP_CACHE_SIZE = 1 << JUMP_CACHE_BITS
TB_HASH_BITS = 18
TB_HASH_SIZE = 1 << TB_HASH_BITS
FORM_HASH_BITS = 14
FORM_HASH_SIZE = 1 << FORM_HASH_BITS

STOP_NOW = 2
"""env.stop_request when a run is to end: an instruction's other hooks aren't called any more."""
RECORD_SIZE = 48
"""Bytes of a record: one instruction of threaded code."""
RELATIVE = 0x80
"""In a record's shift (which such an operand has no use for): disp counts from rIP."""

RECORD = Struct("Record", [
    ("code", "ptr"),      # threaded code; invalidation overwrites it
    ("imm", "u64"),       # immediate; in a branch, the record of the taken successor
    ("disp", "u64"),      # displacement; in a branch, the record of the fall-through successor
    ("pc", "u64"),        # the instruction's address within the code segment
    ("a", "i16"), ("b", "i16"), ("base", "i16"), ("index", "i16"),  # offsets into the CPU state
    ("segment", "u8"), ("shift", "u8"), ("length", "u8"), ("position", "u8"),
    ("form", "u32"),      # index of the form, for the compiler of missing ones
])  # fmt: skip

BRANCH = Struct("Branch", [  # a record seen by control transfers
    ("code", "ptr"),
    ("taken", "ptr"), ("fall", "ptr"),  # record to go on with: at first a link record below
    ("pc", "u64"),
])  # fmt: skip

LINK = Struct("Link", [  # stands for a successor that is not chained yet
    ("code", "ptr"),
    ("slot", "ptr"),      # where to put the successor once found
    ("tb", "ptr"),        # `tb_hop`: the successor as it was by `stamp`; `tb_chain`: the exit
    ("pc", "u64"),        # of the successor
    ("stamp", "u64"),     # env.map_stamp then
])  # fmt: skip

TB = Struct("Tb", [
    # What running it touches: a cache line.
    ("code", "ptr"),      # the head's threaded code: counts, polls, runs the first record
    ("hits", "u32"),      # runs, but for those that its count has
    ("records", "u16"),
    ("unworthy", "u16"),  # regions entered here that were soon left again
    ("physical", "u64"),  # of the first byte
    ("pc", "u64"),        # same offset as a record's
    ("flags", "u32"), ("insns", "u16"), ("size", "u16"),
    ("cs_base", "u64"),
    ("head", "ptr"),      # its own code, when no region's; NULL if that does more than count
    ("members", "ptr"),   # the regions made from it: a chain of `Member`s
    ("hash_next", "ptr"),
    ("page_next", "ptr", 2),  # next block on the first and on the second page
    ("physical2", "u64"),  # of the second page, or all ones
    ("stamp", "u64"),     # env.map_stamp when its region's pages were last looked at
    ("entry", "u16"),     # which of its region's entries it is
    ("context", "u16"),   # `regions.guest_context` when it was hot
    ("count", "u32"),     # where its count of runs is, from env
    ("entered", "u32"), ("done", "u32"),  # how often a region was entered here, what ran then
    ("made_before", "ptr"),  # chain of all blocks in the arena, for `tb_flush`
])  # fmt: skip

TLB_ENTRY = Struct("TlbEntry", [
    ("read", "u64"), ("write", "u64"), ("execute", "u64"),  # page address, or all ones
    ("addend", "u64"),    # host = ram + (address + addend)
])  # fmt: skip

SLOT = Struct("Slot", [("record", "ptr")])

FORM = Struct("Form", [
    ("key", "u64"),
    ("code", "ptr"),      # NULL until compiled
    ("effects", "u64"),   # what it reads and writes, in the front-end's terms
    ("stencil", "ptr"),   # NULL as long as there is none
])  # fmt: skip

# A form's machine code to be copied into blocks: `patches` rows of PATCH follow, then the code.
STENCIL = Struct("Stencil", [
    ("key", "u64"),
    ("size", "u32"),      # bytes of code; 0 if the form can't have one
    ("patches", "u32"),
    ("flags", "u32"),     # `pytcg.exec.stitch.StencilFlag`
    ("length", "u32"),    # bytes to the next stencil of the pack
])  # fmt: skip

# What a copy gets at `place`: a field of the record, or where it goes (`stitch.Target`).
PATCH = Struct("Patch", [
    ("place", "u16"),
    ("width", "u8"),      # bytes there; 0: four that count from the place
    ("field", "u8"),      # offset in the record, or the target
    ("bits", "u32"),      # of the field
    ("addend", "i64"),
])  # fmt: skip

FORM_SIZE = FORM.size

JUMP = Struct("Jump", [("tag", "u64"), ("tb", "ptr")])

# A piece of physical memory; a table of them is sorted by address.
RANGE = Struct("Range", [
    ("start", "u64"), ("end", "u64"),
    ("offset", "u64"),    # of what is read, in the RAM window
    ("stores", "u64"),    # of what is written, or one of the two below
    ("perms", "u64"),     # `pytcg.softmmu.perm.Perm`
])  # fmt: skip

STORES_DROPPED = 0xFFFF_FFFF_FFFF_FFFF  # a ROM
STORES_TO_DEVICE = 0xFFFF_FFFF_FFFF_FFFE  # flash memory: what is written is a command

# One a page of the RAM window: the blocks that begin on it, and those that end on it from the page
# before.
PAGE = Struct("Page", [
    ("first", "ptr"), ("spilling", "ptr"),
    ("lines", "u64"),     # a bit for each of its lines of 64 bytes that may hold code
])  # fmt: skip
LINE_BITS = PAGE_BITS - 6

# A page that regions have accessed in some way, and may again. ``limit`` is how far into it an
# access may begin: 0 as long as there is none, else so far that 16 bytes don't reach the next page.
KEPT_PAGE = Struct("KeptPage", [("address", "u64"), ("limit", "u64"), ("offset", "u64")])
KEPT_PAGES = 96

EXEC_ENV = Struct("ExecEnv", [
    # Within a byte's displacement is what stitched code has most to do with.
    ("near", "u64", 20),          # the front-end's registers
    ("pc", "u64"),                # current only outside threaded code
    ("budget", "i64"),            # instructions left to run
    ("exit_request", "u32"),      # set by any thread: leave chained code soon
    ("exit_reason", "u32"),       # why native code returned to Python
    ("tlb", "ptr"),               # the TLB of the present mmu index
    ("jumps", "ptr"),
    ("jump_salt", "u64"),         # mode bits, mixed into jump cache tags
    ("map_stamp", "u64"),         # changes whenever an address may mean another page
    ("code_base", "u64"),         # added to pc, then masked: the linear address
    ("stack_page", "u64", 3),     # a `KeptPage`: the stack's, for code of the present TLB
    # The rest.
    ("other_stack", "u64", 3), ("other_tlb", "ptr"),  # the same of the TLB before
    ("linear_mask", "u64"),
    ("mode", "u32"),              # the front-end's bits that a translated block depends on
    ("stop_request", "u32"),      # set by any thread: return to Python
    ("exception_pending", "u8"), ("halted", "u8"),
    ("inhibit", "u8"),            # for one instruction: 1: no interrupts, 2: no traps either
    ("until_set", "u8"),
    ("step_pending", "u32"),      # traps (DR6 bits) due after the instruction that has begun
    ("until", "u64"),             # a pc to stop before
    ("leave", "ptr"),             # a record whose code (`tb_leave`) leaves threaded code
    ("fault_record", "ptr"),      # the record that left threaded code by a fault
    ("exception_vector", "u32"), ("exception_error", "u32"), ("exception_has_error", "u32"),
    ("exception_address", "u64"),
    ("ram", "ptr"), ("ram_size", "u64"),
    ("pages", "ptr"), ("form_hash", "ptr"), ("form_list", "ptr"), ("form_count", "u64"),
    ("hash", "ptr"), ("tlbs", "ptr"),
    # Places in the TLBs and in the jump cache filled since their last flush: `FILL_LOG` are noted,
    # the counts go on.
    ("tlb_log", "ptr"), ("tlb_fills", "u64"), ("jump_log", "ptr"), ("jump_fills", "u64"),
    # The same for what is of global pages, which survives `tlb_flush_local`; of TLB entries all.
    ("global_tlb_log", "ptr"), ("global_tlb_fills", "u64"),
    ("global_jump_log", "ptr"), ("global_jump_fills", "u64"),
    ("tlb_global", "ptr"),        # a byte for each TLB entry (`access.IS_GLOBAL`)
    ("arena", "ptr"), ("arena_used", "u64"), ("arena_size", "u64"), ("arena_limit", "u64"),
    ("arena_floor", "u64"),       # blocks below it stay: a run within a run
    # Stitched blocks: machine code, its trampolines first (`exec.stitch`). NULL if there is none.
    ("code", "ptr"), ("code_used", "u64"), ("code_floor", "u64"), ("code_size", "u64"),
    ("head_stencil", "ptr"), ("hop_stencil", "ptr"),
    ("tb_flushes", "u64"), ("tb_count", "u64"),
    ("whole_flushes", "u64"),     # those that left no block: not within a run within a run
    ("counts", "u32"),            # where the blocks' counts (`MAX_COUNTS`, u16) begin, from env
    ("tb_last", "ptr"), ("tb_made", "u64"),  # chain of the blocks in the arena, its length
    ("aliased", "u32"),           # some block was made at a linear address that is not its physical
    # The pages saved since the last snapshot (`exec.snapshot`), or an epoch of 0.
    ("snap_marks", "ptr"), ("snap_shadow", "ptr"), ("snap_log", "ptr"), ("snap_count", "u64"),
    ("snap_epoch", "u32"),
    ("budget_soft", "u32"),       # leave (`Exit.SLICE`) rather than cut a block to fit the budget
    # Hooks (`exec.hooks`): lists of `Hook`s by kind; ``traps``: keep pc right at each instruction.
    ("hooks", "ptr", 3), ("traps", "u32"), ("hook_value", "u64"),
    ("hook_skip", "u64"),         # a pc whose hooks have been called already, or all ones
    ("block_skip", "u64"),        # a pc amid a block, which is not entered there
    # A debugger (`exec.debug`): what it wants, why code was left, the access that was watched;
    # ``restarts``: what runs is an instruction that can be given up.
    ("debug_flags", "u32"), ("debug_reason", "u32"), ("debug_address", "u64"),
    ("debug_access", "u32"), ("debug_restarts", "u32"),
    # The guest's own breakpoints, a bit each (`exec.trap`): on code, on data (also if read), on
    # ports; ``alone``: what runs is the only instruction of its block; ``rerun``: it should be.
    ("break_mask", "u32"), ("watch_mask", "u32"), ("watch_reads", "u32"), ("port_mask", "u32"),
    ("break_at", "u64", 4), ("watch_last", "u64", 4), ("alone", "u32"), ("rerun", "u32"),
    ("aligned_tlb", "ptr"),       # of the TLBs the one whose accesses must be aligned, or NULL
    ("step_from", "u64"), ("step_next", "u64"),  # the instruction being stepped, and what follows
    ("unmapped", "u32"),           # the last page fault was memory that is not there, or forbidden
    ("access_size", "u32"), ("access_value", "u64"),  # of the last access that took the slow path
    ("range_count", "u64"), ("ranges", "ptr"), ("no_devices", "u32"),
    ("fetch", "u8", 16),          # bytes of the instruction being decoded
    ("read_mmio", "ptr"), ("write_mmio", "ptr"),
    ("scratch", "u64", 8),
    ("log", "u32"),               # `LogEvent` bits that are wanted; looked at in cold code only
    ("log_event", "ptr"),         # tells Python of one: (event, three numbers)
    # Regions: hot blocks on their way to the compile service, regions on their way back.
    ("hot_ring", "ptr"), ("hot_event", "ptr"), ("hot_head", "u32"), ("hot_sleeps", "u32"),
    ("ready_ring", "ptr"), ("ready_head", "u32"), ("ready_tail", "u32"),
    ("regions_live", "u32"), ("regions_late", "u32"), ("regions_died", "u64"),
    ("region_entries", "u64"), ("region_insns", "u64"),  # times entered, instructions run
    ("region_exits", "u64", 6),   # by `leave.Leave`
    ("kept_pages", "u64", 3 * KEPT_PAGES),  # `KeptPage`s; which is which the front-end knows
    ("seeds", "ptr"),             # hashes of blocks whose region is kept on disk, or NULL
    ("jit_at_once", "u32"),       # compile every block before it runs first
    ("jit_block", "ptr"),         # the block to be compiled
    # Times that the memory of regions was emptied: as is wanted, and as this processor has done
    # with what was in it (`regions.leave_regions`).
    ("code_wanted", "u64"), ("code_left", "u64"),
], origin=-NEAR)  # fmt: skip


# A request to compile a region: its head, its blocks, their records (`code` is the form's key,
# `form` its effects, `position` its `Near` bits), and a `RequestRun` for each block. Addresses in
# blocks and records count from the seed's, and what depends on the run is in the runs alone.
REQUEST_HEAD = Struct("RequestHead", [
    ("flushes", "u64"), ("seed_pc", "u64"), ("mode", "u32"), ("blocks", "u32"), ("insns", "u32"),
    ("pages", "u32"),     # 1: all on the seed's page, 2: on several
    ("candidates", "u32"),
    ("context", "u32"),   # of the seed's block
])  # fmt: skip

REQUEST_BLOCK = Struct("RequestBlock", [
    ("tb", "ptr"),        # while the request is made
    ("pc", "u64"), ("taken", "u64"), ("fall", "u64"),
    ("insns", "u32"), ("ending", "u32"), ("entry", "u32"), ("reserved", "u32"),
])  # fmt: skip

REQUEST_RUN = Struct("RequestRun", [("tb", "ptr"), ("hits", "u64")])

# A block of a shape: distances from the seed's address, as `RequestBlock` has addresses.
SHAPE_ROW = Struct("ShapeRow", [("pc", "u64"), ("entry", "u64"), ("taken", "u64"), ("fall", "u64")])

MEMBER = Struct("Member", [  # a block of a region
    ("tb", "ptr"), ("region", "ptr"), ("following", "ptr"),  # the block's next region
    ("entry", "u32"),     # 1 + its number among the entries, or 0
    ("reserved", "u32"),
])  # fmt: skip

MEMBER_SIZE = MEMBER.size

REGION = Struct("Region", [
    ("code", "ptr"), ("flushes", "u64"), ("count", "u32"), ("dead", "u32"),
    ("members", "u64", 1),  # `count` members follow
])  # fmt: skip


HOOK = Struct("Hook", [
    ("following", "ptr"), ("code", "ptr"), ("data", "ptr"),
    ("rows", "ptr"),      # NULL, or a bit for each opcode row that it is for
    ("first", "u64"), ("last", "u64"),  # linear addresses
    ("flags", "u32"), ("reserved", "u32"),
])  # fmt: skip


class Hook(Pointer):
    layout = HOOK


class ExecEnv(Pointer):
    """The part of the CPU state that the execution engine owns."""

    layout = EXEC_ENV


class Record(Pointer):
    layout = RECORD


class Tb(Pointer):
    layout = TB


class Branch(Pointer):
    layout = BRANCH


class Link(Pointer):
    layout = LINK


class Slot(Pointer):
    layout = SLOT


class Form(Pointer):
    layout = FORM


class Stencil(Pointer):
    layout = STENCIL


class Patch(Pointer):
    layout = PATCH


class TlbEntry(Pointer):
    layout = TLB_ENTRY


class KeptPage(Pointer):
    layout = KEPT_PAGE


class Jump(Pointer):
    layout = JUMP


class Range(Pointer):
    layout = RANGE


class Page(Pointer):
    layout = PAGE


class RequestHead(Pointer):
    layout = REQUEST_HEAD


class RequestBlock(Pointer):
    layout = REQUEST_BLOCK


class RequestRun(Pointer):
    layout = REQUEST_RUN


class ShapeRow(Pointer):
    layout = SHAPE_ROW


class Member(Pointer):
    layout = MEMBER


class Region(Pointer):
    layout = REGION
