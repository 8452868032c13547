"""The nodes of a running machine: their names, who uses them, and changes of how they stand.

A node is a BlockDevice with a name. Users (a disk's I/O, an export) stand on nodes; what stands on
a node may be moved to another one that has the same content while every user is held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from pytcg.block.device import BlockDevice, BlockError

if TYPE_CHECKING:
    from pytcg.block.filters.throttle import ThrottleGroup


class User(Protocol):
    """Who sends requests to a disk."""

    device: BlockDevice

    def hold(self) -> None:
        """Begin no new requests; return when none is under way."""
        ...

    def let_go(self) -> None:
        """Go on."""
        ...


class Worker(Protocol):
    """A job."""

    kind: str
    nodes: list[BlockDevice]


class Holder:
    """A user that sends no requests: keeps a disk open, and known."""

    def __init__(self, device: BlockDevice) -> None:
        self.device = device

    def hold(self) -> None:
        """Nothing is ever under way."""

    def let_go(self) -> None:
        """Likewise."""


class Graph:
    """All nodes. Changed by the main loop alone, which does not hold the device lock then."""

    def __init__(self) -> None:
        self.nodes: dict[str, BlockDevice] = {}
        self.owned: dict[str, BlockDevice] = {}  # added by name, until they are deleted
        self.groups: dict[str, ThrottleGroup] = {}
        self.users: list[User] = []
        self.busy: list[Worker] = []
        """Jobs, and the nodes that are theirs."""
        self._count = 0

    # --- names ---------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Know what can be reached now, and give names to those that have none."""
        found: dict[str, BlockDevice] = {}
        for root in (*(user.device for user in self.users), *self.owned.values()):
            for node in walk(root):
                if not node.node_name:
                    self._count += 1
                    node.node_name = f"#block{self._count}{os.urandom(1)[0] % 100:02}"
                found[node.node_name] = node
        self.nodes = found

    def check_free(self, name: str) -> None:
        """BlockError if a node has it."""
        if name in self.nodes:
            raise BlockError(f"Duplicate nodes with node-name='{name}'")

    def own(self, node: BlockDevice) -> None:
        """Keep a node that has a name of its own."""
        self.owned[node.node.node_name] = node
        self.refresh()

    def use(self, user: User) -> None:
        """One more user."""
        self.users.append(user)
        self.refresh()

    def leave(self, user: User) -> None:
        """One less; its disk stays open."""
        if user in self.users:
            self.users.remove(user)
            self.refresh()

    # --- who stands where ----------------------------------------------------------------------

    def parents(self, node: BlockDevice) -> list[BlockDevice]:
        """Nodes right above one."""
        return [each for each in self.nodes.values()
                if any(child.node is node for _, child in each.children())]

    def users_of(self, node: BlockDevice) -> list[User]:
        """Users right on a node."""
        return [user for user in self.users if user.device.node is node]

    def entry(self, node: BlockDevice) -> BlockDevice:
        """The node, with what stands between it and its users: policies, jobs."""
        users = self.users_of(node)
        if users:
            return users[0].device
        owned = self.owned.get(node.node_name)
        return owned if owned is not None and owned.node is node else node

    def check_unused_by_jobs(self, node: BlockDevice) -> None:
        """BlockError if one works on it."""
        for worker in self.busy:
            if node in worker.nodes:
                raise BlockError(f"Node '{node.node_name}' is busy: block device is in use by"
                                 f" block job: {worker.kind}")  # fmt: skip

    @contextmanager
    def drained(self) -> Iterator[None]:
        """No request is under way, and none begins."""
        with ExitStack() as stack:
            for user in list(self.users):
                user.hold()
                stack.callback(user.let_go)
            yield

    def replace(self, old: BlockDevice, new: BlockDevice) -> None:
        """What stood on one node stands on another, but for that one itself; drained."""
        spared = {id(each) for each in _everything(new)}
        for user in self.users:
            if user.device is old:
                user.device = new
        for root in (*(user.device for user in self.users), *self.owned.values()):
            for each in _everything(root):
                if id(each) not in spared:
                    each.replace_child(old, new)
        self.refresh()

    def drop(self, root: BlockDevice) -> None:
        """Close a disk that nobody stands on any more, but for what others still need; drained."""
        self.refresh()
        self._drop(root)

    def _drop(self, root: BlockDevice) -> None:
        if self.nodes.get(root.node.node_name) is root.node:
            return
        backing = root.node.backing
        if backing is not None:
            root.node.backing = None
        root.close()
        if backing is not None:
            self._drop(backing)


def _everything(root: BlockDevice) -> Iterator[BlockDevice]:
    """A disk and all below it, what is no node included."""
    yield root
    for _, child in list(root.children()):
        yield from _everything(child)


def walk(root: BlockDevice) -> Iterator[BlockDevice]:
    """A node and those below it."""
    yield root.node
    for _, child in root.node.children():
        yield from walk(child)
