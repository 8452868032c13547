"""A node that is open becomes writable, or read-only again: what a commit writes to."""

from __future__ import annotations

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.protocols import locks
from pytcg.block.protocols.posix import PosixFile


def set_writable(node: BlockDevice, *, writable: bool) -> None:
    """Of a format over a local file; no request is under way. BlockError if it can't be."""
    below = node.file.node if node.file is not None else None
    if below is not None:
        if not writable:
            node.flush()
        set_writable(below, writable=writable)
    elif isinstance(node, PosixFile):
        perms, shared = locks.Perm.CONSISTENT_READ, locks.ALL
        if writable:
            perms |= locks.Perm.WRITE | locks.Perm.RESIZE
            shared &= ~(locks.Perm.WRITE | locks.Perm.RESIZE)
        node.reopen(read_only=not writable, perms=perms, shared=shared)
    elif node.read_only is writable:
        raise BlockError(f"Block node '{node.node_name}' is read-only")
    node.set_read_only(not writable)
