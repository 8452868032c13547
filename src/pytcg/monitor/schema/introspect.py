"""The schema that `query-qmp-schema` tells: made of the declared types, commands and events.

Types are named by number, as QEMU does, so that nobody comes to rely on their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from pytcg.monitor.schema.types import TYPES, Alternate, Builtin, Enum, Member, Struct, Type


class Described(Protocol):
    """A command, as far as the schema tells."""

    @property
    def name(self) -> str: ...

    @property
    def members(self) -> tuple[Member, ...]: ...

    @property
    def boxed(self) -> str | None: ...

    @property
    def returns(self) -> str | None: ...

    @property
    def oob(self) -> bool: ...


class Schema:
    """One telling of it: types are numbered as they are first met."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._named: dict[str, str] = {}
        self._shapes: dict[tuple[Member, ...], str] = {}

    def tell(self, commands: Iterable[Described], events: Mapping[str, tuple[Member, ...]]
             ) -> list[dict[str, Any]]:
        """Every entry: commands, events, and the types that they use."""
        for command in commands:
            entry = {"name": command.name, "meta-type": "command",
                     "arg-type": (self._name(command.boxed) if command.boxed is not None
                                  else self._object(command.members)),
                     "ret-type": (self._name(command.returns) if command.returns is not None
                                  else self._object(()))}  # fmt: skip
            self._entries.append(entry | ({"allow-oob": True} if command.oob else {}))
        for name, members in events.items():
            self._entries.append({"name": name, "meta-type": "event",
                                  "arg-type": self._object(members)})  # fmt: skip
        return self._entries

    def _object(self, members: tuple[Member, ...]) -> str:
        """A type without a name: arguments."""
        if members not in self._shapes:
            self._shapes[members] = self._number()
            self._describe(self._shapes[members], Struct("", members))
        return self._shapes[members]

    def _number(self) -> str:
        return str(len(self._shapes) + sum(name[0] != "[" for name in self._named))

    def _name(self, name: str) -> str:
        """How a type is called in the schema; it is described when first asked for."""
        if name in self._named:
            return self._named[name]
        if name.startswith("["):
            element = self._name(name[1:-1])
            shown = f"[{element}]"
            known = shown in self._named.values()
            self._named[name] = shown
            if not known:
                self._entries.append({"name": shown, "meta-type": "array",
                                      "element-type": element})  # fmt: skip
            return shown
        kind = TYPES[name]
        if isinstance(kind, Builtin):
            return self._builtin(kind)
        self._named[name] = shown = self._number()
        self._describe(shown, kind)
        return shown

    def _builtin(self, kind: Builtin) -> str:
        shown = kind.shown or kind.name
        known = shown in self._named.values()
        self._named[kind.name] = shown
        if not known:
            self._entries.append({"name": shown, "meta-type": "builtin",
                                  "json-type": kind.json_type})  # fmt: skip
        return shown

    def _describe(self, shown: str, kind: Type) -> None:
        entry: dict[str, Any] = {"name": shown}
        self._entries.append(entry)
        if isinstance(kind, Enum):
            entry |= {"meta-type": "enum", "members": [{"name": value} for value in kind.values],
                      "values": list(kind.values)}  # fmt: skip
        elif isinstance(kind, Alternate):
            entry |= {"meta-type": "alternate",
                      "members": [{"type": self._name(branch)} for branch in kind.branches]}
        elif isinstance(kind, Struct):
            entry |= {"meta-type": "object", "members": list(map(self._member, kind.members))}
            if kind.tag is not None:
                entry |= {"tag": kind.tag, "variants": [
                    {"case": case, "type": self._name(variant)}
                    for case, variant in kind.variants.items()]}  # fmt: skip

    def _member(self, member: Member) -> dict[str, Any]:
        told: dict[str, Any] = {"name": member.name, "type": self._name(member.type)}
        return told | {"default": None} if member.optional else told
