"""commit and stream: jobs along a backing chain."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice, BlockError
from pytcg.block.filters.filter import Reference
from pytcg.block.graph import Graph
from pytcg.block.jobs.chain import Commit, Stream, chain_of
from pytcg.block.jobs.mirror import ActiveCommit
from pytcg.block.reopen import set_writable
from pytcg.monitor.block.joblist import start_job
from pytcg.monitor.block.lookup import find_node, root_of
from pytcg.monitor.command import CLASS_NO_DEVICE, Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine


def _member(chain: list[BlockDevice], name: str | None, node_name: str | None
            ) -> BlockDevice | None:  # fmt: skip
    """A layer by its file's name or by its node's name; CommandError."""
    if node_name is not None:
        for layer in chain:
            if layer.node_name == node_name:
                return layer
        raise CommandError(f"'{node_name}' is not in this backing file chain")
    if name is None:
        return None
    for layer in chain:
        if name == layer.filename or os.path.realpath(name) == os.path.realpath(layer.filename):
            return layer
    for above, layer in itertools.pairwise(chain):
        if above.backing_file == name:
            return layer
    raise CommandError(f"Can't find '{name}' in the backing chain")


def _life(machine: Machine, device: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    drive = machine.drives.get(device)
    name = given.get("job_id") or (drive.id if drive is not None else "")
    return str(name), {"speed": given.get("speed", 0), "finalize": given.get("auto_finalize", True),
                       "dismiss": given.get("auto_dismiss", True)}  # fmt: skip


def _name_backing(node: BlockDevice, base: BlockDevice | None, given: str | None) -> None:
    """Write into an image what it is backed by now."""
    was_read_only = node.read_only
    if was_read_only:
        set_writable(node, writable=True)
    try:
        if base is None:
            node.change_backing_file(None, None)
        else:
            node.change_backing_file(given or base.filename, base.format_name)
    finally:
        if was_read_only:
            set_writable(node, writable=False)


def _rebase(graph: Graph, above: BlockDevice, base: BlockDevice | None, name: str | None) -> None:
    """Let a layer stand on another one of its chain; what was between is closed. Drained."""
    before = above.backing
    if before is None:
        return
    chain = chain_of(before)
    last = chain[chain.index(base) - 1] if base is not None else None
    _name_backing(above, base, name)
    if last is None:
        above.backing = None
    else:
        assert last.backing is not None
        above.backing, last.backing = last.backing, None
    graph.drop(before)


def stream(machine: Machine, device: str, base: str | None = None, base_node: str | None = None,
           backing_file: str | None = None, **given: Any) -> Any:
    """block-stream."""
    top = root_of(machine, device)
    graph = machine.drives.graph
    chain = chain_of(top)
    if base is not None and base_node is not None:
        raise CommandError("'base' and 'base-node' cannot be specified at the same time")
    bottom = _member(chain[1:], base, base_node)
    if bottom is None and backing_file is not None:
        raise CommandError("backing file specified, but streaming the entire chain")
    if top.read_only:
        raise CommandError(f"Block node '{top.node_name}' is read-only")
    name, life = _life(machine, device, given)
    job = Stream(name, graph, top, bottom, **life)
    job.on_finish = lambda: _rebase(graph, top, bottom, backing_file)
    start_job(machine, job)


def commit(machine: Machine, device: str, base: str | None = None, base_node: str | None = None,
           top: str | None = None, top_node: str | None = None, backing_file: str | None = None,
           **given: Any) -> Any:  # fmt: skip
    """block-commit."""
    if find_node(machine, device) is None and device not in machine.drives:
        raise CommandError(f"Device '{device}' not found", CLASS_NO_DEVICE)
    chain = chain_of(root_of(machine, device))
    if (base and base_node) or (top and top_node):
        which = "base" if base and base_node else "top"
        raise CommandError(f"'{which}-node' and '{which}' are mutually exclusive")
    upper = _member(chain, top, top_node) or chain[0]
    below = chain[chain.index(upper) :]
    lower = _member(below, base, base_node) or chain[-1]
    if upper is lower:
        raise CommandError("cannot commit an image into itself")
    name, life = _life(machine, device, given)
    graph = machine.drives.graph
    for node in below[: below.index(lower) + 1]:
        graph.check_unused_by_jobs(node)
    job: ActiveCommit | Commit
    if upper is chain[0]:
        if backing_file is not None:
            raise CommandError("'backing-file' specified, but 'top' is the active layer")
        job = _active(graph, name, upper, lower, life)
    else:
        job = _lower(graph, name, chain, upper, lower, backing_file, life)
    try:
        with graph.drained():
            set_writable(lower, writable=True)
        if lower.size < upper.size:
            lower.truncate(upper.size)
        start_job(machine, job)
    except BaseException:
        if not lower.read_only:
            set_writable(lower, writable=False)
        raise


def _active(graph: Graph, name: str, top: BlockDevice, base: BlockDevice, life: dict[str, Any]
            ) -> ActiveCommit:  # fmt: skip
    chain = chain_of(top)
    between = chain[: chain.index(base) + 1]
    job = ActiveCommit(name, graph, top, base, nodes=between, sync="top", base=base, **life)

    def switch() -> None:
        last = between[-2]
        assert last.backing is not None
        last.backing = Reference(base)  # it stays open when these are closed

    def end(switched: bool) -> None:
        if switched:
            graph.drop(top)
        else:
            set_writable(base, writable=False)

    job.on_switch, job.on_end = switch, end
    return job


def _lower(graph: Graph, name: str, chain: list[BlockDevice], top: BlockDevice, base: BlockDevice,
           backing_file: str | None, life: dict[str, Any]) -> Commit:  # fmt: skip
    above = chain[chain.index(top) - 1]
    job = Commit(name, graph, above, top, base, **life)
    job.nodes = chain[: chain.index(base) + 1]  # what stands above must stay, too
    job.on_finish = lambda: _rebase(graph, above, base, backing_file)

    def end() -> None:
        try:
            set_writable(base, writable=False)
        except BlockError as error:
            job.error = job.error or str(error)

    job.on_end = end
    return job


LIFE: Final = "*speed: int, *on-error: BlockdevOnError, *auto-finalize: bool, *auto-dismiss: bool"
COMMANDS: Final = (
    Command("block-stream", stream, "*job-id: str, device: str, *base: str, *base-node: str,"
            f" *backing-file: str, {LIFE}"),
    Command("block-commit", commit, "*job-id: str, device: str, *base-node: str, *base: str,"
            f" *top-node: str, *top: str, *backing-file: str, {LIFE}"),
)  # fmt: skip
