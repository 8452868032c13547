"""The tree of objects, as far as clients walk it: devices with ids, the processor, backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytcg.machine.devices.table import BY_NAME
from pytcg.monitor.command import CLASS_NO_DEVICE, Command, CommandError
from pytcg.monitor.probing import CPU_TYPE, KINDS_OF_VALUE

if TYPE_CHECKING:
    from pytcg.monitor.machine import Machine

CPU_PATH: Final = "/machine/unattached/device[0]"
Row = tuple[str, Any]
"""A property: its type and its value; a child's value is its path."""


def _child(kind: str) -> Row:
    return f"child<{kind}>", None


def _nodes(machine: Machine) -> dict[str, dict[str, Row]]:
    """Every object's properties, by its path."""
    rack = machine.rack
    named = {each.id: each for each in rack.plugged if each.id} if rack is not None else {}
    backends = rack.backends if rack is not None else {}
    cpu = f"{machine.cpu_model.partition(',')[0]}{CPU_TYPE}"
    nodes: dict[str, dict[str, Row]] = {
        "/": {"machine": _child("machine"), "objects": _child("container")},
        "/machine": {"peripheral": _child("container"), "unattached": _child("container")},
        "/machine/peripheral": {name: _child(each.name) for name, each in named.items()},
        "/machine/unattached": {"device[0]": _child(cpu)},
        "/objects": {name: _child(type(backend).__name__) for name, backend in backends.items()},
        CPU_PATH: {"type": ("string", cpu), "realized": ("bool", True),
                   "socket-id": ("int", 0), "core-id": ("int", 0), "thread-id": ("int", 0)},
    }  # fmt: skip
    for name, each in named.items():
        nodes[f"/machine/peripheral/{name}"] = {"type": ("string", each.name), **{
            row.name: (KINDS_OF_VALUE.get(row.kind, row.kind), each.values.get(row.name))
            for row in BY_NAME[each.name].properties}}  # fmt: skip
    return nodes


def _find(machine: Machine, path: str) -> dict[str, Row]:
    nodes = _nodes(machine)
    full = path.rstrip("/") or "/"
    if not full.startswith("/"):  # a partial path, unambiguous
        found = [each for each in nodes if each.endswith(f"/{full}")]
        full = found[0] if len(found) == 1 else full
    if full not in nodes:
        raise CommandError(f"Device '{path}' not found", CLASS_NO_DEVICE)
    return nodes[full]


def list_object(machine: Machine, path: str) -> Any:
    """qom-list."""
    return [{"name": name, "type": kind} for name, (kind, _) in _find(machine, path).items()]


def get_property(machine: Machine, path: str, property: str) -> Any:
    """qom-get: one that is not set reads as its type's nothing."""
    rows = _find(machine, path)
    if property not in rows:
        kind = rows.get("type", ("", "container"))[1]
        raise CommandError(f"Property '{kind}.{property}' not found")
    shown, value = rows[property]
    if shown.startswith("child<"):
        return f"{path.rstrip('/')}/{property}"
    if isinstance(value, tuple):  # a slot and a function, as one number
        return value[0] << 3 | value[1]
    if value is None:
        return "auto" if shown == "OnOffAuto" else "" if shown in ("str", "string") else -1
    return value


def set_property(machine: Machine, path: str, property: str, value: Any) -> Any:
    """qom-set: what a device was made with stays."""
    get_property(machine, path, property)
    del value
    raise CommandError(f"Attempt to set property '{property}' on device after it was realized")


COMMANDS: Final = (
    Command("qom-list", list_object, "path: str", "[ObjectPropertyInfo]"),
    Command("qom-get", get_property, "path: str, property: str", "any"),
    Command("qom-set", set_property, "path: str, property: str, value: any"),
)
