"""qcow2: growing the refcount table, and giving back blocks that count nothing."""

from __future__ import annotations

import errno
from contextlib import suppress

from pytcg.block.device import BlockError
from pytcg.block.formats.qcow2 import format as fmt
from pytcg.block.formats.qcow2.cache import to_disk
from pytcg.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pytcg.block.formats.qcow2.refcount import Refcounts


def cover(refcounts: Refcounts, start: int, clusters: int = 0, *, exact: bool = False,
          block: tuple[int, int] | None = None) -> int:
    """Move to a new table, at cluster ``start`` behind all that is used.

    Blocks for itself and ``clusters`` more lie before it; ``block`` is a new block's (index,
    home). Without ``exact`` the table has room to grow. Returns the next cluster. If it fails,
    the old table stays in force.
    """
    refcounts.file.debug_event("reftable_grow")
    blocks = _blocks_for(refcounts, start + clusters, exact=exact)
    per_cluster = refcounts.cluster_size // 8
    table_clusters = -(-(blocks if exact else blocks + -(-blocks // 2)) // per_cluster)
    if table_clusters << refcounts.cluster_bits > fmt.MAX_REFTABLE_BYTES:
        raise BlockError("File too large", errno.EFBIG)
    old, old_offset, old_dirty = refcounts.table, refcounts.table_offset, refcounts.dirty_table
    refcounts.table = old[: table_clusters * per_cluster]
    refcounts.table.extend([0] * (table_clusters * per_cluster - len(refcounts.table)))
    refcounts.dirty_table = set(old_dirty)
    try:
        home = _add_blocks(refcounts, start, blocks, block)
        refcounts.table_offset = home << refcounts.cluster_bits
        refcounts.add(start, home + table_clusters - start, 1)
        _switch_table(refcounts, table_clusters)
    except BaseException:
        for index, entry in enumerate(refcounts.table):
            if entry and (index >= len(old) or not old[index]):
                refcounts.forget_block(index, entry >> refcounts.cluster_bits)
        refcounts.table, refcounts.table_offset, refcounts.dirty_table = old, old_offset, old_dirty
        with suppress(BlockError):  # the header may have been written, and only its flush failed
            refcounts.update_header()
        raise
    refcounts.own = refcounts.own_clusters()
    refcounts.add(old_offset >> refcounts.cluster_bits, len(old) // per_cluster, -1)
    return home + table_clusters


def _add_blocks(refcounts: Refcounts, start: int, blocks: int,
                block: tuple[int, int] | None) -> int:
    """Make ``block`` and those that are missing behind ``start``: the cluster after them."""
    if block is not None:
        refcounts.create_block(*block)
    home = start
    for index in range(start // refcounts.block_entries, blocks):
        if not refcounts.table[index]:
            refcounts.create_block(index, home)
            home += 1
    if block is not None:
        refcounts.add(block[1], 1, 1)
    return home


def _switch_table(refcounts: Refcounts, clusters: int) -> None:
    file = refcounts.file
    file.debug_event("refblock_alloc_write_blocks")
    refcounts.cache.write_back()
    file.debug_event("refblock_alloc_write_table")
    file.pwrite(refcounts.table_offset, to_disk(refcounts.table))
    file.flush()
    file.debug_event("refblock_alloc_switch_table")
    refcounts.update_header(refcount_table_offset=refcounts.table_offset,
                            refcount_table_clusters=clusters)
    refcounts.dirty_table.clear()


def _blocks_for(refcounts: Refcounts, clusters: int, *, exact: bool) -> int:
    """How many blocks count ``clusters`` clusters and the structure's own behind them."""
    blocks = table = before = 0
    while True:
        blocks = -(-(clusters + table + blocks) // refcounts.block_entries)
        table = -(-blocks * 8 // refcounts.cluster_size)
        if clusters + table + blocks == before:
            if exact:
                return blocks
            clusters, exact, before = clusters + -(-table // 2), True, 0
        else:
            before = clusters + table + blocks


def give_back_blocks(refcounts: Refcounts) -> None:
    """Drop the refcount blocks that count nothing, or only themselves."""
    while True:
        refcounts.write_back()
        empty = [index for index, entry in enumerate(refcounts.table)
                 if entry and _counts_nothing(refcounts, index)]
        if not empty:
            return
        homes = [refcounts.block_offset(index) >> refcounts.cluster_bits for index in empty]
        for index, home in zip(empty, homes, strict=True):
            refcounts.forget_block(index, home)
        refcounts.dirty_table.update(empty)
        refcounts.write_back()  # no entry may point at a block that is free
        refcounts.file.flush()
        for home in homes:
            if refcounts.get(home):  # else its own block has gone with it
                refcounts.add(home, 1, -1)


def _counts_nothing(refcounts: Refcounts, index: int) -> bool:
    entries, home = refcounts.block_entries, refcounts.block_offset(index) >> refcounts.cluster_bits
    start = index * entries
    if not start <= home < start + entries:
        return refcounts.last_used_in(index) < 0
    return (refcounts.last_used_in(index) == home and refcounts.get(home) == 1
            and not refcounts.count_used(home, 1, start=start))
