"""Values against types: what is wrong is said in QEMU's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pytcg.monitor.schema.types import TYPES, Alternate, Builtin, Enum, Member, Struct, Type

_EXPECTED: Final[dict[str, tuple[str, Callable[[Any], bool]]]] = {
    "string": ("string", lambda value: isinstance(value, str)),
    "boolean": ("boolean", lambda value: isinstance(value, bool)),
    "int": ("integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "number": ("number", lambda value: isinstance(value, int | float)
               and not isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
    "value": ("", lambda value: True),
}  # fmt: skip


class Mismatch(Exception):
    """A value that is not of its type; the text is the protocol's error."""


def check_members(given: dict[str, Any], members: tuple[Member, ...], *, more: bool = False
                  ) -> None:  # fmt: skip
    """An object of arguments, which may have ``more`` than are declared; Mismatch."""
    kind = Struct("", members)
    if more:
        _check_known(given, kind, "")
    else:
        _check_object(given, kind, "")


def check(value: Any, name: str, path: str = "") -> None:
    """A value against a type's name; ``path`` leads to it."""
    if name.startswith("["):
        _check_array(value, name[1:-1], path)
        return
    kind = TYPES[name]
    if isinstance(kind, Builtin):
        _check_builtin(value, kind, path)
    elif isinstance(kind, Enum):
        _require(isinstance(value, str), path, "string")
        if value not in kind.values:
            raise Mismatch(f"Parameter '{_last(path)}' does not accept value '{value}'")
    elif isinstance(kind, Alternate):
        _check_alternate(value, kind, path)
    else:
        _require(isinstance(value, dict), path, "object")
        _check_object(value, kind, path)


def _require(right: bool, path: str, expected: str) -> None:
    if not right:
        raise Mismatch(f"Invalid parameter type for '{path}', expected: {expected}")


def _last(path: str) -> str:
    """QEMU names an array's elements, and what has no name, null."""
    name = path.rpartition(".")[2]
    return "null" if name.endswith("]") else name


def _check_builtin(value: Any, kind: Builtin, path: str) -> None:
    expected, fits = _EXPECTED[kind.json_type]
    _require(fits(value), path, expected)
    if kind.low is None or kind.high is None or kind.low <= value <= kind.high:
        return
    if kind.name in ("int", "size", "int64", "uint64"):
        raise Mismatch(f"Invalid parameter type for '{path}', expected: integer")
    raise Mismatch(f"Parameter '{_last(path)}' expects {kind.name}_t")


def _check_array(value: Any, element: str, path: str) -> None:
    _require(isinstance(value, list), path, "array")
    for index, each in enumerate(value):
        check(each, element, f"{path}[{index}]")


def _check_object(value: dict[str, Any], kind: Struct, path: str) -> None:
    known = _check_known(value, kind, path)
    for name in value:
        if name not in known:
            raise Mismatch(f"Parameter '{_join(path, name)}' is unexpected")


def _check_known(value: dict[str, Any], kind: Struct, path: str) -> set[str]:
    """The members that there may be; their values are right."""
    known = set()
    for member in kind.members:
        known.add(member.name)
        full = _join(path, member.name)
        if member.name in value:
            check(value[member.name], member.type, full)
        elif not member.optional:
            raise Mismatch(f"Parameter '{full}' is missing")
    variant = kind.variants.get(str(value.get(kind.tag))) if kind.tag is not None else None
    if variant is not None:
        further = TYPES[variant]
        assert isinstance(further, Struct)
        known |= _check_known(value, further, path)
    return known


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _check_alternate(value: Any, kind: Alternate, path: str) -> None:
    for branch in kind.branches:
        if _is_like(value, TYPES[branch]):
            check(value, branch, path)
            return
    raise Mismatch(f"Invalid parameter type for '{_last(path)}', expected: {kind.name}")


def _is_like(value: Any, kind: Type) -> bool:
    if isinstance(kind, Builtin):
        return _EXPECTED[kind.json_type][1](value)
    return isinstance(value, str if isinstance(kind, Enum) else dict)
