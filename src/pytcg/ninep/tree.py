"""Names that clients hold: a tree, so that what is renamed takes all below it along."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary


class Node:
    """A name in a folder; it lives as long as someone holds it, or something below it."""

    __slots__ = ("__weakref__", "children", "gone", "name", "parent")

    def __init__(self, parent: Node | None, name: bytes) -> None:
        self.parent = parent
        self.name = name
        self.gone = False  # unlinked, or replaced by what was renamed to its place
        self.children: WeakValueDictionary[bytes, Node] = WeakValueDictionary()

    def child(self, name: bytes) -> Node:
        """The node of a name in this folder."""
        found = self.children.get(name)
        if found is None:
            found = self.children[name] = Node(self, name)
        return found

    @property
    def path(self) -> bytes:
        """Names joined by "/"; OSError when it is no more."""
        names = []
        node = self
        while node.parent is not None:
            if node.gone:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            names.append(node.name)
            node = node.parent
        names.reverse()
        return b"/".join(names)

    @property
    def known_path(self) -> bytes | None:
        """The path, None when it is no more."""
        try:
            return self.path
        except OSError:
            return None

    def remove(self, name: bytes) -> None:
        """A name of this folder is no more."""
        found = self.children.pop(name, None)
        if found is not None:
            found.gone = True

    def move(self, name: bytes, folder: Node, new: bytes) -> None:
        """A name of this folder is now ``new`` in another."""
        if self is folder and name == new:
            return
        folder.remove(new)
        found = self.children.pop(name, None)
        if found is not None:
            found.parent, found.name = folder, new
            folder.children[new] = found


def join(folder: bytes, name: bytes) -> bytes:
    """A name's path in a folder."""
    return folder + b"/" + name if folder else name


class TreeLock:
    """Many use paths at a time, who renames is alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._waiting = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Paths stay as they are."""
        with self._changed:
            while self._alone or self._waiting:
                self._changed.wait()
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                if not self._users and self._waiting:
                    self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else uses a path."""
        with self._changed:
            self._waiting += 1
            while self._alone or self._users:
                self._changed.wait()
            self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
