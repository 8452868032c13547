"""Guest memory by linear address, for native code: TLB probe inline, everything else out of line.

The probe compares the tag with the page of the access's *last* byte, so one compare catches misses
and page-crossing accesses alike. TLB entries hold an addend from address to the RAM window.

A front-end supplies `guest_translate` (its page walk); it may raise a guest exception.
"""

from __future__ import annotations

from enum import IntEnum

from pytcg.exec.hooks import Hooks, hooks_wanted, is_watched, watch, watch_modify
from pytcg.exec.invalidate import invalidate_write, page_has_code
from pytcg.exec.layout import (
    FILL_LOG,
    KEPT_PAGES,
    PAGE_BITS,
    PAGE_MASK,
    PAGE_SIZE,
    STORES_DROPPED,
    STORES_TO_DEVICE,
    TLB_SIZE,
    ExecEnv,
    KeptPage,
    Range,
    Slot,
    TlbEntry,
)
from pytcg.exec.logevent import LogEvent
from pytcg.exec.snapshot import is_saved, save_page
from pytcg.exec.trap import is_trapped, trap_access
from pytcg.softmmu.perm import Perm
from pytcg_native import (
    NULL,
    address_of,
    attempt,
    call_host,
    fill,
    likely,
    load8,
    load16,
    load32,
    load64,
    load128,
    native,
    pointer_difference,
    ptr,
    store8,
    store16,
    store32,
    store64,
    store128,
    u8,
    u16,
    u32,
    u64,
    u128,
    unlikely,
)


class Access(IntEnum):
    """What an access is for; also the bits of the permissions of a page (1 << access)."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


GLOBAL = 1 << 3
"""In `guest_translate`'s result: the page is the same in all address spaces."""
IS_GLOBAL, IN_LOG = 1, 2
"""In `env.tlb_global`: the entry's page is global; the entry is in the log of those that were."""
NO_PAGE = 0xFFFF_FFFF_FFFF_FFFF
MODIFIES = 1 << 8
"""In env.access_size: the access is the load of a read-modify-write, which needs write access."""
NOT_RAM = 0xFFFF_FFFF_FFFF_FFFF
_KEPT_SIZE = KeptPage.layout.size
KEPT_BYTES = 16
"""What an access by a kept page may be of without a look at its size."""
_RANGE_SIZE = Range.layout.size
_TLB_MASK = (TLB_SIZE - 1) << 5


@native(extern=True)
def guest_translate(env: ExecEnv, address: u64, access: u32) -> u64:
    """Physical address of a linear one, with the page's permissions in bits 0-2, `GLOBAL` in 3.

    The result is the physical page address | permissions; raises a page fault. The TLB may keep
    what it returns, so a page not yet dirty has no write permission unless ``access`` is WRITE.
    """
    return 0


@native(extern=True)
def guest_unmapped(env: ExecEnv, address: u64, access: u32) -> None:
    """An access to nothing while there are no devices: raise what the guest calls that."""


@native(extern=True)
def guest_forbidden(env: ExecEnv, address: u64, access: u32) -> None:
    """The same for memory that does not allow the access."""


@native(extern=True)
def guest_misaligned(env: ExecEnv) -> None:
    """An access that should be aligned is not: raise what the guest calls that."""


@native
def find_range(env: ExecEnv, physical: u64) -> ptr:
    """The `Range` that holds a physical address; NULL if none does."""
    low: u64 = 0
    high: u64 = env.range_count
    while low < high:
        middle: u64 = (low + high) >> 1
        entry: Range = Range(env.ranges + middle * _RANGE_SIZE)
        if physical < entry.start:
            high = middle
        elif physical - entry.start >= entry.end - entry.start:  # (the end may be 2^64, so 0)
            low = middle + 1
        else:
            return ptr(entry)
    return NULL


@native
def ram_offset(env: ExecEnv, physical: u64) -> u64:
    """Offset in the RAM window of what is read at a physical address; NOT_RAM if there is none.

    Bit 63 is set where stores don't go to the same place: ROM.
    """
    entry: Range = Range(find_range(env, physical))
    if entry == NULL:
        return NOT_RAM
    if (entry.perms & Perm.DEVICE) != 0:
        return NOT_RAM
    offset: u64 = entry.offset + (physical - entry.start)
    return offset if entry.stores == entry.offset else offset | (1 << 63)


@native(inline=True)
def tlb_entry(env: ExecEnv, address: u64) -> TlbEntry:
    return TlbEntry(env.tlb + ((address >> (PAGE_BITS - 5)) & _TLB_MASK))


@native
def log_mmu(env: ExecEnv, event: u32, address: u64, access: u32, found: u64) -> None:
    call_host(ptr(env.log_event), "void", event, address, u64(access), found)


@native(inline=True)
def entry_number(env: ExecEnv, entry: TlbEntry) -> u64:
    """Which entry of all the TLBs it is."""
    return u64(pointer_difference(ptr(entry), ptr(env.tlbs))) >> 5


@native(inline=True)
def note_fill(env: ExecEnv, entry: TlbEntry, found: u64) -> None:
    """Note a filled entry for the next flush; as global only once, as that log stays."""
    number: u64 = entry_number(env, entry)
    noted: u8 = load8(ptr(env.tlb_global), number) & IN_LOG
    if (found & GLOBAL) != 0:
        if noted == 0:
            Slot(env.global_tlb_log + (env.global_tlb_fills << 3)).record = ptr(entry)
            env.global_tlb_fills += 1
        store8(ptr(env.tlb_global), number, IS_GLOBAL | IN_LOG)
    else:
        if env.tlb_fills < FILL_LOG:
            Slot(env.tlb_log + (env.tlb_fills << 3)).record = ptr(entry)
        env.tlb_fills += 1
        store8(ptr(env.tlb_global), number, noted)


@native(inline=True)
def holds_global(env: ExecEnv, number: u64) -> bool:
    """Whether a TLB entry's page is global."""
    return (load8(ptr(env.tlb_global), number) & IS_GLOBAL) != 0


@native(inline=True)
def is_global(env: ExecEnv, linear: u64) -> bool:
    """Whether code at a linear address, just fetched, is on a global page."""
    entry: TlbEntry = tlb_entry(env, linear)
    if entry.execute != linear & PAGE_MASK:
        return False
    return holds_global(env, entry_number(env, entry))


@native
def tlb_fill(env: ExecEnv, address: u64, access: u32) -> u64:
    """Walk, enter the page in the TLB if it is RAM; returns the physical address."""
    page: u64 = address & PAGE_MASK
    if unlikely((env.log & LogEvent.MISS) != 0):
        log_mmu(env, u32(LogEvent.MISS), address, access, 0)
    found: u64 = guest_translate(env, address, access)
    if unlikely((env.log & LogEvent.FILL) != 0):
        log_mmu(env, u32(LogEvent.FILL), address, access, found)
    physical: u64 = found & PAGE_MASK
    region: Range = Range(find_range(env, physical))
    if unlikely(region == NULL):
        if env.no_devices != 0:
            guest_unmapped(env, address, access)
        return physical | (address & (PAGE_SIZE - 1))
    allowed: u64 = found & region.perms
    if unlikely(env.no_devices != 0 and (allowed & (u64(1) << access)) == 0):
        guest_forbidden(env, address, access)
    if (region.perms & Perm.DEVICE) == 0:
        offset: u64 = region.offset + (physical - region.start)
        entry: TlbEntry = tlb_entry(env, address)
        clean: bool = not page_has_code(env, offset)
        if unlikely(env.hooks[Hooks.MEMORY] != NULL) and is_watched(env, page, u64(PAGE_SIZE)):
            allowed = allowed & Perm.EXECUTE
        if unlikely(env.watch_mask != 0) and is_trapped(env, page, u64(PAGE_SIZE)):
            allowed = allowed & Perm.EXECUTE
        if unlikely(env.aligned_tlb == env.tlb):
            allowed = allowed & Perm.EXECUTE
        entry.read = page if (allowed & Perm.READ) != 0 else NO_PAGE
        plain: bool = clean and region.stores == region.offset
        if unlikely(env.snap_epoch != 0):
            if access == Access.WRITE and (allowed & Perm.WRITE) != 0:
                save_page(env, offset)
            plain = plain and is_saved(env, offset)
        entry.write = page if (allowed & Perm.WRITE) != 0 and plain else NO_PAGE
        entry.execute = page if (allowed & Perm.EXECUTE) != 0 else NO_PAGE
        entry.addend = offset - page
        note_fill(env, entry, found)
    return physical | (address & (PAGE_SIZE - 1))


# Slow paths ------------------------------------------------------------------------------------


@native
def host_load(env: ExecEnv, offset: u64, size: u32) -> u64:
    if size == 1:
        return load8(ptr(env.ram), offset)
    if size == 2:
        return load16(ptr(env.ram), offset)
    if size == 4:
        return load32(ptr(env.ram), offset)
    return load64(ptr(env.ram), offset)


@native
def host_store(env: ExecEnv, offset: u64, size: u32, value: u64) -> None:
    if size == 1:
        store8(ptr(env.ram), offset, u8(value))
    elif size == 2:
        store16(ptr(env.ram), offset, u16(value))
    elif size == 4:
        store32(ptr(env.ram), offset, u32(value))
    else:
        store64(ptr(env.ram), offset, value)


@native
def physical_load(env: ExecEnv, physical: u64, size: u32) -> u64:
    """``size`` (1, 2, 4, 8) bytes at a physical address, within a page."""
    offset: u64 = ram_offset(env, physical)
    if likely(offset != NOT_RAM):
        return host_load(env, offset & 0x7FFF_FFFF_FFFF_FFFF, size)
    return call_host(ptr(env.read_mmio), "u64", physical, size)


@native
def physical_store(env: ExecEnv, physical: u64, size: u32, value: u64) -> None:
    """Store within a page: RAM (translated code there dies), ROM (ignored) or a device."""
    entry: Range = Range(find_range(env, physical))
    if unlikely(entry == NULL) or entry.stores == STORES_TO_DEVICE:
        call_host(ptr(env.write_mmio), "void", physical, size, value)
    elif entry.stores != STORES_DROPPED:
        offset: u64 = entry.stores + (physical - entry.start)
        if page_has_code(env, offset):
            invalidate_write(env, offset, size)
        if unlikely(env.snap_epoch != 0):
            save_page(env, offset)
        host_store(env, offset, size, value)


@native
def check_aligned(env: ExecEnv, address: u64, size: u64, access: u32) -> None:
    """While unaligned accesses are faults: one, unless there is something worse."""
    if (address & (size - 1)) == 0 or (size & (size - 1)) != 0:
        return
    tlb_fill(env, address, access)
    tlb_fill(env, (address + (size - 1)), access)
    guest_misaligned(env)


@native
def load_slow(env: ExecEnv, address: u64, size: u32) -> u64:
    """A load that the probe did not find: hooks, then the load."""
    env.access_size = size
    if unlikely(env.watch_mask != 0):
        trap_access(env, address, u64(size), Access.READ)
    if unlikely(env.aligned_tlb == env.tlb):
        check_aligned(env, address, u64(size), Access.READ)
    if unlikely(env.hooks[Hooks.MEMORY] != NULL) and hooks_wanted(env, address, size, Access.READ):
        return load_watched(env, address, size)
    return load_plain(env, address, size)


@native
def load_watched(env: ExecEnv, address: u64, size: u32) -> u64:
    """A load with hooks, which may change what is loaded, or memory. A device is read once."""
    offset: u64 = ram_offset(env, tlb_fill(env, address, Access.READ))
    value: u64 = 0
    if likely(offset != NOT_RAM and (address & (PAGE_SIZE - 1)) + size <= PAGE_SIZE):
        offset = offset & 0x7FFF_FFFF_FFFF_FFFF
        if watch(env, address, size, Access.READ, host_load(env, offset, size)):
            return env.hook_value
        return host_load(env, offset, size)
    if offset != NOT_RAM:
        value = load_plain(env, address, size)
    if watch(env, address, size, Access.READ, value):
        return env.hook_value
    return load_plain(env, address, size)


@native
def load_plain(env: ExecEnv, address: u64, size: u32) -> u64:
    if unlikely((address & (PAGE_SIZE - 1)) + size > PAGE_SIZE):
        value: u64 = 0
        for i in range(u64(0), u64(size)):
            value |= load_byte(env, address + i) << (i * 8)
        return value
    entry: TlbEntry = tlb_entry(env, address)
    if entry.read == address & PAGE_MASK:
        return host_load(env, address + entry.addend, size)
    return physical_load(env, tlb_fill(env, address, Access.READ), size)


@native
def load_byte(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == address & PAGE_MASK):
        return load8(ptr(env.ram), address + entry.addend)
    return physical_load(env, tlb_fill(env, address, Access.READ), 1)


@native
def store_slow(env: ExecEnv, address: u64, size: u32, value: u64) -> None:
    """A store that the probe did not find: hooks, which may change the value, then the store."""
    env.access_size = size
    env.access_value = value
    if unlikely(env.watch_mask != 0):
        trap_access(env, address, u64(size), Access.WRITE)
    if unlikely(env.aligned_tlb == env.tlb):
        check_aligned(env, address, u64(size), Access.WRITE)
    if unlikely(env.hooks[Hooks.MEMORY] != NULL) and hooks_wanted(env, address, size, Access.WRITE):
        if (address & (PAGE_SIZE - 1)) + size <= PAGE_SIZE:
            physical: u64 = tlb_fill(env, address, Access.WRITE)
            watch(env, address, size, Access.WRITE, value)
            physical_store(env, physical, size, env.hook_value)
            return
        probe_write(env, address, u64(size))
        watch(env, address, size, Access.WRITE, value)
        store_plain(env, address, size, env.hook_value)
        return
    store_plain(env, address, size, value)


@native
def store_plain(env: ExecEnv, address: u64, size: u32, value: u64) -> None:
    if unlikely((address & (PAGE_SIZE - 1)) + size > PAGE_SIZE):
        # Both pages must let us write before a byte changes.
        low: u64 = tlb_fill(env, address, Access.WRITE)
        next_page: u64 = (address + size - 1) & PAGE_MASK
        high: u64 = tlb_fill(env, next_page, Access.WRITE)
        split: u64 = next_page - address
        for i in range(u64(0), u64(size)):
            where: u64 = low + i if i < split else high + (i - split)
            physical_store(env, where, 1, (value >> (i * 8)) & 0xFF)
        return
    physical_store(env, tlb_fill(env, address, Access.WRITE), size, value)


# The probes ------------------------------------------------------------------------------------


@native(inline=True)
def load_u8(env: ExecEnv, address: u64) -> u8:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == address & PAGE_MASK):
        return load8(ptr(env.ram), address + entry.addend)
    return u8(load_slow(env, address, 1))


@native(inline=True)
def load_u16(env: ExecEnv, address: u64) -> u16:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == (address + 1) & PAGE_MASK):
        return load16(ptr(env.ram), address + entry.addend)
    return u16(load_slow(env, address, 2))


@native(inline=True)
def load_u32(env: ExecEnv, address: u64) -> u32:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == (address + 3) & PAGE_MASK):
        return load32(ptr(env.ram), address + entry.addend)
    return u32(load_slow(env, address, 4))


@native(inline=True)
def load_u64(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == (address + 7) & PAGE_MASK):
        return load64(ptr(env.ram), address + entry.addend)
    return load_slow(env, address, 8)


@native(inline=True)
def load_u128(env: ExecEnv, address: u64) -> u128:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == (address + 15) & PAGE_MASK):
        return load128(ptr(env.ram), address + entry.addend)
    return u128(load_slow(env, address, 8)) | (u128(load_slow(env, address + 8, 8)) << 64)


@native(inline=True)
def store_u8(env: ExecEnv, address: u64, value: u8) -> None:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == address & PAGE_MASK):
        store8(ptr(env.ram), address + entry.addend, value)
    else:
        store_slow(env, address, 1, value)


@native(inline=True)
def store_u16(env: ExecEnv, address: u64, value: u16) -> None:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 1) & PAGE_MASK):
        store16(ptr(env.ram), address + entry.addend, value)
    else:
        store_slow(env, address, 2, value)


@native(inline=True)
def store_u32(env: ExecEnv, address: u64, value: u32) -> None:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 3) & PAGE_MASK):
        store32(ptr(env.ram), address + entry.addend, value)
    else:
        store_slow(env, address, 4, value)


@native(inline=True)
def store_u64(env: ExecEnv, address: u64, value: u64) -> None:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 7) & PAGE_MASK):
        store64(ptr(env.ram), address + entry.addend, value)
    else:
        store_slow(env, address, 8, value)


@native(inline=True)
def store_u128(env: ExecEnv, address: u64, value: u128) -> None:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 15) & PAGE_MASK):
        store128(ptr(env.ram), address + entry.addend, value)
    else:
        env.access_size = 8
        env.access_value = u64(value)
        probe_write(env, address, 16)
        store_slow(env, address, 8, u64(value))
        store_slow(env, address + 8, 8, u64(value >> 64))


@native(inline=True)
def place_to_load(env: ExecEnv, address: u64) -> u64:
    """Where 32 bytes to load are in the RAM window; NOT_RAM if they must be loaded in parts."""
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.read == (address + 31) & PAGE_MASK):
        return address + entry.addend
    return NOT_RAM


@native(inline=True)
def place_to_store(env: ExecEnv, address: u64) -> u64:
    """The same for a store; in parts it can't fault any more."""
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 31) & PAGE_MASK):
        return address + entry.addend
    env.access_size = 8
    probe_write(env, address, 32)
    return NOT_RAM


# Read-modify-write -----------------------------------------------------------------------------


@native
def modify_slow(env: ExecEnv, address: u64, size: u64) -> u64:
    """See `modify_u8`: what a probe did not find in the TLB, or crosses a page."""
    env.access_size = u32(size) | MODIFIES
    probe_write(env, address, size)
    if unlikely(env.hooks[Hooks.MEMORY] != NULL):
        watch_modify(env, address, size)
    entry: TlbEntry = tlb_entry(env, address)
    if entry.write == (address + (size - 1)) & PAGE_MASK:
        return address + entry.addend
    return NOT_RAM


@native(inline=True)
def modify_u8(env: ExecEnv, address: u64) -> u64:
    """One probe for a load and the store that follows: faults are those of a write.

    The result is the place in the RAM window for both, or NOT_RAM if they have to go by the slow
    paths (a device, ROM, a page with translated code, two pages), which can't fault any more.
    """
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == address & PAGE_MASK):
        return address + entry.addend
    return modify_slow(env, address, 1)


@native(inline=True)
def modify_u16(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 1) & PAGE_MASK):
        return address + entry.addend
    return modify_slow(env, address, 2)


@native(inline=True)
def modify_u32(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 3) & PAGE_MASK):
        return address + entry.addend
    return modify_slow(env, address, 4)


@native(inline=True)
def modify_u64(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 7) & PAGE_MASK):
        return address + entry.addend
    return modify_slow(env, address, 8)


@native(inline=True)
def modify_u128(env: ExecEnv, address: u64) -> u64:
    entry: TlbEntry = tlb_entry(env, address)
    if likely(entry.write == (address + 15) & PAGE_MASK):
        return address + entry.addend
    return modify_slow(env, address, 16)


KEEP_WRITABLE = 1 << 26
"""Of a region's page: what may only be read, or is not dirty, is not kept as it."""


@native(cold=True)
def region_probe(env: ExecEnv, address: u64, access: u32, size: u32) -> u64:
    """Offset from the RAM window of an access that missed the TLB; NOT_RAM if it is not plain.

    Then threaded code does it: devices, accesses across pages, pages with translated code, faults.
    """
    if (address & (PAGE_SIZE - 1)) + size > PAGE_SIZE:
        return NOT_RAM
    attempt(tlb_fill(env, address, access))
    if env.exception_pending != 0:
        env.exception_pending = 0
        return NOT_RAM
    entry: TlbEntry = tlb_entry(env, address)
    tag: u64 = entry.write if access == Access.WRITE else entry.read
    return address + entry.addend if tag == address & PAGE_MASK else u64(NOT_RAM)


@native(cold=True)
def region_read(env: ExecEnv, address: u64, what: u32) -> u64:
    """The same of a read through a page that a region keeps, which becomes this access's.

    ``what`` is where the kept page is among them, the access's size << 16, its kind << 24, and
    `KEEP_WRITABLE` if that is one for writes, too: the stack's.
    """
    entry: TlbEntry = tlb_entry(env, address)
    return region_reach(env, entry, entry.read, address, what)


@native(cold=True)
def region_write(env: ExecEnv, address: u64, what: u32) -> u64:
    """The same of a write."""
    entry: TlbEntry = tlb_entry(env, address)
    return region_reach(env, entry, entry.write, address, what)


@native(inline=True)
def region_reach(env: ExecEnv, entry: TlbEntry, tag: u64, address: u64, what: u32) -> u64:
    if unlikely(tag != (address + (KEPT_BYTES - 1)) & PAGE_MASK):
        return region_page(env, address, what)
    where: u64 = address + entry.addend
    keep_page(kept_page(env, what), address, where)
    return where


@native(cold=True)
def region_page(env: ExecEnv, address: u64, what: u32) -> u64:
    """The same of a page that the TLB doesn't know, or near its end."""
    size: u32 = (what >> 16) & 0xFF
    access: u32 = (what >> 24) & 3
    entry: TlbEntry = tlb_entry(env, address)
    tag: u64 = entry.write if access == Access.WRITE else entry.read
    where: u64 = address + entry.addend
    if tag != (address + u64(size - 1)) & PAGE_MASK:
        where = region_probe(env, address, access, size)
        if where == NOT_RAM:
            return NOT_RAM
    if (what & u32(KEEP_WRITABLE)) == 0 or entry.write == address & PAGE_MASK:
        keep_page(kept_page(env, what), address, where)
    return where


@native(inline=True)
def kept_page(env: ExecEnv, what: u32) -> KeptPage:
    return KeptPage(address_of(env.kept_pages[0]) + u64(what & 0xFFFF))


@native(inline=True)
def keep_page(page: KeptPage, address: u64, where: u64) -> None:
    """Make a kept page that of an access at ``address``, which is at ``where`` in the window."""
    page.address = address & PAGE_MASK
    page.offset = where & PAGE_MASK
    page.limit = PAGE_SIZE - (KEPT_BYTES - 1)


@native
def forget_pages(env: ExecEnv) -> None:
    """What was allowed may be so no longer: whoever takes an entry from a TLB calls this."""
    fill(address_of(env.kept_pages[0]), 0, KEPT_PAGES * _KEPT_SIZE)
    KeptPage(address_of(env.stack_page[0])).limit = 0
    KeptPage(address_of(env.other_stack[0])).limit = 0


@native
def keep_stack(env: ExecEnv, address: u64) -> None:
    """Let stitched code know the page of an access to the stack, if the TLB knows it."""
    entry: TlbEntry = tlb_entry(env, address)
    if entry.write != address & PAGE_MASK:
        return
    keep_page(KeptPage(address_of(env.stack_page[0])), address, address + entry.addend)


@native
def use_tlb(env: ExecEnv, tlb: ptr) -> None:
    """Make the accesses that follow those of another TLB, which has a stack of its own."""
    if tlb == env.tlb:
        return
    for n in range(3):
        word: u64 = env.stack_page[n]
        env.stack_page[n] = env.other_stack[n]
        env.other_stack[n] = word
    if env.other_tlb != tlb:
        KeptPage(address_of(env.stack_page[0])).limit = 0
    env.other_tlb = env.tlb
    env.tlb = tlb


# Sizes known at run time -----------------------------------------------------------------------


@native
def load_sized(env: ExecEnv, address: u64, size: u32) -> u64:
    """A load of 1, 2, 4 or 8 bytes, zero-extended."""
    if size == 1:
        return load_u8(env, address)
    if size == 2:
        return load_u16(env, address)
    if size == 4:
        return load_u32(env, address)
    return load_u64(env, address)


@native
def store_sized(env: ExecEnv, address: u64, size: u32, value: u64) -> None:
    """A store of 1, 2, 4 or 8 bytes."""
    if size == 1:
        store_u8(env, address, u8(value))
    elif size == 2:
        store_u16(env, address, u16(value))
    elif size == 4:
        store_u32(env, address, u32(value))
    else:
        store_u64(env, address, value)


@native
def probe_write(env: ExecEnv, address: u64, size: u64) -> None:
    """Fault now if any of ``size`` (up to a page) bytes at ``address`` can't be written."""
    if unlikely(env.watch_mask != 0):
        trap_access(env, address, size, Access.WRITE)
    if unlikely(env.aligned_tlb == env.tlb):
        check_aligned(env, address, size, Access.WRITE)
    tlb_fill(env, address, Access.WRITE)
    if (address & (PAGE_SIZE - 1)) + size > PAGE_SIZE:
        tlb_fill(env, (address + size - 1) & PAGE_MASK, Access.WRITE)


@native
def probe_read(env: ExecEnv, address: u64, size: u64) -> None:
    """Fault now if any of ``size`` (up to a page) bytes at ``address`` can't be read."""
    tlb_fill(env, address, Access.READ)
    if (address & (PAGE_SIZE - 1)) + size > PAGE_SIZE:
        tlb_fill(env, (address + size - 1) & PAGE_MASK, Access.READ)
