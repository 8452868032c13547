"""blockdev-reopen: nodes get other options, all of them given anew, several at once or none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockDevice
from pytcg.block.filters.filter import Reference
from pytcg.block.filters.throttle import Throttle
from pytcg.block.graph import Graph, walk
from pytcg.block.protocols.posix import PosixFile
from pytcg.block.reopen import set_writable
from pytcg.monitor.command import Command, CommandError

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

Given = dict[str, Any]
Change = Callable[[], None]
CHILDREN: Final = ("file", "image", "data-file")


def reopen(machine: Machine, options: list[Given]) -> None:
    """All that can be wrong is found before anything changes, but for files that can't be opened
    for writing: what was done before them is undone."""
    graph = machine.drives.graph
    changes = [change for given in options for change in _changes(graph, given)]
    done: list[Change] = []
    with graph.drained():
        try:
            for change, undo in changes:
                change()
                done.append(undo)
        except BaseException:
            for undo in reversed(done):
                undo()
            raise
    graph.refresh()


def _changes(graph: Graph, given: Given) -> list[tuple[Change, Change]]:
    """What is to be done and how it is undone; CommandError."""
    name = given.get("node-name")
    if name is None:
        raise CommandError("node-name not specified")
    node = graph.nodes.get(name)
    if node is None:
        raise CommandError(f"Failed to find node with node-name='{name}'")
    _check_same(graph, node, given)
    found = _backing(graph, node, given)
    group = given.get("throttle-group")
    if isinstance(node, Throttle):
        if group not in graph.groups:
            raise CommandError(f"Throttle group '{group}' does not exist")
        before = node.group
        found.append((lambda: node.keep_to(graph.groups[group]), lambda: node.keep_to(before)))
    writable = not given.get("read-only", False)
    if node.read_only is writable:
        graph.check_unused_by_jobs(node)
        found.append((lambda: set_writable(node, writable=writable),
                      lambda: set_writable(node, writable=not writable)))
    return found


def _check_same(graph: Graph, node: BlockDevice, given: Given) -> None:
    """CommandError where another value would make another node."""
    if given["driver"] != node.format_name:
        raise CommandError("Cannot change the option 'driver'")
    if isinstance(node, PosixFile) and given.get("filename") != node.filename:
        raise CommandError("Cannot change the option 'filename'")
    present = dict(node.children())
    for role in CHILDREN:
        child = present.get("file" if role == "image" else role)
        wanted = given.get(role)
        if wanted is None or child is None:
            continue
        if isinstance(wanted, str):
            if wanted not in graph.nodes:
                raise CommandError(f"Cannot find device='' nor node-name='{wanted}'")
            if wanted != child.node.node_name:
                raise CommandError(f"Cannot change the option '{role}'")
        elif wanted.get("node-name", child.node.node_name) != child.node.node_name:
            raise CommandError("Cannot change the option 'node-name'")
        else:
            _check_same(graph, child.node, {"driver": child.format_name,
                                            "filename": child.node.filename, **wanted})


def _backing(graph: Graph, node: BlockDevice, given: Given) -> list[tuple[Change, Change]]:
    """Another backing node, or none."""
    if not node.supports_backing:
        return []
    before = node.backing
    if "backing" not in given:
        if before is not None:
            raise CommandError(f"backing is missing for '{node.node_name}'")
        return []
    wanted = given["backing"]
    if isinstance(wanted, dict):
        if before is None or wanted.get("driver", before.format_name) != before.format_name:
            raise CommandError("Cannot change the option 'driver'")
        return []
    after = _new_backing(graph, node, wanted)
    if before is not None and after is not None and before.node is after.node:
        return []
    if before is None and after is None:
        return []
    graph.check_unused_by_jobs(node)
    return [(lambda: _stand(graph, node, after), lambda: _stand(graph, node, before))]


def _new_backing(graph: Graph, node: BlockDevice, name: str | None) -> BlockDevice | None:
    if name is None:
        return None
    found = graph.nodes.get(name)
    if found is None:
        raise CommandError(f"Cannot find device='' nor node-name='{name}'")
    if any(below is node for below in walk(found)):
        raise CommandError(f"Making '{name}' a backing child of '{node.node_name}' would create a"
                           " cycle")  # fmt: skip
    return Reference(found)


def _stand(graph: Graph, node: BlockDevice, backing: BlockDevice | None) -> None:
    """What nobody else needs any more is closed only if it came with the node itself."""
    before, node.backing = node.backing, backing
    if before is not None and not isinstance(before, Reference):
        graph.own(before)  # it can come back by its name


COMMANDS: Final = (
    Command("blockdev-reopen", reopen, "options: [BlockdevOptions]"),
)
