"""The tree of objects, as far as clients walk it: devices with ids, the processor, backends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from pytcg.block.device import BlockError
from pytcg.machine.devices.table import BY_NAME
from pytcg.machine.objects import KINDS, ObjectError, Objects, UserObject, iothread_numbers
from pytcg.monitor.command import CLASS_NO_DEVICE, Command, CommandError, option_text
from pytcg.monitor.probing import CPU_TYPE, KINDS_OF_VALUE
from pytcg.monitor.schema.types import enum
from pytcg.tls.errors import TlsError

if TYPE_CHECKING:
    from pytcg.block.filters.throttle import ThrottleGroup
    from pytcg.monitor.machine import Machine

enum("ObjectType", " ".join(KINDS))
CPU_PATH: Final = "/machine/unattached/device[0]"
Row = tuple[str, Any]
"""A property: its type and its value; a child's value is its path."""


def _child(kind: str) -> Row:
    return f"child<{kind}>", None


def _nodes(machine: Machine) -> dict[str, dict[str, Row]]:
    """Every object's properties, by its path."""
    rack = machine.rack
    objects = list(rack.objects) if rack is not None else []
    named = {each.id: each for each in rack.plugged if each.id} if rack is not None else {}
    cpu = f"{machine.cpu_model.partition(',')[0]}{CPU_TYPE}"
    nodes: dict[str, dict[str, Row]] = {
        "/": {"machine": _child("machine"), "objects": _child("container")},
        "/machine": {"peripheral": _child("container"), "unattached": _child("container")},
        "/machine/peripheral": {name: _child(each.name) for name, each in named.items()},
        "/machine/unattached": {"device[0]": _child(cpu)},
        "/objects": {name: _child(each.kind) for name, each in objects},
        CPU_PATH: {"type": ("string", cpu), "realized": ("bool", True),
                   "socket-id": ("int", 0), "core-id": ("int", 0), "thread-id": ("int", 0)},
    }  # fmt: skip
    for name, made in objects:
        nodes[f"/objects/{name}"] = {"type": ("string", made.kind), **{
            key: ("string", value) for key, value in made.values.items()
            if key not in ("qom-type", "id", "data")}}  # fmt: skip
        if made.kind == "throttle-group":
            nodes[f"/objects/{name}"]["limits"] = "ThrottleLimits", _group(made).limits.told()
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


def _group(made: UserObject) -> ThrottleGroup:
    from pytcg.block.filters.throttle import ThrottleGroup

    assert isinstance(made.thing, ThrottleGroup)
    return made.thing


def _set_limits(group: ThrottleGroup, value: Any) -> None:
    """Those that are named; CommandError, and nothing changes."""
    from pytcg.block.filters.throttle import Limits

    if not isinstance(value, dict) or not all(type(each) is int for each in value.values()):
        raise CommandError("Invalid parameter type for 'limits', expected: object")
    try:
        group.set(Limits.parse(group.limits.told() | value))
    except BlockError as error:
        raise CommandError(str(error)) from None


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
    """qom-set: what a device was made with stays; a throttle group's limits may change."""
    get_property(machine, path, property)
    made = _objects(machine).get(path.rpartition("/")[2])
    if made is not None and made.kind == "throttle-group" and property == "limits":
        _set_limits(_group(made), value)
        return
    raise CommandError(f"Attempt to set property '{property}' on device after it was realized")


def _objects(machine: Machine) -> Objects:
    assert machine.rack is not None
    return machine.rack.objects


def add_object(machine: Machine, given: dict[str, Any]) -> Any:
    """object-add."""
    from pytcg.machine.memory_backend import BackendError

    values: dict[str, str] = {}
    for key, value in given.items():
        inner = {f"{key}.{name}": each for name, each in value.items()} if isinstance(
            value, dict) else {key: value}  # fmt: skip
        values |= {name: option_text(each) for name, each in inner.items()}
    try:
        _objects(machine).create(values)
    except (ObjectError, BackendError, TlsError, BlockError) as error:
        raise CommandError(str(error)) from None


def remove_object(machine: Machine, id: str) -> Any:
    """object-del."""
    try:
        _objects(machine).delete(id)
    except ObjectError as error:
        raise CommandError(str(error)) from None


def query_iothreads(machine: Machine) -> Any:
    """query-iothreads: each is the main loop's thread."""
    return [{"id": name, "thread-id": os.getpid(), **iothread_numbers(made.values)}
            for name, made in _objects(machine) if made.kind == "iothread"]  # fmt: skip


def query_memdev(machine: Machine) -> Any:
    """query-memdev: memory backends, and the machine's own memory."""
    rows = [{"id": name, "size": int(made.values["size"]), "share": made.values["share"] == "on"}
            for name, made in _objects(machine) if made.kind.startswith("memory")]  # fmt: skip
    rows.append({"id": "pc.ram", "size": machine.board.config.ram_size, "share": False})
    return [row | {"merge": True, "dump": True, "prealloc": False, "reserve": False,
                   "host-nodes": [], "policy": "default"} for row in rows]  # fmt: skip


COMMANDS: Final = (
    Command("object-add", add_object, "qom-type: ObjectType, id: str", more=True),
    Command("object-del", remove_object, "id: str"),
    Command("query-iothreads", query_iothreads, returns="[IOThreadInfo]"),
    Command("query-memdev", query_memdev, returns="[Memdev]"),
    Command("qom-list", list_object, "path: str", "[ObjectPropertyInfo]"),
    Command("qom-get", get_property, "path: str, property: str", "any"),
    Command("qom-set", set_property, "path: str, property: str, value: any"),
)
