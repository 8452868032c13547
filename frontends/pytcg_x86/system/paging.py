"""Page walks (SDM vol. 3A, chapter 4) and the TLB's upkeep.

Deviations from the manual: PCIDs are not kept apart, so MOV CR3 flushes all but global pages
(allowed: a processor may drop any entry); PAE's page-directory-pointer entries are checked
when CR3 is loaded but read again by each walk.
"""

from __future__ import annotations

from typing import NoReturn

from pytcg.exec.invalidate import jump_cache_flush, jump_cache_flush_local
from pytcg.exec.layout import (
    FILL_LOG,
    JUMP,
    JUMP_CACHE_BITS,
    MMU_MODES,
    PAGE_BITS,
    PAGE_MASK,
    TLB_ENTRY,
    TLB_SIZE,
    Jump,
    Slot,
    TlbEntry,
)
from pytcg.softmmu.access import (
    GLOBAL,
    NO_PAGE,
    Access,
    entry_number,
    forget_pages,
    holds_global,
    physical_load,
    physical_store,
)
from pytcg_native import fill, native, pointer_difference, ptr, store8, u32, u64, unlikely
from pytcg_x86.core.exceptions import raise_error, raise_page_fault, raise_wild
from pytcg_x86.core.modes import TLB_BYTES
from pytcg_x86.core.segment import is_canonical
from pytcg_x86.core.state import Cr0, Cr4, Efer, Env, MmuIndex, Vector
from pytcg_x86.system.features import PHYSICAL_BITS

_P, _RW, _US, _A, _D, _PS, _G = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
_NX = 1 << 63
_ADDRESS = 0x000F_FFFF_FFFF_F000
_TOO_HIGH = _ADDRESS & ~((1 << PHYSICAL_BITS) - 1)
_PDPTE_RESERVED = _TOO_HIGH | _NX | (0x7FF << 52) | 0x1E6
_PSE36_RESERVED = 1 << 21
_READ, _WRITE, _EXECUTE = 1 << Access.READ, 1 << Access.WRITE, 1 << Access.EXECUTE

# Error code bits of #PF.
_ERROR_P, _ERROR_W, _ERROR_U, _ERROR_RSVD, _ERROR_I, _ERROR_PK = 1, 2, 4, 8, 16, 32

_NO_LARGE = 0xFFFF_FFFF_FFFF_FFFF
_ROW_SLOTS = 1 << (JUMP_CACHE_BITS // 2)
_SLOT_BYTES = JUMP.size
_ENTRY_BYTES = TLB_ENTRY.size


@native
def mmu_index(env: Env) -> u32:
    """Which `MmuIndex` env.tlb is: whose rights the present access has."""
    return u32(u64(pointer_difference(env.tlb, env.tlbs)) // TLB_BYTES)


@native
def page_fault(env: Env, address: u64, access: u32, error: u32) -> NoReturn:
    """#PF with the bits that the access itself decides added to ``error``."""
    bits: u32 = error
    env.unmapped = 0
    if access == Access.WRITE:
        bits |= _ERROR_W
    if mmu_index(env) == MmuIndex.USER:
        bits |= _ERROR_U
    no_execute: bool = (env.efer & Efer.NXE) != 0 and (env.cr4 & Cr4.PAE) != 0
    if access == Access.EXECUTE and (no_execute or (env.cr4 & Cr4.SMEP) != 0):
        bits |= _ERROR_I
    raise_page_fault(env, address, bits)


@native
def permissions(env: Env, rights: u64, forbidden: u64) -> u64:
    """What a page allows the present mmu index; ``forbidden`` has NX at its place.

    ``rights`` is the AND of the walk's R/W and U/S bits.
    """
    index: u32 = mmu_index(env)
    allowed: u64 = _READ | _EXECUTE
    if (rights & _RW) != 0 or (index != MmuIndex.USER and (env.cr0 & Cr0.WP) == 0):
        allowed |= _WRITE
    if (forbidden & _NX) != 0:
        allowed = allowed & (_READ | _WRITE)
    if index == MmuIndex.USER:
        return allowed if (rights & _US) != 0 else u64(0)
    if (rights & _US) != 0:
        if (env.cr4 & Cr4.SMEP) != 0:
            allowed = allowed & (_READ | _WRITE)
        if index == MmuIndex.KERNEL and (env.cr4 & Cr4.SMAP) != 0:
            allowed = allowed & _EXECUTE
    return allowed


@native
def key_permissions(env: Env, key: u32) -> u64:
    """What PKRU lets data accesses do to user pages with a protection key (SDM vol. 3A, 4.6.2)."""
    bits: u32 = env.pkru >> (key * 2)
    if (bits & 1) != 0:
        return _EXECUTE
    kernel: bool = mmu_index(env) != MmuIndex.USER
    if (bits & 2) == 0 or (kernel and (env.cr0 & Cr0.WP) == 0):
        return _READ | _WRITE | _EXECUTE
    return _READ | _EXECUTE


@native
def leaf(env: Env, address: u64, access: u32, entry: u64, where: u64, size: u32,
         rights: u64, forbidden: u64) -> u64:  # fmt: skip
    """The end of a walk: check the access, set A and D; the permissions the TLB may keep."""
    allowed: u64 = permissions(env, rights, forbidden)
    error: u32 = _ERROR_P
    if unlikely((env.cr4 & Cr4.PKE) != 0 and (rights & _US) != 0 and (env.efer & Efer.LMA) != 0):
        keyed: u64 = key_permissions(env, u32(entry >> 59) & 15)
        if (keyed & (u64(1) << access)) == 0:
            error |= _ERROR_PK
        allowed = allowed & keyed
    if (allowed & (u64(1) << access)) == 0:
        page_fault(env, address, access, error)
    marked: u64 = entry | _A
    if access == Access.WRITE:
        marked |= _D
    if marked != entry:
        physical_store(env, where, size, marked)
    if (marked & _D) == 0:
        allowed = allowed & (_READ | _EXECUTE)
    if (entry & _G) != 0 and (env.cr4 & Cr4.PGE) != 0:
        allowed |= GLOBAL
    return allowed


@native
def large_page(address: u64, base: u64, shift: u32) -> u64:
    """The 4 KiB page of ``address`` within a page of 1 << ``shift`` bytes at ``base``."""
    offset: u64 = (u64(1) << shift) - 1
    return (base & ~offset) | (address & offset & PAGE_MASK)


@native
def walk_legacy(env: Env, address: u64, access: u32) -> u64:
    """32-bit paging: two levels of four-byte entries, 4 MiB pages, PSE-36."""
    where: u64 = ((env.cr3 & 0xFFFF_F000) + ((address >> 22) << 2)) & env.a20_mask
    entry: u64 = physical_load(env, where, 4)
    if (entry & _P) == 0:
        page_fault(env, address, access, 0)
    if (entry & _PS) != 0 and (env.cr4 & Cr4.PSE) != 0:
        if (entry & _PSE36_RESERVED) != 0:
            page_fault(env, address, access, _ERROR_P | _ERROR_RSVD)
        high: u64 = ((entry >> 13) & 0xFF) << 32
        kept: u64 = leaf(env, address, access, entry, where, 4, entry, 0)
        note_large(env, address, 22, kept)
        return large_page(address, high | (entry & 0xFFC0_0000), 22) | kept
    if (entry & _A) == 0:
        physical_store(env, where, 4, entry | _A)
    rights: u64 = entry
    where = ((entry & 0xFFFF_F000) + (((address >> 12) & 0x3FF) << 2)) & env.a20_mask
    entry = physical_load(env, where, 4)
    if (entry & _P) == 0:
        page_fault(env, address, access, 0)
    allowed: u64 = leaf(env, address, access, entry, where, 4, rights & entry, 0)
    return (entry & 0xFFFF_F000) | allowed


@native
def reserved_bits(env: Env, level: u32, large: bool) -> u64:
    """Bits that must be 0 in a present eight-byte entry of a level (1: page table)."""
    reserved: u64 = _TOO_HIGH
    long: bool = (env.efer & Efer.LMA) != 0
    if (env.efer & Efer.NXE) == 0:
        reserved |= _NX
    if not long:
        reserved |= 0x7FF << 52
        if level == 3:
            return _PDPTE_RESERVED
    if level >= 4:
        reserved |= _PS
    if large:
        page: u64 = u64(1) << (12 + 9 * (level - 1))
        reserved |= (page - 1) & ~u64(0x1FFF)  # bit 12 is PAT
    return reserved


@native
def walk_wide(env: Env, address: u64, access: u32) -> u64:
    """PAE, 4-level and 5-level paging: eight-byte entries, 2 MiB and 1 GiB pages."""
    long: bool = (env.efer & Efer.LMA) != 0
    level: u32 = u32(3) + u32(long)
    if long and (env.cr4 & Cr4.LA57) != 0:
        level = 5
    table: u64 = env.cr3 & _ADDRESS if long else env.cr3 & 0xFFFF_FFE0
    rights: u64 = _RW | _US
    forbidden: u64 = 0
    while True:
        index: u64 = (address >> (12 + 9 * (level - 1))) & 0x1FF
        where: u64 = (table + (index << 3)) & env.a20_mask
        entry: u64 = physical_load(env, where, 8)
        if (entry & _P) == 0:
            page_fault(env, address, access, 0)
        pointers: bool = level == 3 and not long
        large: bool = (entry & _PS) != 0 and 1 < level < 4 and not pointers
        if (entry & reserved_bits(env, level, large)) != 0:
            page_fault(env, address, access, _ERROR_P | _ERROR_RSVD)
        if not pointers:
            rights = rights & entry
            forbidden |= entry & _NX
        if level == 1 or large:
            break
        if not pointers and (entry & _A) == 0:
            physical_store(env, where, 8, entry | _A)
        table = entry & _ADDRESS
        level -= 1
    allowed: u64 = leaf(env, address, access, entry, where, 8, rights, forbidden)
    shift: u32 = 12 + 9 * (level - 1)
    if large:
        note_large(env, address, shift, allowed)
    return large_page(address, entry & _ADDRESS, shift) | allowed


@native
def guest_translate(env: Env, address: u64, access: u32) -> u64:
    """Physical page of a linear address | the permissions to keep (see `softmmu.access`)."""
    found: u64 = (address & PAGE_MASK) | (_READ | _WRITE | _EXECUTE)
    if (env.efer & Efer.LMA) != 0:
        # To the library's "stop at everything" an address is an address, as it is to Unicorn.
        if not is_canonical(env, address) and env.stop_exceptions != 2:
            env.exception_address = address
            raise_wild(env)
        # Long mode without paging is the library's, for code without page tables.
        if (env.cr0 & Cr0.PG) != 0:
            found = walk_wide(env, address, access)
    elif (env.cr0 & Cr0.PG) != 0:
        narrow: u64 = address & 0xFFFF_FFFF
        if (env.cr4 & Cr4.PAE) != 0:
            found = walk_wide(env, narrow, access)
        else:
            found = walk_legacy(env, narrow, access)
    return found & env.a20_mask


@native
def check_pdptes(env: Env, cr3: u64) -> None:
    """PAE: #GP(0) if a present page-directory-pointer entry has reserved bits set."""
    for i in range(u64(0), u64(4)):
        where: u64 = ((cr3 & 0xFFFF_FFE0) + i * 8) & env.a20_mask
        entry: u64 = physical_load(env, where, 8)
        if (entry & _P) != 0 and (entry & _PDPTE_RESERVED) != 0:
            raise_error(env, Vector.GP, 0)


# TLB -------------------------------------------------------------------------------------------


@native
def note_large(env: Env, address: u64, shift: u32, allowed: u64) -> None:
    """A piece of a large page enters the TLB: widen what INVLPG must take for one large page."""
    index: u32 = mmu_index(env)
    if (allowed & GLOBAL) != 0:
        index += MMU_MODES
    base: u64 = env.large_base[index]
    mask: u64 = env.large_mask[index] & ~((u64(1) << shift) - 1)
    if base == _NO_LARGE:
        base = address
    while ((base ^ address) & mask) != 0:
        mask = mask << 1
    env.large_base[index] = base & mask
    env.large_mask[index] = mask


@native
def forget_large(env: Env, index: u64) -> None:
    env.large_base[index] = _NO_LARGE
    env.large_mask[index] = _NO_LARGE


@native
def may_be_large(env: Env, address: u64, index: u64) -> bool:
    """Whether an address may be in a large page that the TLB has a piece of."""
    return ((address & env.large_mask[index]) == env.large_base[index]
            or (address & env.large_mask[index + MMU_MODES]) == env.large_base[index + MMU_MODES])


@native
def flush_index(env: Env, index: u64) -> None:
    """Empty one of the TLBs."""
    fill(env.tlbs + index * TLB_BYTES, 0xFF, TLB_BYTES)
    forget_large(env, index)
    forget_large(env, index + MMU_MODES)


@native
def clear_entry(entry: TlbEntry) -> None:
    """Make an entry match no address."""
    entry.read = NO_PAGE
    entry.write = NO_PAGE
    entry.execute = NO_PAGE


@native
def tlb_flush(env: Env) -> None:
    """Forget all translations, and what the jump cache made of them."""
    env.map_stamp += 1
    forget_pages(env)
    clear_tlbs(env)
    jump_cache_flush(env)


@native
def clear_tlbs(env: Env) -> None:
    """Empty all TLBs."""
    if env.tlb_fills > FILL_LOG:
        fill(ptr(env.tlbs), 0xFF, MMU_MODES * TLB_BYTES)
    else:
        for i in range(env.tlb_fills):
            clear_entry(TlbEntry(Slot(env.tlb_log + (i << 3)).record))
    for k in range(env.global_tlb_fills):
        entry: TlbEntry = TlbEntry(Slot(env.global_tlb_log + (k << 3)).record)
        clear_entry(entry)
        store8(ptr(env.tlb_global), entry_number(env, entry), 0)
    env.tlb_fills = 0
    env.global_tlb_fills = 0
    for index in range(u64(0), u64(2 * MMU_MODES)):
        forget_large(env, index)


@native
def write_pkru(env: Env, value: u32) -> None:
    """What the TLBs let through may be forbidden now."""
    if value != env.pkru:
        env.pkru = value
        tlb_flush(env)


@native
def tlb_flush_local(env: Env) -> None:
    """The same, but for global pages: what a change of the address space means."""
    env.map_stamp += 1
    forget_pages(env)
    if env.tlb_fills > FILL_LOG:
        for n in range(u64(0), u64(MMU_MODES * TLB_SIZE)):
            if not holds_global(env, n):
                clear_entry(TlbEntry(env.tlbs + n * _ENTRY_BYTES))
    else:
        for i in range(env.tlb_fills):
            entry: TlbEntry = TlbEntry(Slot(env.tlb_log + (i << 3)).record)
            if not holds_global(env, entry_number(env, entry)):
                clear_entry(entry)
    env.tlb_fills = 0
    for index in range(u64(0), u64(MMU_MODES)):
        forget_large(env, index)
    jump_cache_flush_local(env)


@native
def tlb_flush_page(env: Env, address: u64) -> None:
    """Forget one page (INVLPG). All of a TLB if the page may have been part of a large one."""
    env.map_stamp += 1
    forget_pages(env)
    slot: u64 = ((address >> PAGE_BITS) & (TLB_SIZE - 1)) * _ENTRY_BYTES
    for index in range(u64(0), u64(MMU_MODES)):
        if may_be_large(env, address, index):
            flush_index(env, index)
        else:
            clear_entry(TlbEntry(env.tlbs + (index * TLB_BYTES + slot)))
    if env.code_base != 0:
        jump_cache_flush(env)
    else:
        flush_jumps(env, address >> PAGE_BITS)
        flush_jumps(env, (address >> PAGE_BITS) - 1)  # blocks that run on into the page


@native
def flush_jumps(env: Env, page: u64) -> None:
    """Forget the blocks that start on a page: one row of the jump cache (`dispatch.jump_slot`)."""
    row: u64 = (page & (_ROW_SLOTS - 1)) * _ROW_SLOTS * _SLOT_BYTES
    for i in range(u64(0), u64(_ROW_SLOTS)):
        Jump(env.jumps + (row + i * _SLOT_BYTES)).tag = NO_PAGE
