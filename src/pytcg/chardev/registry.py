"""The machine's character devices by their ids, each for one front-end, or several on a mux.

A front-end takes a chardev, sets the listeners that it wants (`on_room`, `on_open`, `on_close`,
`on_focus`), and connects: from then on its `receive` is called, and `on_open` as soon as there is a
peer, which may be before `connect` returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pytcg.chardev.backends import Values, make_chardev
from pytcg.chardev.base import Chardev, ChardevError, Context, Frontend, do_nothing
from pytcg.chardev.mux import MuxChardev
from pytcg.chardev.spec import open_chardev

OWN_ID = "chardev:"


class Chardevs:
    """All of them; `close` closes them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._by_id: dict[str, Chardev] = {}
        self._taken: set[str] = set()

    def create(self, kind: str, name: str, values: Values) -> Chardev:
        """Make one with an id (`-chardev`, `chardev-add`); ChardevError."""
        if name in self._by_id:
            raise ChardevError(f"Duplicate ID '{name}' for chardev")
        if kind == "mux":
            made: Chardev = self._mux_over(name, values)
        else:
            made = make_chardev(kind, name, values)
        self._by_id[name] = made
        return made

    def _mux_over(self, name: str, values: Values) -> MuxChardev:
        if "chardev" not in values:
            raise ChardevError("chardev: mux: no chardev given")
        inner = self.take(values["chardev"])
        kept = inner.label
        mux = MuxChardev(inner)
        mux.label, inner.label = name, kept
        return mux

    def open(self, spec: str, label: str) -> Chardev | None:
        """What `-serial` and its like name, taken: an id (`chardev:ID`), or a short form.

        ``label`` becomes the id of what a short form makes; `none` is no device at all.
        """
        if spec == "none":
            return None
        if spec.startswith(OWN_ID):
            return self.take(spec.removeprefix(OWN_ID))
        self._by_id[label] = open_chardev(spec, label)
        return self.take(label)

    def find(self, name: str) -> Chardev:
        """By id; ChardevError."""
        if name not in self._by_id:
            raise ChardevError(f"can't find value '{name}'")
        return self._by_id[name]

    def take(self, name: str) -> Chardev:
        """A place for one front-end; ChardevError if there is none free."""
        found = self.find(name)
        if name not in self._taken:
            self._taken.add(name)
            return found
        if isinstance(found, MuxChardev):
            return found.port()
        raise ChardevError(f"can't take value '{name}': Device '{name}' is in use")

    def connect(self, chardev: Chardev, frontend: Frontend | None) -> None:
        """Begin to move bytes; without a front-end, output only."""
        with self.context.lock:
            chardev.frontend, chardev.frontend_open = frontend, True
            chardev.start(self.context, frontend)

    def release(self, chardev: object) -> None:
        """Its front-end is gone: another one may take it."""
        for name, each in self._by_id.items():
            if each is chardev:
                self._taken.discard(name)
                each.frontend, each.frontend_open = None, False
                each.on_open = each.on_close = each.on_room = do_nothing

    def remove(self, name: str) -> None:
        """Close one that nobody uses; ChardevError."""
        if name not in self._by_id:
            raise ChardevError(f"Chardev '{name}' not found")
        if name in self._taken:
            raise ChardevError(f"Chardev '{name}' is busy")
        with self.context.lock:
            self._by_id.pop(name).close()

    def __iter__(self) -> Iterator[Chardev]:
        """Every one, those under a mux too."""
        for chardev in list(self._by_id.values()):
            yield chardev
            if isinstance(chardev, MuxChardev) and chardev.inner.label not in self._by_id:
                yield chardev.inner

    def close(self) -> None:
        """Close them all."""
        for chardev in self._by_id.values():
            with suppress(OSError):
                chardev.close()
