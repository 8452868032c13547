"""Snapshots of RAM that copy what is touched afterwards: a page is saved before its first store.

While there is a snapshot (``env.snap_epoch`` is not 0) a page has a write tag in the TLB only once
it is saved: its old contents are then at the same place in the *shadow* window, its mark is the
epoch, and its offset is in the log. Going back copies the logged pages.
"""

from __future__ import annotations

from pytcg.exec.invalidate import invalidate_write, page_has_code
from pytcg.exec.layout import PAGE_BITS, PAGE_MASK, PAGE_SIZE, ExecEnv
from pytcg_native import load32, load64, load128, native, ptr, store32, store64, store128, u32, u64


@native(inline=True)
def is_saved(env: ExecEnv, offset: u64) -> bool:
    """Whether a page may be stored to without further ado."""
    return load32(ptr(env.snap_marks), (offset >> PAGE_BITS) << 2) == env.snap_epoch


@native
def copy_page(source: ptr, target: ptr, page: u64) -> None:
    """One page between two windows, at the same offset."""
    at: u64 = page
    for _i in range(PAGE_SIZE // 16):
        store128(target, at, load128(source, at))
        at += 16


@native
def save_page(env: ExecEnv, offset: u64) -> None:
    """Keep a page's contents before it changes, unless they are kept already."""
    if is_saved(env, offset):
        return
    page: u64 = offset & PAGE_MASK
    copy_page(ptr(env.ram), ptr(env.snap_shadow), page)
    store32(ptr(env.snap_marks), (page >> PAGE_BITS) << 2, env.snap_epoch)
    store64(ptr(env.snap_log), env.snap_count << 3, page)
    env.snap_count += 1


@native
def save_pages(env: ExecEnv, offset: u64, length: u64) -> None:
    """Keep all pages of a range of the window."""
    at: u64 = offset & PAGE_MASK
    while at < offset + length:
        save_page(env, at)
        at += PAGE_SIZE


@native
def snapshot_begin(env: ExecEnv) -> None:
    """What is saved from now on belongs to a new snapshot. The TLB must be flushed too."""
    env.snap_epoch += 1
    env.snap_count = 0


@native
def snapshot_undo(env: ExecEnv) -> None:
    """Put the saved pages back, and begin anew. The TLB must be flushed too."""
    for i in range(env.snap_count):
        page: u64 = load64(ptr(env.snap_log), i << 3)
        copy_page(ptr(env.snap_shadow), ptr(env.ram), page)
        if page_has_code(env, page):
            invalidate_write(env, page, u32(PAGE_SIZE))
    snapshot_begin(env)
