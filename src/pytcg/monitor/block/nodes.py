"""Nodes that come, go and change their size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockError
from pytcg.block.open import open_image
from pytcg.monitor.block.lookup import node_of
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

SECTOR: Final = 512


def add_node(machine: Machine, options: dict[str, Any]) -> Any:
    """blockdev-add: a node by itself, with those below it."""
    graph = machine.drives.graph
    name = options.get("node-name")
    if not name:
        raise CommandError("'node-name' must be specified for the root node")
    try:
        graph.check_free(name)
        graph.own(open_image(options, exclusive=True, nodes={**graph.nodes, **graph.owned},
                             groups=graph.groups))
    except BlockError as error:
        raise CommandError(str(error)) from None
    return {}


def delete_node(machine: Machine, node_name: str) -> Any:
    """blockdev-del: one that nobody uses."""
    graph = machine.drives.graph
    node = graph.nodes.get(node_name)
    if node is None:
        raise CommandError(f"Failed to find node with node-name='{node_name}'")
    if graph.users_of(node):
        raise CommandError(f"Node {node_name} is in use")
    if node_name not in graph.owned:
        raise CommandError(f"Node {node_name} is not owned by the monitor")
    graph.check_unused_by_jobs(node)
    if graph.parents(node):
        raise CommandError(f"Block device {node_name} is in use")
    graph.drop(graph.owned.pop(node_name))
    return {}


def resize(machine: Machine, size: int, device: str | None = None, node_name: str | None = None
           ) -> Any:  # fmt: skip
    """block_resize: the guest is told."""
    node = node_of(machine, device, node_name)
    if size < 0:
        raise CommandError("Parameter 'size' expects a >0 size")
    graph = machine.drives.graph
    graph.check_unused_by_jobs(node)
    try:
        with graph.drained():
            node.truncate(size)
            for bitmap in node.dirty:
                bitmap.resize(size)
    except BlockError as error:
        raise CommandError(str(error)) from None
    with machine.loop.lock:
        for drive in machine.drives.values():
            if drive.io is not None and drive.io.device.node is node:
                drive.on_resize()
    return {}


COMMANDS: Final = (
    Command("blockdev-add", add_node, "BlockdevOptions"),
    Command("blockdev-del", delete_node, "node-name: str"),
    Command("block_resize", resize, "*device: str, *node-name: str, size: int"),
)
